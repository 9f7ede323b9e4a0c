package main

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/yannh/kubeconform/pkg/validator"
	"gopkg.in/yaml.v3"

	"github.com/kpush/kpush/config"
)

// workload is what the files in deploy say of kpush: a Deployment, a StatefulSet, a patch for one, or a thing without a pod.
type workload struct {
	Kind string
	Spec struct {
		Template struct {
			Spec struct {
				EnableServiceLinks            *bool
				TerminationGracePeriodSeconds int
				SecurityContext               struct{ FSGroup int }
				InitContainers                []sidecar
				Volumes                       []struct {
					Name     string
					EmptyDir map[string]any
				}
			}
		}
		VolumeClaimTemplates []struct{ Metadata struct{ Name string } }
	}
}

// sidecar is the container.
type sidecar struct {
	Name, RestartPolicy string
	Env                 []struct {
		Name, Value string
		ValueFrom   map[string]any
	}
	EnvFrom []map[string]any
	Ports   []struct {
		Name          string
		ContainerPort int
	}
	StartupProbe                  map[string]any
	LivenessProbe, ReadinessProbe struct{ HTTPGet struct{ Path, Port string } }
	Resources                     struct{ Requests, Limits struct{ Memory string } }
	SecurityContext               map[string]any
	VolumeMounts                  []struct{ Name, MountPath string }
}

// workloads are those of a file that have a sidecar.
func workloads(t *testing.T, file string) (all []workload) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var raw any
		if err := decoder.Decode(&raw); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		var w workload
		if whole, err := json.Marshal(raw); err != nil {
			t.Fatalf("%s: %v", file, err)
		} else if err := json.Unmarshal(whole, &w); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if len(w.Spec.Template.Spec.InitContainers) > 0 {
			all = append(all, w)
		}
	}
}

// Kubernetes 1.29 and KEDA take what is in deploy: no field that they do not know, none of another type, none missing.
func TestDeployIsValid(t *testing.T) {
	v := conform(t)
	for file, want := range map[string]int{"deploy/kubernetes.yaml": 3, "deploy/keda.yaml": 1, "deploy/kustomize/shop.yaml": 1} {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		results := v.Validate(file, f)
		for _, r := range results {
			if r.Status != validator.Valid {
				t.Errorf("%s: %v", file, r.Err)
			}
		}
		if len(results) != want {
			t.Errorf("%s: %d documents are looked at, want %d", file, len(results), want)
		}
	}
}

func conform(t *testing.T) validator.Validator {
	t.Helper()
	v, err := validator.New([]string{"testdata/schemas/{{.ResourceKind}}{{.KindSuffix}}.json"}, validator.Opts{Strict: true, KubernetesVersion: "1.29.0"})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The schemas refuse what a cluster would.
func TestDeployIsRefused(t *testing.T) {
	v := conform(t)
	for _, row := range []struct{ file, was, is string }{
		{"kubernetes.yaml", "restartPolicy: Always", "restartPolice: Always"},
		{"kubernetes.yaml", "replicas: 2", "replicas: two"},
		{"kubernetes.yaml", "containerPort: 9400", "port: 9400"},
		{"kubernetes.yaml", "runAsNonRoot: true", "runAsNonRoot: 1"},
		{"kubernetes.yaml", "capabilities: {drop: [ALL]}", "capabilities: {drop: ALL}"},
		{"kubernetes.yaml", "serviceName: billing", "service: billing"},
		{"kubernetes.yaml", "{fieldPath: metadata.name}", "{path: metadata.name}"},
		{"kubernetes.yaml", "  selector:\n    matchLabels: {app: shop}\n", ""},
		{"kubernetes.yaml", "{name: KPUSH_PORT, value: \"8080\"}", "{name: KPUSH_PORT, value: 8080}"},
		{"keda.yaml", "minReplicaCount: 1", "minReplicas: 1"},
		{"keda.yaml", "lagThreshold: \"1000\"", "lagThreshold: 1000"},
		{"keda.yaml", "scaleTargetRef: {kind: Deployment, name: shop}", "scaleTargetRef: {kind: Deployment}"},
	} {
		text, err := os.ReadFile(filepath.Join("deploy", row.file))
		if err != nil {
			t.Fatal(err)
		}
		wrong := strings.Replace(string(text), row.was, row.is, 1)
		results := v.Validate(row.file, io.NopCloser(strings.NewReader(wrong)))
		if wrong == string(text) || !slices.ContainsFunc(results, func(r validator.Result) bool { return r.Status == validator.Invalid }) {
			t.Errorf("%s with %q for %q is taken", row.file, row.is, row.was)
		}
	}
}

// What stands in a pod is what kpush needs there: a start takes its variables, and the limits are those that -check plans with.
func TestDeployFitsKpush(t *testing.T) {
	all := slices.Concat(workloads(t, "deploy/kubernetes.yaml"), workloads(t, "deploy/kustomize/sidecar/sidecar.yaml"))
	if len(all) != 3 {
		t.Fatalf("%d workloads have a sidecar", len(all))
	}
	for _, w := range all {
		p, c := w.Spec.Template.Spec, w.Spec.Template.Spec.InitContainers[0]
		cfg := c.config(t)
		if limit, planned := bytesOf(t, c.Resources.Limits.Memory), memory(cfg)+publishMemory(cfg); limit < planned {
			t.Errorf("%s: a limit of %s, and -check says %d MiB", w.Kind, c.Resources.Limits.Memory, planned>>20)
		}
		if request := bytesOf(t, c.Resources.Requests.Memory); request < memory(cfg) {
			t.Errorf("%s: %s are requested, and -check says %d MiB", w.Kind, c.Resources.Requests.Memory, memory(cfg)>>20)
		}
		if grace := time.Duration(p.TerminationGracePeriodSeconds) * time.Second; grace < cfg.DrainTimeout+30*time.Second {
			t.Errorf("%s: %v for KPUSH_DRAIN_TIMEOUT=%v and the service's own end", w.Kind, grace, cfg.DrainTimeout)
		}
		if c.RestartPolicy != "Always" || c.StartupProbe != nil || p.EnableServiceLinks == nil || *p.EnableServiceLinks {
			t.Errorf("%s: %+v is no sidecar", w.Kind, c)
		}
		if len(c.Ports) != 1 || !strings.HasSuffix(cfg.HealthAddr, ":"+strconv.Itoa(c.Ports[0].ContainerPort)) ||
			c.LivenessProbe.HTTPGet != struct{ Path, Port string }{"/healthz", c.Ports[0].Name} || c.ReadinessProbe.HTTPGet != struct{ Path, Port string }{"/readyz", c.Ports[0].Name} {
			t.Errorf("%s: ports %v, probes %v and %v", w.Kind, c.Ports, c.LivenessProbe, c.ReadinessProbe)
		}
		if want := map[string]any{"runAsNonRoot": true, "runAsUser": 65532.0, "runAsGroup": 65532.0, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
			"capabilities": map[string]any{"drop": []any{"ALL"}}, "seccompProfile": map[string]any{"type": "RuntimeDefault"}}; !reflect.DeepEqual(c.SecurityContext, want) || p.SecurityContext.FSGroup != 65532 {
			t.Errorf("%s may do more than it needs: %v", w.Kind, c.SecurityContext)
		}
		volume, claims := c.VolumeMounts[0].Name, w.Spec.VolumeClaimTemplates
		emptyDir := len(p.Volumes) == 1 && p.Volumes[0].Name == volume && p.Volumes[0].EmptyDir != nil
		claim := len(claims) == 1 && claims[0].Metadata.Name == volume
		if len(c.VolumeMounts) != 1 || c.VolumeMounts[0].MountPath != cfg.OffsetsDir || emptyDir == claim || claim != (cfg.InstanceID != "") {
			t.Errorf("%s: volume %v, KPUSH_INSTANCE_ID=%s", w.Kind, c.VolumeMounts, cfg.InstanceID)
		}
	}
	// a component is the Deployment's sidecar with other variables
	all[2].Spec.Template.Spec.InitContainers[0].EnvFrom = nil
	all[2].Spec.Template.Spec.InitContainers[0].Env = all[0].Spec.Template.Spec.InitContainers[0].Env
	if !reflect.DeepEqual(all[0], all[2]) {
		t.Errorf("deploy/kustomize/sidecar/sidecar.yaml is not what deploy/kubernetes.yaml has:\n%+v\n%+v", all[2], all[0])
	}
}

// config is what a start makes of the container's variables; what Kubernetes fills in is some name.
func (c sidecar) config(t *testing.T) *config.Config {
	t.Helper()
	environ := map[string]string{"KPUSH_BROKERS": "kafka:9092", "KPUSH_TOPIC": "orders", "KPUSH_GROUP": "shop"}
	for _, v := range c.Env {
		environ[v.Name] = v.Value
		if v.ValueFrom != nil {
			environ[v.Name] = "billing-0"
		}
	}
	var vars []string
	for name := range maps.Keys(environ) {
		vars = append(vars, name+"="+environ[name])
	}
	cfg, err := config.Load(vars)
	if err != nil {
		t.Fatal(err)
	}
	if idle := cfg.Idle(); len(idle) > 0 {
		t.Errorf("of no effect: %v", idle)
	}
	return cfg
}

func bytesOf(t *testing.T, quantity string) int64 {
	t.Helper()
	number, ok := strings.CutSuffix(quantity, "Mi")
	n, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil {
		t.Fatalf("%q is no memory in Mi", quantity)
	}
	return n << 20
}

// KEDA's numbers are texts that the schema does not know. Those here are of its scaler for Kafka, and agree with what the Deployment's sidecar does.
func TestKEDAScalesWhatKpushCommits(t *testing.T) {
	text, err := os.ReadFile("deploy/keda.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var scaled struct {
		Spec struct {
			MinReplicaCount int `yaml:"minReplicaCount"`
			MaxReplicaCount int `yaml:"maxReplicaCount"`
			Triggers        []struct {
				Type     string
				Metadata map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &scaled); err != nil {
		t.Fatal(err)
	}
	c := workloads(t, "deploy/kubernetes.yaml")[0].Spec.Template.Spec.InitContainers[0].config(t)
	trigger := scaled.Spec.Triggers[0]
	want := map[string]string{"bootstrapServers": strings.Join(c.Brokers, ","), "consumerGroup": c.Group, "topic": strings.Join(c.Topics, ","),
		"lagThreshold": "1000", "offsetResetPolicy": c.AutoOffsetReset, "excludePersistentLag": "true"}
	if trigger.Type != "kafka" || !maps.Equal(trigger.Metadata, want) || len(scaled.Spec.Triggers) != 1 || scaled.Spec.MinReplicaCount < 1 || scaled.Spec.MaxReplicaCount < 2 {
		t.Errorf("%+v, want %v", scaled.Spec, want)
	}
}
