package publisher

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kpush/kpush/kafka"
)

// Path is what the door answers to.
const Path = "/topics/"

// readTime bounds how long a body may come, and an answer go. A variable for tests.
var readTime = 15 * time.Second

// ServeHTTP answers POST and GET of a topic. Who calls has been looked at; the request's context ends with its connection, and not where
// the caller only says nothing more.
func (p *Publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	a := answer{mode: modeSync}
	if !p.enter() {
		w.Header().Set("Connection", "close")
		a.fail(problem{503, 503, "kpush is stopping and takes no new records", true})
	} else {
		defer p.leave()
		c := http.NewResponseController(w)
		_, _ = c.SetReadDeadline(begin.Add(readTime)), c.SetWriteDeadline(begin.Add(2*readTime+p.cfg.Timeout)) // a test's recorder has none
		p.serve(w, r, &a)
	}
	a.write(w)
	p.counts.answered(a.mode, a.status, time.Since(begin))
}

func (p *Publisher) serve(w http.ResponseWriter, r *http.Request, a *answer) {
	topic, partition := strings.TrimPrefix(r.URL.Path, Path), ""
	if r.Method == http.MethodPost { // to a partition as that API has it: /topics/NAME/partitions/NUMBER
		topic, partition, _ = strings.Cut(topic, "/partitions/")
	}
	err := p.topics.admit(topic)
	switch {
	case r.Method != http.MethodPost && r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD, POST")
		err = refuse(405, "a topic takes POST, and GET says how many partitions it has")
	case err != nil:
	case r.Method == http.MethodPost:
		err = p.post(w, r, topic, partition, a)
	default:
		a.mode = modeQuestion
		err = p.get(r, topic, a)
	}
	if err != nil {
		a.fail(err)
	}
}

func (p *Publisher) get(r *http.Request, topic string, a *answer) error {
	is, err := p.topics.of(r.Context(), topic, true)
	if err != nil {
		return err
	}
	type partition struct {
		Partition int `json:"partition"`
	}
	list := make([]partition, is.partitions)
	for i := range list {
		list[i].Partition = i
	}
	a.status, a.body = 200, map[string]any{"name": topic, "partitions": list}
	return nil
}

// post reads, and holds bytes of the budget until the records are in the queue, which has a bound of its own.
func (p *Publisher) post(w http.ResponseWriter, r *http.Request, topic, partition string, a *answer) error {
	c, err := parse(topic, partition, r)
	if c.async {
		a.mode = modeAsync
	}
	if err != nil {
		return err
	}
	format, err := formatOf(r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	if coding := r.Header.Get("Content-Encoding"); format != nil && coding != "" && !strings.EqualFold(coding, "identity") {
		return refuse(415, "records are not taken in the encoding %.40q", coding)
	}
	body, held, err := p.read(w, r)
	defer func() { p.bodies.give(held) }()
	if err != nil {
		w.Header().Set("Connection", "close") // the rest of it is nobody's business, and to wait for it would hold up the answer
		return err
	}
	var list []kafka.Record
	if format == nil {
		list = make([]kafka.Record, 1)
		list[0], err = c.record(body)
	} else {
		list, err = c.records(body, format)
	}
	if err != nil {
		return err
	}
	is, err := p.describe(r.Context(), topic, list)
	if err != nil {
		return err
	}
	for i := range list {
		if int(list[i].Partition) >= is.partitions && format == nil {
			return problem{404, 40402, "the topic " + topic + " has no partition " + strconv.Itoa(int(list[i].Partition)), false}
		}
	}
	var b *batch
	if c.async && p.spool != nil && p.spool.Takes() {
		if b, err = p.keep(r.Context(), topic, list, is.partitions); err != nil {
			return err
		}
	} else {
		b = p.queue(list, is, c.async)
	}
	list, body = nil, nil
	p.bodies.give(held)
	held = 0
	b.wait(r.Context(), p.cfg.Timeout)
	a.of(b, format != nil)
	return nil
}

// describe is what is known of the topic; asked again where a record wants more partitions.
func (p *Publisher) describe(ctx context.Context, name string, list []kafka.Record) (is topic, err error) {
	is, err = p.topics.of(ctx, name, false)
	for _, r := range list {
		if err == nil && int(r.Partition) >= is.partitions {
			return p.topics.of(ctx, name, true)
		}
	}
	return is, err
}

// firstPiece is what is taken of the budget before anything has come.
const firstPiece = 64 << 10

// read is the body. Its bytes are taken from the budget as they come: who only says that many will come holds none of them.
func (p *Publisher) read(w http.ResponseWriter, r *http.Request) (body []byte, held int64, err error) {
	most := p.cfg.BodyMost
	if r.ContentLength > most {
		return nil, 0, refuse(413, "the body has %d bytes, and may have %d", r.ContentLength, most)
	}
	size := int64(firstPiece)
	if r.ContentLength >= 0 {
		size = min(size, r.ContentLength)
	}
	from := http.MaxBytesReader(w, r.Body, most)
	body = []byte{}
	for {
		if !p.bodies.take(size) {
			return nil, held, refuse(429, "kpush holds as many bytes of requests as it may; try again in a moment")
		}
		held += size
		grown := make([]byte, len(body), held)
		copy(grown, body)
		n, err := fill(from, grown[len(body):held])
		body = grown[:len(body)+n]
		if err == nil && int64(len(body)) == r.ContentLength {
			return body, held, nil
		}
		switch {
		case err == nil:
			size = min(held, max(1, most+1-held)) // twice as much
			if r.ContentLength >= 0 {
				size = min(size, r.ContentLength-held)
			}
		case err == io.EOF:
			return body, held, nil
		case errors.As(err, new(*http.MaxBytesError)):
			return nil, held, refuse(413, "the body may have %d bytes", most)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, held, refuse(408, "the body has not come within %v", readTime)
		default:
			return nil, held, refuse(400, "the body broke off")
		}
	}
}

// fill reads until p is full, or r is at its end: io.EOF. io.ReadFull would say of an end within p what r says of one that broke off.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// batch is the records of a request, and what has come of them.
type batch struct {
	async bool
	kept  bool          // those without an error are on the volume
	over  chan struct{} // closed when all have their outcome

	mu   sync.Mutex
	open int
	came []outcome
}

// outcome is a record's; where it is not told, none is known.
type outcome struct {
	told bool
	at   kafka.Produced
	err  error
}

// queue puts the records into the producer's queue, in their order.
func (p *Publisher) queue(list []kafka.Record, to topic, async bool) *batch {
	b := &batch{async: async, over: make(chan struct{}), came: make([]outcome, len(list)), open: len(list) + 1}
	for i := range list {
		r := &list[i]
		if int(r.Partition) >= to.partitions {
			b.ended(i, kafka.Produced{}, errNoPartition)
			continue
		}
		r.Batch = to.most
		if err := p.put(r, b, i); err != nil {
			b.ended(i, kafka.Produced{}, err)
		}
	}
	b.done()
	return b
}

// keep puts the records into the spool, but for those that have no partition.
func (p *Publisher) keep(ctx context.Context, topic string, list []kafka.Record, places int) (*batch, error) {
	b := &batch{async: true, kept: true, came: make([]outcome, len(list))}
	good := make([]kafka.Record, 0, len(list))
	for i, r := range list {
		if int(r.Partition) < places {
			good = append(good, r)
		} else {
			b.came[i].err = errNoPartition
		}
	}
	if len(good) == 0 {
		return b, nil
	}
	ctx, end := context.WithTimeout(ctx, p.cfg.Timeout)
	defer end()
	return b, p.spool.Add(ctx, topic, places, good)
}

var errNoPartition = problem{404, 40402, "the topic has no such partition", false}

func (b *batch) ended(i int, at kafka.Produced, err error) {
	b.mu.Lock()
	b.came[i] = outcome{true, at, err}
	b.mu.Unlock()
	b.done()
}

func (b *batch) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open--; b.open == 0 {
		close(b.over)
	}
}

// wait returns when all have their outcome, after so long, or when the caller is sent away; at once for who does not want to know.
func (b *batch) wait(ctx context.Context, most time.Duration) {
	if b.async {
		return
	}
	late := time.NewTimer(most)
	defer late.Stop()
	select {
	case <-b.over:
	case <-late.C:
	case <-ctx.Done():
	}
}

// outcomes is what is known now.
func (b *batch) outcomes() []outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]outcome(nil), b.came...)
}
