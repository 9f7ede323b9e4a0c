package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestComposeSurvivesItsParts brings docker-compose.yml up as it is and restarts, kills and replaces its parts: the PHP
// service's own log shows each order once and in order. It needs a container engine and is named where there is none.
func TestComposeSurvivesItsParts(t *testing.T) {
	c := composeUp(t)
	c.wantOrders("the first orders", 20)
	c.wantHardened()

	for _, step := range []struct {
		what string
		do   func()
	}{
		{"docker restart app", func() { c.docker("restart", c.name("app")) }},
		{"docker kill app, 12 s, docker start app", func() {
			c.docker("kill", c.name("app"))
			rig.Throughout(t, 12*time.Second, c.healthy)
			c.docker("start", c.name("app"))
		}},
		{"up --force-recreate app", func() { c.compose("up", "-d", "--no-deps", "--force-recreate", "app") }},
	} {
		started := c.inspect("kpush", "{{.State.StartedAt}}")
		step.do()
		took := c.wantOrders("orders after "+step.what, 5)
		if now := c.inspect("kpush", "{{.State.StartedAt}}"); now != started {
			t.Errorf("%s: kpush was started again at %s; nobody should have touched it.", step.what, now)
		}
		t.Logf("%s: 5 more orders %v after it.", step.what, took.Round(10*time.Millisecond))
	}

	c.docker("restart", "--time", "1", c.name("pod")) // the network that kpush and app are in is dead for ever
	c.docker("restart", "--time", "1", c.name("app"))
	took := rig.Within(t, 10*time.Second, "a health check that names the dead network", func() bool {
		out, err := docker(t, "exec", c.name("kpush"), "/bin/kpush", "-healthz")
		return err != nil && strings.Contains(out, "only the loopback interface left")
	})
	ended := rig.Within(t, 30*time.Second, "kpush's own end and restart in the new network", func() bool { return c.healthy() == nil })
	c.wantOrders("orders in the new network", 5)
	t.Logf("a network that dies: kpush says so within %v, is in the new one %v later.", took.Round(100*time.Millisecond), ended.Round(100*time.Millisecond))

	c.wantEachOnceInOrder()
	begin := time.Now()
	c.docker("stop", c.name("kpush"))
	below(t, "docker stop of kpush", begin, time.Since(begin), 5*time.Second)
	if code := c.inspect("kpush", "{{.State.ExitCode}}"); code != "0" {
		t.Errorf("kpush ended with exit code %s after docker stop.", code)
	}
}

// composed is a running copy of docker-compose.yml, a project of its own.
type composed struct {
	t       *testing.T
	project string
	files   []string
}

func composeUp(t *testing.T) *composed {
	t.Helper()
	if err := engine(t); err != nil {
		t.Skipf("NOT RUN for want of a container engine with compose and the images: %v", err)
	}
	c := &composed{t: t, project: fmt.Sprintf("kpush-e2e-%d", os.Getpid())}
	// an image name of its own: the one of whoever runs this stays what it is
	own := filepath.Join(t.TempDir(), "own.yml")
	if err := os.WriteFile(own, fmt.Appendf(nil, "services: {kpush: {image: %s}}\n", c.project), 0o644); err != nil {
		t.Fatal(err)
	}
	c.files = []string{"-f", filepath.Join("..", "docker-compose.yml"), "-f", own}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := docker(t, c.args("logs", "-t", "--no-color")...) // what there is of it
			_ = os.WriteFile(filepath.Join(t.ArtifactDir(), "compose.log"), []byte(log), 0o644)
		}
		_, down := docker(t, c.args("down", "--volumes", "--timeout", "1")...)
		_, image := docker(t, "image", "rm", c.project)
		if err := errors.Join(down, image); err != nil {
			t.Errorf("The compose project %s is not gone: %v", c.project, err)
		}
	})
	c.compose("up", "-d") // builds the image
	return c
}

var imageName = regexp.MustCompile(`(?m)^(?:FROM|\s+image:) ([^\s:]+:\S+)`)

// engine wants an engine, compose, and every image that the two files name, here or to be pulled.
func engine(t *testing.T) error {
	t.Helper()
	for _, needed := range [][]string{{"info"}, {"compose", "version"}} {
		if out, err := docker(t, needed...); err != nil {
			return fmt.Errorf("docker %s: %w %s", strings.Join(needed, " "), err, out)
		}
	}
	for _, file := range []string{"Dockerfile", "docker-compose.yml"} {
		text, err := os.ReadFile(filepath.Join("..", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range imageName.FindAllStringSubmatch(string(text), -1) {
			if _, err := docker(t, "image", "inspect", m[1]); err == nil {
				continue
			}
			if out, err := docker(t, "pull", "-q", m[1]); err != nil {
				return fmt.Errorf("docker pull %s: %w %s", m[1], err, out)
			}
		}
	}
	return nil
}

func (c *composed) args(args ...string) []string {
	return slices.Concat([]string{"compose", "-p", c.project}, c.files, args)
}

func (c *composed) name(service string) string { return c.project + "-" + service + "-1" }

func (c *composed) compose(args ...string) { c.t.Helper(); c.docker(c.args(args...)...) }

func (c *composed) docker(args ...string) string {
	c.t.Helper()
	out, err := docker(c.t, args...)
	if err != nil {
		c.t.Fatalf("docker %s failed: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (c *composed) inspect(service, format string) string {
	c.t.Helper()
	return c.docker("inspect", "-f", format, c.name(service))
}

// healthy asks kpush itself; Docker's own health status is up to 10 s old.
func (c *composed) healthy() error {
	if out, err := docker(c.t, "exec", c.name("kpush"), "/bin/kpush", "-healthz"); err != nil {
		return fmt.Errorf("kpush is not healthy: %w %s", err, out)
	}
	return nil
}

// wantHardened wants the container to be what the files promise.
func (c *composed) wantHardened() {
	c.t.Helper()
	for what, rule := range map[string]struct{ format, want string }{
		"user":                {"{{.Config.User}}", "65532:65532"},
		"root file system":    {"read-only {{.HostConfig.ReadonlyRootfs}}", "read-only true"},
		"dropped privileges":  {"{{.HostConfig.CapDrop}}", "[ALL]"},
		"health check":        {"{{.Config.Healthcheck.Test}}", "[CMD /bin/kpush -healthz]"},
		"restart policy":      {"{{.HostConfig.RestartPolicy.Name}}", "unless-stopped"},
		"new privileges":      {"{{.HostConfig.SecurityOpt}}", "[no-new-privileges:true]"},
		"restarts until here": {"{{.RestartCount}}", "0"},
	} {
		if got := c.inspect("kpush", rule.format); got != rule.want {
			c.t.Errorf("kpush's container: the %s is %q, not %q.", what, got, rule.want)
		}
	}
	size, err := strconv.Atoi(c.docker("image", "inspect", "-f", "{{.Size}}", c.project))
	if err != nil || size > 25e6 {
		c.t.Errorf("The image has %d bytes (%v), more than 25 MB.", size, err)
	}
	c.t.Logf("the image has %.1f MB.", float64(size)/1e6)
}

// order is a line of the PHP service's log.
type order struct {
	partition, offset int
	verdict           string
}

var orderLine = regexp.MustCompile(`(?m)^[\d:]+ orders/(\d+)/(\d+) .*  (.+)$`)

// orders is what the service has logged over all its containers; nothing while it is down.
func (c *composed) orders() (all []order) {
	log, err := docker(c.t, "exec", c.name("app"), "cat", "/data/orders.log")
	if err != nil {
		return nil
	}
	for _, m := range orderLine.FindAllStringSubmatch(log, -1) {
		p, _ := strconv.Atoi(m[1]) // digits, says the expression
		o, _ := strconv.Atoi(m[2])
		all = append(all, order{p, o, m[3]})
	}
	return all
}

// wantOrders waits for so many more lines.
func (c *composed) wantOrders(what string, more int) time.Duration {
	c.t.Helper()
	before := -1
	return rig.Within(c.t, patience, what, func() bool {
		now := len(c.orders())
		if before < 0 && now > 0 {
			before = now
		}
		return before >= 0 && now >= before+more
	})
}

// wantEachOnceInOrder ends the producer and holds the service's log against Kafka's end offsets.
func (c *composed) wantEachOnceInOrder() {
	c.t.Helper()
	c.docker("stop", "--time", "1", c.name("producer"))
	offsets := c.docker("exec", c.name("kafka"), "/opt/kafka/bin/kafka-get-offsets.sh", "--bootstrap-server", "localhost:9092", "--topic", "orders")
	ends := map[int]int{}
	for _, m := range regexp.MustCompile(`(?m)^orders:(\d+):(\d+)$`).FindAllStringSubmatch(offsets, -1) {
		p, _ := strconv.Atoi(m[1])
		ends[p], _ = strconv.Atoi(m[2])
	}
	if len(ends) != 4 {
		c.t.Fatalf("kafka-get-offsets.sh says of 4 partitions: %s", offsets)
	}
	var next map[int]int
	var failed, repeated int
	tally := func() bool {
		next, failed, repeated = map[int]int{}, 0, 0
		for _, o := range c.orders() {
			switch {
			case o.verdict == "fails on purpose":
				failed++
			case o.offset < next[o.partition] && o.verdict == "REPEAT (announced: Kafka-In-Doubt)":
				repeated++ // the service was killed between its work and its answer
			case o.offset != next[o.partition] || o.verdict != "in order":
				c.t.Fatalf("orders/%d/%d came where %d was due, and the service says: %s.", o.partition, o.offset, next[o.partition], o.verdict)
			default:
				next[o.partition]++
			}
		}
		for p, end := range ends {
			if next[p] != end {
				return false
			}
		}
		return true
	}
	if _, all := rig.Until(patience, tally); !all {
		c.t.Errorf("Delivered up to %v, Kafka has %v.", next, ends)
	}
	if failed == 0 {
		c.t.Errorf("The service never failed on purpose, so nothing was retried.")
	}
	c.t.Logf("orders delivered up to %v: each once, in order; %d failed on purpose, %d announced as in doubt.", ends, failed, repeated)
}

// docker runs the client; its output is what it said on both streams, trimmed.
func docker(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
