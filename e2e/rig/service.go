package rig

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
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
	JSON  bool   // a body is an envelope, as KPUSH_FORMAT=json sends it
	guard *Guard // who lets requests in; nil: nobody is kept out

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
	return startService(t, nil, hosts...)
}

func startService(t T, guard *Guard, hosts ...string) *Service {
	t.Helper()
	if len(hosts) == 0 {
		hosts = []string{"127.0.0.1"}
	}
	s := &Service{guard: guard, hosts: hosts, servers: map[string]server{}, done: map[position]bool{}, doneIn: map[int32]int{}, doors: map[string]func() int{}}
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
		if s.guard != nil {
			server.port = tls.NewListener(l, &tls.Config{GetConfigForClient: s.guard.config})
			server.Handler, server.ErrorLog = s.guard, log.New(io.Discard, "", 0) // whom it keeps out it counts
		}
		s.servers[host] = server
		go func() { _ = server.Serve(server.port) }() // ends with Down
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

// Confirms opens a door that answers whether the service has a message, as KPUSH_CONFIRM_URL asks it: 200 or 404; 503 while a request of
// it is under way for longer than a caller waits. It returns the door's URL, and how to count its answers.
func (s *Service) Confirms(t T) (url string, answers func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("The service cannot listen: %v", err)
	}
	var mu sync.Mutex
	asked := 0
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		mu.Lock()
		asked++
		mu.Unlock()
		has := false
		_, known := Until(5*time.Second, func() bool {
			var open bool
			has, open = s.has(h.URL.Query().Get("id"))
			return !open
		})
		switch {
		case !known:
			w.WriteHeader(http.StatusServiceUnavailable)
		case !has:
			w.WriteHeader(http.StatusNotFound)
		}
	})}
	go func() { _ = server.Serve(l) }() // ends with the test
	t.Cleanup(func() { _ = server.Close() })
	return fmt.Sprintf("http://%s/has", l.Addr()), func() int {
		mu.Lock()
		defer mu.Unlock()
		return asked
	}
}

func (s *Service) has(id string) (done, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range slices.Backward(s.requests) {
		if r.ID == id {
			done, open = done || r.Done, open || !r.complete
		}
	}
	return done, open
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
	r.enveloped = s.JSON
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
	if action.Named {
		r.Named, action.Body = true, `{"status":"RETRY"}`
	}
	status, done := action.perform(w, h, r, sync.OnceFunc(func() { s.end(r) }))

	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(r, status, done)
	s.open--
}

// note is how a request ended: one that was named has an answer, and is not done. The caller holds s.mu.
func (s *Service) note(r *Request, status int, done bool) {
	r.Status, r.Done, r.complete = status, done, true
	if r.Named && done {
		r.Status, r.Done = http.StatusInternalServerError, false
	}
	if r.Done {
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
