package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/kafka"
)

//go:generate go tool qtc -file=page.qtpl -skipLineComments

// view is what the page shows.
type view struct {
	Status
	Nonce   string
	Said    *saying
	Problem string // why there is no status
	Rows    []row
	Failing []blockedRow
	Skips   forwarder.SkipCounts
	NoSkips string // why there are none to be shown
	Skipped []skippedRow
	Door    bool
	Config  []slog.Attr
	Token   bool
	Paused  bool // some partition is, by an operator
	Now     time.Time
}

// row is a partition's.
type row struct {
	Partition
	Chart   chart
	CatchUp string
	Pausing bool // an operator has paused it
}

// blockedRow is a message's.
type blockedRow struct {
	Topic     string
	Partition int32
	Blocked
	Age string
}

// skippedRow is a message of the skip log.
type skippedRow struct{ Skipped }

// page is GET /. It can be read without a script, and says what it can where there is no status.
func (a *API) page(w http.ResponseWriter, r *http.Request) error {
	v := view{Nonce: rand.Text(), Said: a.sayings.of(r.URL.Query().Get("said")), Config: a.about.Config, Token: a.about.Token != "", Door: a.about.Publish != nil, Now: time.Now()}
	code := http.StatusOK
	a.op.Wanted()
	s, err := a.watch.now(r.Context())
	if err != nil {
		v.Problem, code = oneLine(err), statusOf(err)
	}
	v.Status = a.answer(s)
	for _, p := range v.Partitions {
		rate, open := a.history.of(kafka.Partition{Topic: p.Topic, Number: p.Partition}, v.Now)
		pausing := slices.Contains(p.Paused, "operator")
		v.Paused = v.Paused || pausing
		v.Rows = append(v.Rows, row{p, chartOf(rate, p.PerSecond), catchUp(p, open), pausing})
		for _, b := range p.Blocked {
			v.Failing = append(v.Failing, blockedRow{p.Topic, p.Partition, b, span(v.Now.Sub(b.Since).Seconds())})
		}
	}
	slices.SortStableFunc(v.Failing, func(a, b blockedRow) int { return a.Since.Compare(b.Since) })
	if v.Group != "" {
		a.skipLog(r.Context(), &v)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", fmt.Sprintf("default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%[1]s'; img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'", v.Nonce))
	w.WriteHeader(code)
	writestatusPage(w, &v) // what cannot be written has no reader any more
	return nil
}

// skipLog puts what is told of it into the view.
func (a *API) skipLog(ctx context.Context, v *view) {
	log, err := a.skips.now(ctx)
	if err = cmp.Or(err, log.err); err != nil {
		v.NoSkips = oneLine(err)
	}
	v.Skips = log.SkipCounts
	for _, m := range log.Newest {
		v.Skipped = append(v.Skipped, skippedRow{skippedOf(m)})
	}
}

// Name is the coordinates of a message, for people.
func (b blockedRow) Name() string { return fmt.Sprintf("%s/%d/%d", b.Topic, b.Partition, b.Offset) }

func (s skippedRow) Name() string { return fmt.Sprintf("%s/%d/%d", s.Topic, s.Partition, s.Offset) }

// Short is the key, not endless.
func (k Key) Short() string {
	const most = 60
	key := []rune(k.String())
	if len(key) > most {
		return string(key[:most]) + "…"
	}
	return string(key)
}

// grouped is a number with its thousands apart; "–" for one that is not known.
func grouped(n any) string {
	var digits string
	switch n := n.(type) {
	case *int64:
		if n == nil {
			return "–"
		}
		digits = strconv.FormatInt(*n, 10)
	default:
		digits = fmt.Sprint(n)
	}
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
