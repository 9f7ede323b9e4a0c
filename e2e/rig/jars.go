package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"
)

const kafkaVersion = "4.3.0"

const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>kpush</groupId><artifactId>e2e-kafka</artifactId><version>1</version><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>` + kafkaVersion + `</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>` + kafkaVersion + `</version></dependency>
<dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.1</version></dependency>
</dependencies></project>
`

const log4j = `<Configuration status="warn">
<Appenders><Console name="out"><PatternLayout pattern="%d %p %c{1}: %m%n"/></Console></Appenders>
<Loggers><Root level="warn"><AppenderRef ref="out"/></Root></Loggers></Configuration>
`

// jars runs Kafka from Maven Central's jars on this machine's JDK.
type jars struct{ java, libs string }

func findJars() (*jars, error) {
	java, err := findJava()
	if err != nil {
		return nil, err
	}
	dir, err := cache()
	if err != nil {
		return nil, err
	}
	libs := filepath.Join(dir, "kafka-"+kafkaVersion)
	if _, err := os.Stat(libs); err == nil {
		return &jars{java, libs}, nil
	}
	work, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	if err := os.WriteFile(filepath.Join(work, "pom.xml"), []byte(pom), 0o644); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mvn", "-q", "-B", "-f", filepath.Join(work, "pom.xml"),
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(work, "libs"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("Maven could not fetch Kafka's jars: %w\n%s", err, out)
	}
	// renamed when complete: another test process may be fetching, too, and then the first one wins
	if err := os.Rename(filepath.Join(work, "libs"), libs); err != nil {
		if _, there := os.Stat(libs); there != nil {
			return nil, err
		}
	}
	return &jars{java, libs}, nil
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

func findJava() (string, error) {
	java := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		java = filepath.Join(home, "bin", "java")
	}
	out, err := exec.Command(java, "-version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("no Java: %w", err)
	}
	found := javaVersion.FindSubmatch(out)
	if found == nil {
		return "", fmt.Errorf("the version of Java cannot be read from %q", out)
	}
	if major, err := strconv.Atoi(string(found[1])); err != nil || major < 17 {
		return "", fmt.Errorf("Java %s is too old for Kafka %s, which needs 17", found[1], kafkaVersion)
	}
	return java, nil
}

func (j *jars) class(dir, heap, class string, args ...string) []string {
	argv := []string{j.java, heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dlog4j2.configurationFile=" + filepath.Join(dir, "log4j2.xml"), "-cp", j.libs + "/*", class}
	return append(argv, args...)
}

// prepare writes the node's configuration and formats its storage.
func (j *jars) prepare(n *node) error {
	config := ""
	for name, value := range n.props {
		config += name + "=" + value + "\n"
	}
	config += "log.dirs=" + filepath.Join(n.dir, "data") + "\n"
	for name, text := range map[string]string{"server.properties": config, "log4j2.xml": log4j} {
		if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	argv := j.class(n.dir, "-Xmx256m", "kafka.tools.StorageTool", "format", "-t", n.cluster, "-c", filepath.Join(n.dir, "server.properties"))
	if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("Kafka could not format its storage in %s: %w\n%s", n.dir, err, out)
	}
	return nil
}

func (j *jars) start(n *node) (*process, error) {
	argv := j.class(n.dir, "-Xmx512m", "kafka.Kafka", filepath.Join(n.dir, "server.properties"))
	return spawn(slices.Insert(argv, 1, n.jvm...), os.Environ(), n.dir, n.log, syscall.SIGKILL)
}

func (j *jars) signal(n *node, s syscall.Signal) error { return n.process.signal(s) }

func (j *jars) remove(*node) {}

func (j *jars) String() string { return "Apache Kafka " + kafkaVersion + " from its jars" }
