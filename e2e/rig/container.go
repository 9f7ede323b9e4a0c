package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const kafkaImage = "apache/kafka:" + kafkaVersion

// containers runs Kafka in containers that share this machine's network, so that nodes find one another and
// the sidecar finds them at the same loopback addresses as when they run from jars.
type containers struct{}

func findContainers() (*containers, error) {
	if out, err := docker(10*time.Second, "info", "--format", "{{.ServerVersion}}"); err != nil {
		return nil, fmt.Errorf("no container engine answers: %w %s", err, out)
	}
	if _, err := docker(10*time.Second, "image", "inspect", kafkaImage); err == nil {
		return &containers{}, nil
	}
	if out, err := docker(2*time.Minute, "pull", "-q", kafkaImage); err != nil {
		return nil, fmt.Errorf("the image %s is neither here nor to be had: %w %s", kafkaImage, err, out)
	}
	return &containers{}, nil
}

func docker(limit time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// prepare creates the container; its data live in it, so that a killed one starts again with them.
func (c *containers) prepare(n *node) error {
	args := []string{"create", "--name", n.name(), "--network", "host", "--stop-signal", "SIGTERM",
		"-e", "CLUSTER_ID=" + n.cluster, "-e", "KAFKA_HEAP_OPTS=-Xmx512m", "-e", "KAFKA_LOG_DIRS=/var/lib/kafka/data/kpush",
		"-e", "KAFKA_OPTS=" + strings.Join(n.jvm, " ")}
	for name, value := range n.props {
		args = append(args, "-e", "KAFKA_"+strings.ToUpper(strings.ReplaceAll(name, ".", "_"))+"="+value)
	}
	if out, err := docker(time.Minute, append(args, kafkaImage)...); err != nil {
		return fmt.Errorf("docker create failed: %w\n%s", err, out)
	}
	return nil
}

// start attaches to the container: if we die, the docker client gets SIGTERM and passes it on.
func (c *containers) start(n *node) (*process, error) {
	return spawn([]string{"docker", "start", "--attach", n.name()}, os.Environ(), n.dir, n.log, syscall.SIGTERM)
}

func (c *containers) signal(n *node, s syscall.Signal) error {
	args := map[syscall.Signal][]string{
		syscall.SIGKILL: {"kill"}, syscall.SIGTERM: {"kill", "-s", "TERM"},
		syscall.SIGSTOP: {"pause"}, syscall.SIGCONT: {"unpause"},
	}[s]
	if out, err := docker(time.Minute, append(args, n.name())...); err != nil {
		return fmt.Errorf("docker %s of %s: %w\n%s", args[0], n.name(), err, out)
	}
	return nil
}

func (c *containers) remove(n *node) {
	_, _ = docker(time.Minute, "rm", "-f", "-v", n.name()) // what is gone already needs no removal
}

func (c *containers) String() string { return "Apache Kafka " + kafkaVersion + " in a container" }
