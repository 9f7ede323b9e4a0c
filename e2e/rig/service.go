package rig

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Service is the business service behind the sidecar, and the oracle: it remembers every request. Without
// orders it answers 200 at once.
type Service struct {
	Port  int
	Order string // as in KPUSH_ORDER: what Judge holds the requests to; "" is partition

	mu       sync.Mutex
	hosts    []string
	servers  map[string]server // by host; those that are up
	requests []*Request
	rule     func(*Request) Action
	doors    map[string]func() int // by path
	done     map[position]bool     // a 2xx was completed
	doneIn   map[int32]int         // of how many messages of a partition
	repeats  int
	batches  int
	open     int // requests whose end is not noted yet
	load     load
	conns    atomic.Int32
}

// server is what listens at one host.
type server struct {
	*http.Server
	port net.Listener
}

// load weighs the requests in flight by time.
type load struct {
	now, max    int
	area        time.Duration
	begin, last time.Time
}

func (l *load) change(by int, at time.Time) {
	l.area += time.Duration(l.now) * at.Sub(l.last)
	l.now, l.last = l.now+by, at
	l.max = max(l.max, l.now)
}

// StartService listens on the hosts (127.0.0.1 unless named), all with one port; one that begins with unix: is a socket.
func StartService(t T, hosts ...string) *Service {
	t.Helper()
	if len(hosts) == 0 {
		hosts = []string{"127.0.0.1"}
	}
	s := &Service{hosts: hosts, servers: map[string]server{}, done: map[position]bool{}, doneIn: map[int32]int{}, doors: map[string]func() int{}}
	s.load.begin, s.load.last = time.Now(), time.Now()
	for tries := 1; ; tries++ { // a port that is free on one host need not be on the others
		err := s.up(hosts)
		if err == nil {
			break
		}
		s.Down()
		if s.Port = 0; tries == 10 {
			t.Fatalf("The service cannot listen: %v", err)
		}
	}
	t.Cleanup(func() { s.Down() })
	return s
}

// Up opens the port again, the same one: of the hosts named, or of all.
func (s *Service) Up(t T, hosts ...string) {
	t.Helper()
	if err := s.up(s.which(hosts)); err != nil {
		t.Fatalf("The service cannot listen: %v", err)
	}
}

func (s *Service) up(hosts []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, host := range hosts {
		if _, up := s.servers[host]; up {
			continue
		}
		l, err := s.listen(host)
		if err != nil {
			return err
		}
		server := server{&http.Server{Handler: s, MaxHeaderBytes: 4 << 20, ConnState: s.count}, l}
		s.servers[host] = server
		go func() { _ = server.Serve(l) }() // ends with Down
	}
	return nil
}

func (s *Service) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateHijacked, http.StateClosed:
		s.conns.Add(-1)
	}
}

func (s *Service) which(hosts []string) []string {
	if len(hosts) == 0 {
		return s.hosts
	}
	return hosts
}

func (s *Service) listen(host string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(host, "unix:"); ok {
		return net.Listen("unix", path)
	}
	if s.Port == 0 {
		ports, err := freePorts(1)
		if err != nil {
			return nil, err
		}
		s.Port = ports[0]
	}
	return net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(s.Port)))
}

// Down closes the port and breaks every connection: of the hosts named, or of all.
func (s *Service) Down(hosts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, host := range s.which(hosts) {
		if server, up := s.servers[host]; up {
			_ = server.port.Close() // the port is free at once, even if the server has not yet begun
			_ = server.Close()      // what it breaks is broken on purpose
			delete(s.servers, host)
		}
	}
}

// Door answers GET at the path with the status that f says, beside the messages.
func (s *Service) Door(path string, f func() int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doors[path] = f
}

// Rule lets f decide what happens to each request; nil is 200 at once.
func (s *Service) Rule(f func(*Request) Action) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rule = f
}

// ServeHTTP takes a request down, does with it what the rule says, and notes how that went.
func (s *Service) ServeHTTP(w http.ResponseWriter, h *http.Request) {
	s.mu.Lock()
	door := s.doors[h.URL.Path]
	s.mu.Unlock()
	if h.Method == http.MethodGet && door != nil {
		w.WriteHeader(door())
		return
	}
	r := parse(h)
	if h.Header.Get("Kafka-Batch") != "" {
		s.serveBatch(w, h)
		return
	}
	s.mu.Lock()
	s.requests = append(s.requests, r)
	s.open++
	s.load.change(1, time.Now())
	if s.done[r.position()] {
		s.repeats++
	}
	rule := s.rule
	s.mu.Unlock()

	var action Action
	if rule != nil {
		action = rule(r)
	}
	status, done := action.perform(w, h, r, sync.OnceFunc(func() { s.end(r) }))

	s.mu.Lock()
	defer s.mu.Unlock()
	r.Status, r.Done, r.complete = status, done, true
	s.open--
	if done {
		s.finish(r)
	}
}

// finish remembers a completed 2xx. The caller holds s.mu.
func (s *Service) finish(r *Request) {
	if !s.done[r.position()] {
		s.done[r.position()] = true
		s.doneIn[r.Partition]++
	}
}

func (s *Service) end(together ...*Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, r := range together {
		r.End = now
	}
	s.load.change(-1, now)
}

// Requests returns the finished requests in the order of their arrival.
func (s *Service) Requests() []*Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var finished []*Request
	for _, r := range s.requests {
		if r.complete {
			finished = append(finished, r)
		}
	}
	return finished
}

// Delivered is how many different messages it has answered with a completed 2xx.
func (s *Service) Delivered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.done)
}

// DeliveredIn is how many of them are of a partition, over all topics.
func (s *Service) DeliveredIn(partition int32) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doneIn[partition]
}

// Repeats is how many requests have arrived for messages that it had answered with a completed 2xx.
func (s *Service) Repeats() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repeats
}

// Attempts is how many requests have arrived.
func (s *Service) Attempts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// InFlight is how many requests are being answered now.
func (s *Service) InFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load.now
}

func (s *Service) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open == 0
}

// Load returns the requests in flight since the last call, averaged over time, and their maximum.
func (s *Service) Load() (average float64, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.load.change(0, now)
	average, most = float64(s.load.area)/float64(max(1, now.Sub(s.load.begin))), s.load.max
	s.load = load{now: s.load.now, max: s.load.now, begin: now, last: now}
	return average, most
}

// Await waits until count different messages are delivered.
func (s *Service) Await(t T, count int, limit time.Duration) time.Duration {
	t.Helper()
	begin := time.Now()
	took, ok := Until(limit, func() bool { return s.Delivered() >= count })
	if !ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		t.Fatalf("Only %d of %d messages were delivered within %v, in which the machine was away for %v; by partition: %v.",
			len(s.done), count, limit, Late(begin, time.Now()).Round(time.Millisecond), s.doneIn)
	}
	return took
}

// Next waits for the first delivery completed after the moment and returns how long after it that was.
func (s *Service) Next(t T, since time.Time, limit time.Duration) time.Duration {
	t.Helper()
	var found time.Time
	Within(t, limit, "the next delivery", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i := len(s.requests) - 1; i >= 0; i-- {
			r := s.requests[i]
			if r.Start.Before(since) {
				break
			}
			if r.Done {
				found = r.End
			}
		}
		return !found.IsZero()
	})
	return found.Sub(since)
}
