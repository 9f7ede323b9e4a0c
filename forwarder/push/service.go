package push

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/kpush/kpush/forwarder/wire"
	"github.com/kpush/kpush/kafka"
)

// Config is what a Service has to know.
type Config struct {
	Targets     []string // one URL per host
	Domain      string   // Host header; "" for the URL's
	Format      string   // raw, form, json, cloudevents, cloudevents-structured
	ContentType string   // of a value whose record has no media type; "": application/octet-stream
	EventType   string   // of an event that kpush makes
	Ack         string   // status, errno, dapr
	Response    int      // bytes of an answer that is no delivery that are kept as they came; 0: none
	Batch       bool     // a request is a JSON array of messages
	Most        int      // requests at once
	Descriptors int      // that connections may use, less one; 0: all
	ConnTimeout time.Duration
	ExecTimeout time.Duration // of one attempt; 0: none

	ConfirmURLs   []string // asked before a message in doubt is sent again, one per host or one for all; none: it is sent
	ConfirmDomain string   // Domain of ConfirmURLs
	ReadyURLs     []string // deliveries wait until one of them answers 2xx; none: they do not
	ReadyDomain   string   // Domain of ReadyURLs

	Credentials Credentials

	Line Line // what goes to every host and question instead of the network; nil: HTTP
}

// Service is the default Handler: it POSTs to the service's hosts. It is safe for concurrent use.
type Service struct {
	cfg     Config
	hosts   []host
	confirm *question // nil: not asked
	ready   *question // nil: not asked
	keys    keys
	bearer  *bearer
	rooms   sync.Pool // of *room
}

// Line is the way to one host: a *wire.Wire.
type Line interface {
	Exchange(g wire.Gate, timeout time.Duration, head, body []byte, a *wire.Answer)
}

// host is one of Config.Targets.
type host struct {
	Line
	opening []byte // of each request
	name    string // in its header Host
	place   string // where it is
}

// Bounds of one question: whether the service has a message, where KPUSH_EXEC_TIMEOUT does not say, and whether it is ready, where that is
// longer.
const (
	confirmTimeout = time.Minute
	readyTimeout   = 10 * time.Second
)

// New connects nothing yet.
func New(cfg Config) (*Service, error) {
	s := &Service{cfg: cfg, rooms: sync.Pool{New: func() any { return &room{Answer: wire.Answer{Keep: cfg.keeps}} }}}
	s.keys.from, s.bearer = &s.cfg.Credentials, newBearer(&cfg.Credentials)
	if s.keys.config(); s.keys.wrong() != nil {
		return nil, s.keys.wrong()
	}
	for _, t := range cfg.Targets {
		l, u, err := s.line(t, cfg.Most)
		if err != nil {
			return nil, err
		}
		head, err := wire.Opening(http.MethodPost, u, cfg.Domain)
		if err != nil {
			return nil, err
		}
		s.hosts = append(s.hosts, host{l, head, cmp.Or(cfg.Domain, u.Host), place(t)})
	}
	var err error
	if s.confirm, err = s.question(cfg.ConfirmURLs, cfg.ConfirmDomain, cmp.Or(cfg.ExecTimeout, confirmTimeout)); err != nil {
		return nil, errors.New("KPUSH_CONFIRM_URL is no URL")
	}
	if s.ready, err = s.question(cfg.ReadyURLs, cfg.ReadyDomain, cmp.Or(min(cfg.ExecTimeout, readyTimeout), readyTimeout)); err != nil {
		return nil, fmt.Errorf("KPUSH_READY_URL: %w", err)
	}
	return s, nil
}

// line is the way to a target, which keeps so many connections, and the URL of the requests there.
func (s *Service) line(target string, keeps int) (Line, *url.URL, error) {
	w, u, err := wire.New(target, wire.Options{ConnTimeout: s.cfg.ConnTimeout, Idle: keeps, Descriptors: s.cfg.Descriptors, TLS: s.keys.config})
	if s.cfg.Line != nil && err == nil {
		return s.cfg.Line, u, nil
	}
	return w, u, err
}

// keeps is how much of an answer's body there is a use for: the whole of a 2xx that may say more than its status, else a beginning for
// people. Many large ones come at once where a service fails.
func (c *Config) keeps(status int) int {
	if status/100 == 2 && (c.Batch || c.Ack == "errno" || c.Ack == "dapr") {
		return wire.Limit
	}
	return 4 << 10
}

// Push sends one request, within Config.ExecTimeout, and judges its answer.
func (s *Service) Push(a *Attempt) Verdict {
	r := s.rooms.Get().(*room)
	defer s.keep(r)
	h := s.hosts[a.Host]
	r.request = append(append(r.request[:0], h.opening...), s.bearer.line()...)
	var rest []byte
	if s.cfg.Batch {
		rest = r.writeBatch(a.Items, &s.cfg, a.Trace)
	} else {
		rest = r.write(a.Items[0], &s.cfg, a.Trace)
	}
	h.Exchange(a.Gate, s.cfg.ExecTimeout, r.request, rest, &r.Answer)
	v := judge(&r.Answer, s.cfg.Ack, s.cfg.ExecTimeout)
	switch {
	case !s.cfg.Batch:
		if v.Class != Delivered && r.Action == "" {
			var slimmer bool
			if slimmer, v.Spared = a.Items[0].heed(&v, r.request, len(rest)); slimmer {
				v.Reason += "; its headers may be too large: the next attempt leaves key and headers out"
			}
		}
	case v.Class == Delivered && !action(&Verdict{}, r.Action):
		var err error
		if why := unreadable(&r.Answer); why != "" {
			v = Verdict{Class: MessageFault, Status: r.Status, RetryAfter: pause(r.RetryAfter), InDoubt: true,
				Reason: fmt.Sprintf("the service answered %d with %s: it may name batchItemFailures", r.Status, why)}
		} else if v.Failed, err = batchFailures(r.Body, a.Items); err != nil {
			v = Verdict{Class: MessageFault, Status: r.Status, Reason: err.Error(), RetryAfter: pause(r.RetryAfter)}
		}
	}
	if v.Class != Delivered {
		v.Answer = said(&r.Answer, s.cfg.Ack)
		if n := min(len(r.Body), s.cfg.Response); n > 0 {
			v.Response = bytes.Clone(r.Body[:n])
		}
	}
	var wrong error
	switch {
	case v.Status == http.StatusUnauthorized:
		wrong = s.bearer.wrong()
	case v.Status == 0 && v.Class == ServiceFault:
		wrong = s.keys.wrong()
	}
	if wrong != nil {
		v.Reason += "; " + wrong.Error()
	}
	if v.Class == MessageFault {
		v.Sent = fmt.Sprintf("Host: %s and Content-Type: %s", h.name, sentType(r.request))
	}
	return v
}

// Reached is what came of a connection to one host: in words, or why there is none.
type Reached struct {
	Said string
	Err  error
}

// Reach connects to each host, all at once, and sends nothing.
func (s *Service) Reach(ctx context.Context) []Reached {
	all := make([]Reached, len(s.hosts))
	var asking sync.WaitGroup
	for i, h := range s.hosts {
		if w, ok := h.Line.(*wire.Wire); ok {
			asking.Go(func() {
				said, err := w.Reach(ctx)
				if err != nil {
					err = errors.New(clause(err))
				}
				all[i] = Reached{said, err}
			})
		}
	}
	asking.Wait()
	return all
}

// sentType is the Content-Type of a request.
func sentType(request []byte) string {
	_, from, _ := bytes.Cut(request, []byte("\r\nContent-Type: "))
	kind, _, _ := bytes.Cut(from, []byte("\r\n"))
	return string(kind)
}

// SizeInBatch is what a message takes in the body of a batch at the most.
func (s *Service) SizeInBatch(m *kafka.Message) int { return s.cfg.sizeInBatch(m) }

// room is what one request and its answer need.
type room struct {
	request []byte
	body    []byte // where it has to be made
	wire.Answer
}

// keep keeps the room for another request, unless it has become a large one.
func (s *Service) keep(r *room) {
	if most := 64 << 10; cap(r.request) <= most && cap(r.body) <= most && cap(r.Body) <= most {
		s.rooms.Put(r)
	}
}
