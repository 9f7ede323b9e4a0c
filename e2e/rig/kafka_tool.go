package rig

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Tool runs one of Kafka's own tools, by the class that its shell script starts, against the cluster and returns what
// it prints on stdout. It fails the test unless the tool ends well within a minute.
func (k *Kafka) Tool(t T, class string, args ...string) string {
	t.Helper()
	args = append([]string{"--bootstrap-server", k.Brokers}, args...)
	argv := []string{"docker", "run", "--rm", "--network", "host", "--entrypoint", "/opt/kafka/bin/kafka-run-class.sh", kafkaImage, class}
	if j, err := findJars(); err == nil {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "log4j2.xml"), []byte(strings.Replace(log4j, `name="out"`, `name="out" target="SYSTEM_ERR"`, 1)), 0o644); err != nil {
			t.Fatalf("%v", err)
		}
		argv = j.class(dir, "-Xmx128m", class)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", class, args, err, out, said.String())
	}
	return string(out)
}
