package publisher

import (
	"cmp"
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
	all := b.outcomes()
	var first error
	failed := 0
	for i := range all {
		o := &all[i]
		if !o.told && !b.async {
			o.err = kafka.ErrUnknown
		}
		if o.err != nil {
			failed++
			first = cmp.Or(first, o.err)
		}
	}
	switch {
	case failed == len(all):
		a.fail(first)
		if many {
			f := a.body.(failure)
			f.Offsets = offsets(all)
			a.body = f
		}
	case failed > 0:
		a.status, a.body = 207, map[string]any{"offsets": offsets(all)}
	case b.async:
		a.status, a.body = 202, queued{true, b.kept}
	case many:
		a.status, a.body = 200, map[string]any{"offsets": offsets(all)}
	default:
		at := all[0].at
		a.status, a.body = 200, placed{at.Topic, at.Number, at.Offset, at.Timestamp}
	}
}

// offsets is what has come of each.
func offsets(all []outcome) (list []any) {
	for _, o := range all {
		switch {
		case o.err != nil:
			pr := problemOf(o.err)
			list = append(list, map[string]any{"error_code": pr.code, "error": pr.sentence, "retriable": pr.retriable})
		case !o.told:
			list = append(list, map[string]any{"queued": true})
		default:
			list = append(list, map[string]any{"partition": o.at.Number, "offset": o.at.Offset})
		}
	}
	return list
}

type queued struct {
	Queued  bool `json:"queued"`
	Durable bool `json:"durable"`
}

type placed struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Timestamp int64  `json:"timestamp"`
}

var jsonType = []string{"application/json"}

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
	text = append(text, '\n')
	h["Content-Type"], h["Content-Length"] = jsonType, []string{strconv.Itoa(len(text))}
	w.WriteHeader(a.status)
	_, _ = w.Write(text) // an error here means that the caller has gone
	_ = http.NewResponseController(w).Flush()
}
