package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestTheQuickStart is README's: its service, and kpush with its variables. Only addresses and names are the test's own.
func TestTheQuickStart(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(language string) string {
		found := regexp.MustCompile("(?ms)^```" + language + "\n(.*?)^```$").FindSubmatch(text)
		if found == nil {
			t.Fatalf("README has no block of %s.", language)
		}
		return string(found[1])
	}
	k, port, dir := kafka(t), rig.Port(t), t.TempDir()
	topic := k.Topic(t, 2)
	script := strings.ReplaceAll(block("python"), "8080", fmt.Sprint(port))
	if err := os.WriteFile(filepath.Join(dir, "service.py"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	said, err := os.Create(filepath.Join(dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	svc := exec.CommandContext(t.Context(), python, filepath.Join(dir, "service.py"))
	svc.Stdout, svc.Stderr = said, said
	if err := svc.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = svc.Process.Kill(); _ = svc.Wait() }()
	own := map[string]string{"KPUSH_BROKERS": k.Brokers, "KPUSH_TOPIC": topic, "KPUSH_GROUP": topic, "KPUSH_PORT": fmt.Sprint(port), "KPUSH_OFFSETS_DIR": dir}
	var env []string
	for _, name := range regexp.MustCompile(`(KPUSH_[A-Z_]+)=`).FindAllStringSubmatch(block("sh"), -1) {
		if own[name[1]] == "" {
			t.Fatalf("README sets %s, of which this story knows nothing.", name[1])
		}
		env = append(env, name[1]+"="+own[name[1]])
	}
	k.Produce(t, topic, rig.Record{Partition: 1, Key: []byte("customer-17"), Value: []byte("Grüße")})
	sc := rig.StartSidecar(t, env...)
	prints := func(want, words string) {
		rig.Within(t, patience, "the service's line", func() bool {
			text, _ := os.ReadFile(said.Name())
			return strings.Contains(string(text), want) && strings.Contains(string(text), words)
		})
	}
	prints(topic+"/1/0/", " customer-17 Grüße\n")
	curl := regexp.MustCompile(`curl -d '(.*)' '127.0.0.1:9401/topics/orders(\?.*)'`).FindSubmatch(text)
	if code, answer, err := publish(sc, topic+string(curl[2]), string(curl[1])); code != 200 {
		t.Errorf("What README publishes is answered %d %v %v", code, answer, err)
	}
	prints(topic+"/", " customer-17 "+string(curl[1])+"\n")
	if code, out := sc.Run(t, "-check"); code != 0 {
		t.Errorf("-check ends with %d: %s", code, out)
	}
	for _, line := range []string{"kpush starts", "partition starts"} {
		if !strings.Contains(sc.Tail(50), line) {
			t.Errorf("The log does not say %q:\n%s", line, sc.Tail(50))
		}
	}
	sc.Shut(t, 10*time.Second)
}
