package rig

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf16"
)

// Action is what the service does with one request.
type Action struct {
	Delay  time.Duration // before anything else
	Status int           // 0 is 200
	Header map[string]string
	Body   string
	Break  Break
	Named  bool   // in a batch: this message is named in batchItemFailures; alone: the answer is Dapr's RETRY
	Coding string // the body is written in it: gzip, deflate, utf-16
}

// Break is a way not to answer.
type Break int

// The ways not to answer, from the earliest to the latest.
const (
	Respond     Break = iota // answers
	BeforeRead               // resets the connection without reading the body
	AfterRead                // resets it after reading the body
	Hang                     // answers nothing until the client gives up
	AfterHeader              // resets it after the status line and headers
	Truncate                 // closes it in the middle of the body
)

// perform carries the action out and says which status was begun, and whether a 2xx was completed. It calls last
// before the client can know of the end.
func (a Action) perform(w http.ResponseWriter, h *http.Request, r *Request, last func()) (status int, done bool) {
	defer last()
	if a.Break != BeforeRead {
		if err := r.read(h); err != nil {
			return 0, false
		}
	}
	if a.Delay > 0 {
		time.Sleep(a.Delay)
	}
	switch a.Break {
	case BeforeRead, AfterRead:
		last()
		abandon(w, true)
		return 0, false
	case Hang:
		<-h.Context().Done()
		return 0, false
	}
	status = a.Status
	if status == 0 {
		status = http.StatusOK
	}
	for name, value := range a.Header {
		w.Header().Set(name, value)
	}
	body := a.Body
	if a.Break != Respond {
		body += "0123456789" // something that can be missing
	}
	body = a.encode(w.Header(), body)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if a.Break == Truncate {
		body = body[:len(body)/2]
	}
	if a.Break != AfterHeader {
		if _, err := io.WriteString(w, body); err != nil {
			return status, false
		}
	}
	last()
	if err := http.NewResponseController(w).Flush(); err != nil {
		return status, false
	}
	if a.Break != Respond {
		abandon(w, a.Break == AfterHeader)
		return status, false
	}
	return status, status/100 == 2
}

// encode writes a body in the action's coding, and says so as servers do.
func (a Action) encode(h http.Header, body string) string {
	var out bytes.Buffer
	switch a.Coding {
	case "":
		return body
	case "utf-16":
		h.Set("Content-Type", "application/json; charset=utf-16")
		for _, unit := range utf16.Encode([]rune(body)) {
			out.Write(binary.LittleEndian.AppendUint16(nil, unit))
		}
		return out.String()
	}
	h.Set("Content-Encoding", a.Coding)
	var w io.WriteCloser = gzip.NewWriter(&out)
	if a.Coding == "deflate" {
		w = zlib.NewWriter(&out)
	}
	_, _ = io.WriteString(w, body) // into memory
	_ = w.Close()
	return out.String()
}

// abandon closes the connection, with a reset where the client is to see RST, not FIN.
func abandon(w http.ResponseWriter, reset bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // Down was first
	}
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0) // on a connection that is being broken
	}
	_ = conn.Close() // as above
}

// The rules that stories use most.

// Slow answers 200 after d.
func Slow(d time.Duration) func(*Request) Action {
	return func(*Request) Action { return Action{Delay: d} }
}

// Workers is a service that takes so many requests at once, each for d; the others wait inside of it.
func Workers(count int, d time.Duration) func(*Request) Action {
	free := make(chan struct{}, count)
	return func(*Request) Action {
		free <- struct{}{}
		time.Sleep(d)
		<-free
		return Action{}
	}
}

// Status answers every request with the status.
func Status(status int) func(*Request) Action {
	return func(*Request) Action { return Action{Status: status} }
}

// Errno answers 200 and the origin's JSON.
func Errno(*Request) Action { return Action{Body: `{"errno":0}`} }

// First does a to the first n requests, and then what the next rule says.
func First(n int64, a Action, next func(*Request) Action) func(*Request) Action {
	var seen atomic.Int64
	return func(r *Request) Action {
		if seen.Add(1) <= n {
			return a
		}
		return follow(next, r)
	}
}

// Every does a to every nth request, and to the others what the next rule says.
func Every(n int64, a Action, next func(*Request) Action) func(*Request) Action {
	var seen atomic.Int64
	return func(r *Request) Action {
		if seen.Add(1)%n == 0 {
			return a
		}
		return follow(next, r)
	}
}

func follow(next func(*Request) Action, r *Request) Action {
	if next == nil {
		return Action{}
	}
	return next(r)
}
