package rig

import (
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Service is the business service behind the sidecar, and the oracle: it remembers every request. Without
// orders it answers 200 at once.
type Service struct {
	Port  int
	Order string // as in KPUSH_ORDER: what Judge holds the requests to; "" is partition

	mu       sync.Mutex
	hosts    []string
	servers  []*http.Server
	requests []*Request
	rule     func(*Request) Action
	done     map[position]bool // a 2xx was completed
	repeats  int
	open     int // requests whose end is not noted yet
	load     load
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

// StartService listens on the hosts (127.0.0.1 unless named), all with one port.
func StartService(t T, hosts ...string) *Service {
	t.Helper()
	if len(hosts) == 0 {
		hosts = []string{"127.0.0.1"}
	}
	s := &Service{hosts: hosts, done: map[position]bool{}}
	s.load.begin, s.load.last = time.Now(), time.Now()
	s.Up(t)
	t.Cleanup(s.Down)
	return s
}

// Up opens the port again, the same one.
func (s *Service) Up(t T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, host := range s.hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(s.Port)))
		if err != nil {
			t.Fatalf("The service cannot listen: %v", err)
		}
		s.Port = l.Addr().(*net.TCPAddr).Port
		server := &http.Server{Handler: s, MaxHeaderBytes: 4 << 20}
		s.servers = append(s.servers, server)
		go func() { _ = server.Serve(l) }() // ends with Down
	}
}

// Down closes the port and breaks every connection.
func (s *Service) Down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, server := range s.servers {
		_ = server.Close() // what it breaks is broken on purpose
	}
	s.servers = nil
}

// Rule lets f decide what happens to each request; nil is 200 at once.
func (s *Service) Rule(f func(*Request) Action) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rule = f
}

// ServeHTTP takes a request down, does with it what the rule says, and notes how that went.
func (s *Service) ServeHTTP(w http.ResponseWriter, h *http.Request) {
	r := parse(h)
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
		s.done[r.position()] = true
	}
}

func (s *Service) end(r *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.End = time.Now()
	s.load.change(-1, r.End)
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
	took, ok := Until(limit, func() bool { return s.Delivered() >= count })
	if !ok {
		t.Fatalf("Only %d of %d messages were delivered within %v.", s.Delivered(), count, limit)
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
