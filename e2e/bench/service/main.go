// Command service is the business service of the benchmarks, as lean as one can be: it answers every POST with an
// empty 200 and counts. GET answers with Count as JSON.
//
// SLEEP=5ms is how long it works on a request; SLEEP=forever never answers. It listens on a free port of loopback and
// prints the port.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// service counts what it has received. Latencies are kept of bodies that begin with the time they were sent at.
type service struct {
	work               time.Duration
	requests, messages atomic.Int64
	first, last        atomic.Int64 // Unix nanoseconds of the first and the latest answer

	mu   sync.Mutex
	took []time.Duration
}

func main() {
	s := &service{}
	switch sleep := os.Getenv("SLEEP"); sleep {
	case "":
	case "forever":
		s.work = -1
	default:
		var err error
		if s.work, err = time.ParseDuration(sleep); err != nil {
			log.Fatalf("SLEEP is %q, not a duration such as 5ms, nor forever.", sleep)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatalf("The service cannot listen: %v", err)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	server := &fasthttp.Server{Handler: s.handle, NoDefaultServerHeader: true, NoDefaultDate: true, NoDefaultContentType: true,
		DisableHeaderNamesNormalizing: true, MaxRequestBodySize: 64 << 20}
	log.Fatal(server.Serve(l))
}

func (s *service) handle(ctx *fasthttp.RequestCtx) {
	if ctx.IsGet() {
		s.report(ctx)
		return
	}
	now := time.Now()
	s.requests.Add(1)
	switch {
	case s.work < 0:
		select {}
	case s.work > 0:
		time.Sleep(s.work)
		now = time.Now()
	}
	if s.first.Load() == 0 {
		s.first.CompareAndSwap(0, now.UnixNano())
	}
	s.last.Store(now.UnixNano())
	body := ctx.PostBody()
	if bytes.HasPrefix(body, []byte("[")) {
		s.messages.Add(int64(bytes.Count(body, []byte(`"offset":`))))
		return
	}
	if stamp, ok := bytes.CutPrefix(body, []byte("sent ")); ok && len(stamp) >= 19 {
		s.arrived(now, stamp[:19])
	}
	s.messages.Add(1)
}

func (s *service) arrived(now time.Time, stamp []byte) {
	sent, err := strconv.ParseInt(string(stamp), 10, 64)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.took = append(s.took, now.Sub(time.Unix(0, sent)))
	s.mu.Unlock()
}

// Count is what the runner reads.
type Count struct {
	Requests, Messages int64
	First, Last        int64
	P50, P99           time.Duration // from the time in the body to the request's arrival
}

func (s *service) report(ctx *fasthttp.RequestCtx) {
	c := Count{Requests: s.requests.Load(), Messages: s.messages.Load(), First: s.first.Load(), Last: s.last.Load()}
	s.mu.Lock()
	if n := len(s.took); n > 0 {
		slices.Sort(s.took)
		c.P50, c.P99 = s.took[n/2], s.took[n*99/100]
	}
	s.mu.Unlock()
	text, err := json.Marshal(c)
	if err != nil {
		ctx.Error(err.Error(), fasthttp.StatusInternalServerError)
		return
	}
	ctx.SetBody(text)
}
