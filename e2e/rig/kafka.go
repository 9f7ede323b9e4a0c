package rig

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Kafka is a cluster: one that was there already, one started here, or kfake in this process.
type Kafka struct {
	Brokers string // bootstrap list
	client  *client
	nodes   []*node
	fake    *kfake.Cluster
}

// runner is a way to run a broker.
type runner interface {
	prepare(*node) error
	start(*node) (*process, error)
	signal(*node, syscall.Signal) error
	remove(*node)
	String() string
}

type node struct {
	id      int
	port    int
	link    int // another listener, which Kafka.Link leads to
	proxy   int // the port that it is advertised under
	cluster string
	props   map[string]string
	jvm     []string // of the properties those that begin with -D
	dir     string
	log     *os.File
	runner  runner
	process *process
}

func (n *node) name() string { return fmt.Sprintf("kpush-e2e-%d-%d", os.Getpid(), n.port) }

// Own returns a cluster of its own, which the story may hurt.
func Own(t T, nodes int, props ...string) *Kafka {
	t.Helper()
	ways, err := controlled()
	if err != nil {
		shared.Lock()
		defer shared.Unlock()
		leaveOut(t, err)
	}
	k, err := startFirst(ways, t.TempDir(), nodes, props...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { k.close(t.Failed(), t.ArtifactDir) })
	return k
}

// Fake returns an embedded kfake cluster; it needs nothing from the machine.
func Fake(t T, partitions int32, topics ...string) *Kafka {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, topics...))
	if err != nil {
		t.Fatalf("kfake does not start: %v", err)
	}
	k, err := connect(&Kafka{Brokers: strings.Join(fake.ListenAddrs(), ","), fake: fake})
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { k.close(false, nil) })
	return k
}

func startKafka(run runner, dir string, count int, props ...string) (*Kafka, error) {
	ports, err := freePorts(4 * count)
	if err != nil {
		return nil, err
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	id[0] &= 0x7f        // as text it must not begin with "-": Kafka's tools would read an option
	k := &Kafka{}
	var voters, brokers []string
	for i := range count {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, ports[4*i+1]))
		brokers = append(brokers, fmt.Sprintf("127.0.0.1:%d", ports[4*i]))
	}
	k.Brokers = strings.Join(brokers, ",")
	for i := range count {
		n := &node{id: i + 1, port: ports[4*i], link: ports[4*i+2], proxy: ports[4*i+3], cluster: base64.RawURLEncoding.EncodeToString(id), runner: run}
		n.props = n.properties(ports[4*i+1], min(count, 3), voters, props)
		n.dir = filepath.Join(dir, fmt.Sprintf("kafka-%d", n.id))
		if err := os.MkdirAll(n.dir, 0o755); err != nil {
			return nil, err
		}
		if n.log, err = os.Create(filepath.Join(n.dir, "log")); err != nil {
			return nil, err
		}
		k.nodes = append(k.nodes, n)
	}
	if err := k.each(func(n *node) error {
		err := run.prepare(n)
		if err == nil {
			n.process, err = run.start(n)
		}
		return err
	}); err != nil {
		k.close(false, nil)
		return nil, err
	}
	return connect(k)
}

func (n *node) properties(controller, replicas int, voters, extra []string) map[string]string {
	rf := fmt.Sprint(replicas)
	props := map[string]string{
		"process.roles":                            "broker,controller",
		"node.id":                                  fmt.Sprint(n.id),
		"controller.quorum.voters":                 strings.Join(voters, ","),
		"listeners":                                fmt.Sprintf("PLAINTEXT://127.0.0.1:%d,LINK://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", n.port, n.link, controller),
		"advertised.listeners":                     fmt.Sprintf("PLAINTEXT://127.0.0.1:%d,LINK://127.0.0.1:%d", n.port, n.proxy),
		"listener.security.protocol.map":           "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LINK:PLAINTEXT",
		"controller.listener.names":                "CONTROLLER",
		"inter.broker.listener.name":               "PLAINTEXT",
		"default.replication.factor":               rf,
		"offsets.topic.replication.factor":         rf,
		"offsets.topic.num.partitions":             "4",
		"transaction.state.log.replication.factor": rf,
		"transaction.state.log.num.partitions":     "4",
		"transaction.state.log.min.isr":            "1",
		"group.initial.rebalance.delay.ms":         "0",
		"group.min.session.timeout.ms":             "1000",
		"auto.create.topics.enable":                "false",
		"broker.heartbeat.interval.ms":             "500",
	}
	if len(voters) > 1 { // a lone broker that is slow for a moment must not be fenced
		props["broker.session.timeout.ms"] = "3000"
	}
	for _, p := range extra {
		if strings.HasPrefix(p, "-D") {
			n.jvm = append(n.jvm, p)
			continue
		}
		name, value, _ := strings.Cut(p, "=")
		props[name] = value
	}
	return props
}

// givenPorts are those that freePorts has given away in this process.
var givenPorts = struct {
	sync.Mutex
	all map[int]bool
}{all: map[int]bool{}}

// freePorts finds ports below those that the kernel gives to clients (32768 and up): a broker or service that was down finds
// its own again, which otherwise any connection of this machine may have taken meanwhile.
func freePorts(count int) ([]int, error) {
	givenPorts.Lock()
	defer givenPorts.Unlock()
	var ports []int
	for range 10_000 {
		if len(ports) == count {
			return ports, nil
		}
		port := 15_000 + mathrand.IntN(17_000)
		if givenPorts.all[port] {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		_ = l.Close()
		givenPorts.all[port] = true
		ports = append(ports, port)
	}
	return nil, fmt.Errorf("%d free ports between 15000 and 32000 on 127.0.0.1 cannot be found", count)
}

// each does the same to all nodes at once.
func (k *Kafka) each(do func(*node) error) error {
	failed := make([]error, len(k.nodes))
	var all sync.WaitGroup
	for i, n := range k.nodes {
		all.Go(func() { failed[i] = do(n) })
	}
	all.Wait()
	return errors.Join(failed...)
}

// connect waits until every node serves and the group coordinator answers (a fresh cluster makes its
// offsets topic on the first question, which would cost the first story seconds).
func connect(k *Kafka) (*Kafka, error) {
	var err error
	if k.client, err = newClient(k.Brokers); err != nil {
		return nil, err
	}
	if err = k.await(); err != nil {
		k.close(false, nil)
		return nil, err
	}
	return k, nil
}

// await waits until every node serves, for as long as none has ended.
func (k *Kafka) await() (err error) {
	_, _ = Until(2*time.Minute, func() bool { err = k.serves(); return err == nil || k.died() })
	if err != nil {
		return fmt.Errorf("Kafka at %s does not serve: %w\n%s", k.Brokers, err, k.tail())
	}
	return nil
}

func (k *Kafka) died() bool {
	return slices.ContainsFunc(k.nodes, func(n *node) bool { return !n.process.alive() })
}

func (k *Kafka) serves() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	there, err := k.client.admin.ListBrokers(ctx)
	if err != nil {
		return err
	}
	if len(there) < len(k.nodes) {
		return fmt.Errorf("%d of %d brokers are there", len(there), len(k.nodes))
	}
	return k.client.admin.FindGroupCoordinators(ctx, "kpush-e2e").Error()
}

func (k *Kafka) tail() string {
	var text string
	for _, n := range k.nodes {
		if log, err := os.ReadFile(n.log.Name()); err == nil {
			text += fmt.Sprintf("node %d: …%s\n", n.id, log[max(0, len(log)-2000):])
		}
	}
	return text
}

func (k *Kafka) String() string {
	switch {
	case k.fake != nil:
		return "kfake at " + k.Brokers
	case len(k.nodes) > 0:
		return fmt.Sprintf("%s at %s", k.nodes[0].runner, k.Brokers)
	}
	return "the given Kafka at " + k.Brokers
}

// close ends every node; when the story failed their logs are kept.
func (k *Kafka) close(failed bool, artifacts func() string) {
	if k.client != nil {
		k.client.close()
	}
	if k.fake != nil {
		k.fake.Close()
	}
	for _, n := range k.nodes {
		if n.process != nil {
			_ = n.runner.signal(n, syscall.SIGKILL) // it may be gone already
			n.process.kill()
		}
		n.runner.remove(n)
		if failed {
			keep(n.log.Name(), artifacts(), n.name()+".log")
		}
		_ = n.log.Close() // only ever read by path
	}
}

// Port is one that is free.
func Port(t T) int {
	t.Helper()
	ports, err := freePorts(1)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return ports[0]
}
