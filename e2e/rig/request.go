package rig

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Request is one request as the service saw it. It is written by the goroutine that serves it, and not
// shown to anybody before it is complete.
type Request struct {
	Topic     string
	Partition int32
	Offset    int64
	ID        string // Kafka-Message-Id
	Group     string
	Attempt   int
	InDoubt   bool
	Replay    bool
	Tombstone bool
	Path      string
	Host      string // Host header
	Target    string // the address that was connected to
	Encoding  string // Accept-Encoding
	Key       []byte
	Headers   []Header // from Kafka-Header-*, or exactly as produced from Kafka-Headers
	Exact     bool     // Kafka-Headers was there
	Size      int
	Sum       uint64 // of the body
	Head      string // the body's beginning, for differences one can read
	Wrong     string // what is malformed about the request itself

	Start, End time.Time // End is the last moment before the client can know of it
	Status     int       // 0: no answer was begun
	Done       bool      // a 2xx was written to its last byte
	complete   bool
	enveloped  bool // the body is an envelope, as KPUSH_FORMAT=json sends it

	member
}

// position names the message in every report.
func (r *Request) position() position { return position{r.Topic, r.Partition, r.Offset} }

// To tells whether the request came to that host of the service.
func (r *Request) To(host string) bool {
	if path, ok := strings.CutPrefix(host, "unix:"); ok {
		return r.Target == path
	}
	return strings.HasPrefix(r.Target, host+":")
}

type position struct {
	topic     string
	partition int32
	offset    int64
}

func (p position) String() string { return fmt.Sprintf("%s/%d/%d", p.topic, p.partition, p.offset) }

var seed = maphash.MakeSeed()

func sum(body []byte) uint64 { return maphash.Bytes(seed, body) }

const headLength = 64

// newRequest has what is the same for all messages of a request.
func newRequest(h *http.Request, start time.Time) *Request {
	r := &Request{Start: start, Path: h.URL.RequestURI(), Host: h.Host, Encoding: h.Header.Get("Accept-Encoding"), Group: h.Header.Get("Kafka-Group")}
	if local, ok := h.Context().Value(http.LocalAddrContextKey).(fmt.Stringer); ok {
		r.Target = local.String()
	}
	return r
}

// parse reads what the headers say; the body comes later, if it is read at all.
func parse(h *http.Request) *Request {
	r := newRequest(h, time.Now())
	r.Topic, r.ID = h.Header.Get("Kafka-Topic"), h.Header.Get("Kafka-Message-Id")
	r.Partition = int32(r.number(h, "Kafka-Partition"))
	r.Offset = r.number(h, "Kafka-Offset")
	r.Attempt = int(r.number(h, "Kafka-Attempt"))
	r.number(h, "Kafka-Timestamp")
	r.InDoubt = h.Header.Get("Kafka-In-Doubt") == "true"
	r.Replay = h.Header.Get("Kafka-Replay") == "true"
	r.Tombstone = h.Header.Get("Kafka-Tombstone") == "true"
	if h.Method != http.MethodPost {
		r.wrong("the method is %s", h.Method)
	}
	if keys := h.Header["Kafka-Key"]; len(keys) == 1 {
		r.Key = []byte(keys[0])
		if h.Header.Get("Kafka-Key-Encoding") == "base64" {
			r.Key = r.base64("Kafka-Key", keys[0])
		}
	}
	r.parseHeaders(h.Header)
	return r
}

func (r *Request) wrong(format string, args ...any) {
	r.Wrong = strings.TrimPrefix(r.Wrong+"; "+fmt.Sprintf(format, args...), "; ")
}

func (r *Request) number(h *http.Request, name string) int64 {
	n, err := strconv.ParseInt(h.Header.Get(name), 10, 64)
	if err != nil {
		r.wrong("%s is %q, not a number", name, h.Header.Get(name))
	}
	return n
}

func (r *Request) base64(what, text string) []byte {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		r.wrong("%s is not base64: %v", what, err)
	}
	return b
}

func (r *Request) parseHeaders(h http.Header) {
	for name, values := range h {
		if short, ok := strings.CutPrefix(name, "Kafka-Header-"); ok {
			for _, v := range values {
				r.Headers = append(r.Headers, Header{short, []byte(v)})
			}
		}
	}
	whole := h.Get("Kafka-Headers")
	if whole == "" {
		return
	}
	r.Exact, r.Headers = true, nil
	r.pairsIn(r.base64("Kafka-Headers", whole))
}

func (r *Request) pairsIn(text []byte) {
	var pairs [][2]*string
	if err := json.Unmarshal(text, &pairs); err != nil {
		r.wrong("Kafka-Headers is not JSON [[name, base64|null],…]: %v", err)
		return
	}
	r.pairs(pairs)
}

// pairs takes the headers as they were produced.
func (r *Request) pairs(pairs [][2]*string) {
	for _, pair := range pairs {
		if pair[0] == nil {
			r.wrong("Kafka-Headers has a header without a name")
			continue
		}
		header := Header{Name: *pair[0]}
		if pair[1] != nil {
			header.Value = append([]byte{}, r.base64("a value in Kafka-Headers", *pair[1])...)
		}
		r.Headers = append(r.Headers, header)
	}
}

// read takes the body; of a form it takes the value out of m and holds p and o against the headers.
func (r *Request) read(h *http.Request) error {
	body, err := io.ReadAll(h.Body)
	if err != nil {
		return err
	}
	if h.Header.Get("Content-Type") == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			r.wrong("the form is malformed: %v", err)
		}
		if form.Get("p") != h.Header.Get("Kafka-Partition") || form.Get("o") != h.Header.Get("Kafka-Offset") {
			r.wrong("the form says p=%s o=%s, the headers %d and %d", form.Get("p"), form.Get("o"), r.Partition, r.Offset)
		}
		body = []byte(form.Get("m"))
	}
	r.keep(r.unwrap(h, body))
	return nil
}

// keep remembers the value.
func (r *Request) keep(value []byte) {
	r.Size, r.Sum, r.Head = len(value), sum(value), string(value[:min(len(value), headLength)])
}
