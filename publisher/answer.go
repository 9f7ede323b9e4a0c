package publisher

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/kpush/kpush/kafka"
)

// Refuse answers in the door's form for who does not get so far.
func Refuse(w http.ResponseWriter, status int, sentence string) {
	var a answer
	a.fail(refuse(status, "%s", sentence))
	a.write(w)
}

// answer is what goes out.
type answer struct {
	mode   string
	status int
	body   any
}

type failure struct {
	Code      int    `json:"error_code"`
	Message   string `json:"message"`
	Retriable bool   `json:"retriable"`
	Offsets   []any  `json:"offsets,omitempty"`
}

func (a *answer) fail(err error) {
	pr := problemOf(err)
	a.status, a.body = pr.status, failure{pr.code, strings.ReplaceAll(pr.sentence, "\n", "; "), pr.retriable, nil}
}

// of answers for a batch. A record of which nothing is known is no success, but for who has not waited.
func (a *answer) of(b *batch, many bool) {
	var offsets []any
	var failed []error
	all := b.outcomes()
	for _, o := range all {
		if o.err == nil && o.at == nil && !b.async {
			o.err = kafka.ErrUnknown
		}
		switch {
		case o.err != nil:
			pr := problemOf(o.err)
			failed = append(failed, o.err)
			offsets = append(offsets, map[string]any{"error_code": pr.code, "error": pr.sentence, "retriable": pr.retriable})
		case o.at == nil:
			offsets = append(offsets, map[string]any{"queued": true})
		default:
			offsets = append(offsets, map[string]any{"partition": o.at.Number, "offset": o.at.Offset})
		}
	}
	switch {
	case len(failed) == len(all):
		a.fail(failed[0])
		if many {
			f := a.body.(failure)
			f.Offsets = offsets
			a.body = f
		}
	case len(failed) > 0:
		a.status, a.body = 207, map[string]any{"offsets": offsets}
	case b.async:
		a.status, a.body = 202, map[string]any{"queued": true, "durable": b.kept}
	case many:
		a.status, a.body = 200, map[string]any{"offsets": offsets}
	default:
		at := all[0].at
		a.status, a.body = 200, placed{at.Topic, at.Number, at.Offset, at.Timestamp}
	}
}

type placed struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Timestamp int64  `json:"timestamp"`
}

// write sends the answer whole, and at once: a stop waits for those inside only.
func (a *answer) write(w http.ResponseWriter) {
	text, err := json.Marshal(a.body)
	if err != nil {
		text = []byte(`{"error_code":500,"message":"kpush has a bug here","retriable":false}`)
		a.status = 500
	}
	h := w.Header()
	if a.status == http.StatusTooManyRequests {
		h.Set("Retry-After", "1")
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(text)+1))
	w.WriteHeader(a.status)
	_, _ = w.Write(append(text, '\n')) // an error here means that the caller has gone
	_ = http.NewResponseController(w).Flush()
}
