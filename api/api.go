package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/publisher"
)

// Operator is what the calls do: a forwarder.
type Operator interface {
	Status() forwarder.Status
	Wanted() // somebody looks at the ends of partitions
	Skip(ctx context.Context, who string, s forwarder.Selection) (forwarder.SkipOutcome, error)
	Pause(ctx context.Context, who, topic string, partition int32) ([]kafka.Partition, error)
	Resume(ctx context.Context, who, topic string, partition int32) ([]kafka.Partition, error)
	Seek(ctx context.Context, who, topic string, partition int32, to forwarder.Target) ([]kafka.Position, error)
	Skipped(after int64, limit int) (forwarder.SkippedPage, error)
	SkipCounts() (forwarder.SkipCounts, error)
	Resend(ctx context.Context, who string, which []kafka.Position) ([]forwarder.Resent, error)
	Redrive(ctx context.Context, who string, limit int) (forwarder.Redriven, error)
	Rest(ctx context.Context, topic string, done int) string // what of a topic ("": of all) a command was not for
	PausedHere() string                                      // that a pause does not survive a move
	Audit() ([]forwarder.Moved, error)
}

var _ Operator = (*forwarder.Forwarder)(nil)

// About is what the forwarder does not know of the process.
type About struct {
	Version   string
	Guarantee int
	Config    []slog.Attr // secrets masked
	Addr      string      // KPUSH_API_ADDR
	Token     string      // "": none is asked for
	Sources   []Source    // whose Ready and Notes are told beside the forwarder's
	Publish   Publishing  // nil: no door

	Descriptors int // of Port
}

// API answers on KPUSH_API_ADDR: the status, the operator's calls, and the page. All but Serve may be used by any goroutine.
type API struct {
	op       Operator
	about    About
	log      *slog.Logger
	door     *door
	watch    watch[forwarder.Status]
	skips    watch[skipLog]
	commands chan struct{} // commandsMost of them are under way at the most
	history  history
	sayings  sayings
}

// Bounds of what one call waits for. A volume that hangs holds up the forwarder, never a caller.
const (
	statusTime   = 2 * time.Second
	commandTime  = 12 * time.Second // of answerTime
	resendTime   = 2 * time.Minute  // the service, or Kafka, answers meanwhile, message by message
	commandsMost = 8
)

// New makes an API that has not begun to listen.
func New(op Operator, about About, log *slog.Logger) *API {
	return &API{op: op, about: about, log: log, door: newDoor(about.Addr, about.Token), watch: watch[forwarder.Status]{what: "status", ask: op.Status},
		skips:    watch[skipLog]{what: "skip log", ask: func() (s skipLog) { s.SkipCounts, s.err = op.SkipCounts(); return s }},
		commands: make(chan struct{}, commandsMost)}
}

// Serve answers until ctx ends. It returns once it listens; an address that cannot be had is the error.
func (a *API) Serve(ctx context.Context) error {
	if err := Serve(ctx, Port{"KPUSH_API_ADDR", "api", a.about.Addr, a.about.Publish != nil, a.about.Descriptors}, a, a.log); err != nil {
		return err
	}
	go a.keepHistory(ctx)
	return nil
}

// problem is why a call is refused: a sentence with its status.
type problem struct {
	status   int
	sentence string
}

func (p problem) Error() string { return p.sentence }

func refuse(status int, format string, args ...any) error {
	return problem{status, fmt.Sprintf(format, args...)}
}

// statusOf is the status of an error: a refusal's own, an operator's by its kind, else 503.
func statusOf(err error) int {
	var p problem
	switch {
	case errors.As(err, &p):
		return p.status
	case errors.Is(err, forwarder.ErrAsked):
		return http.StatusBadRequest
	case errors.Is(err, forwarder.ErrNoSuch):
		return http.StatusNotFound
	case errors.Is(err, forwarder.ErrNotOurs), errors.Is(err, forwarder.ErrMoves), errors.Is(err, forwarder.ErrHeld), errors.Is(err, forwarder.ErrNotFailing), errors.Is(err, forwarder.ErrEnding):
		return http.StatusConflict
	}
	return http.StatusServiceUnavailable
}

// calls are all there are: what GET answers, and what POST does.
var calls = map[string]struct {
	get  func(*API, http.ResponseWriter, *http.Request) error
	post func(*API, context.Context, string, []byte) (reply, error)
	most time.Duration // instead of commandTime
}{
	"/":        {get: (*API).page},
	"/status":  {get: read((*API).status)},
	"/skipped": {get: (*API).skipped},
	"/audit":   {get: read((*API).audit)},
	"/skip":    {post: (*API).skip},
	"/pause":   {post: (*API).pause},
	"/resume":  {post: (*API).resume},
	"/seek":    {post: (*API).seek},
	"/resend":  {post: (*API).resend, most: resendTime},
	"/redrive": {post: (*API).redrive, most: resendTime},
}

// ServeHTTP answers one call.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a.about.Publish != nil && strings.HasPrefix(r.URL.Path, publisher.Path) {
		a.serveTopic(w, r)
		return
	}
	if err := a.serve(w, r); err != nil {
		if statusOf(err) == http.StatusRequestEntityTooLarge {
			w.Header().Set("Connection", "close") // the answer does not wait for the rest of the body
		}
		write(w, statusOf(err), map[string]string{"error": oneLine(err)})
	}
}

func (a *API) serve(w http.ResponseWriter, r *http.Request) error {
	if err := a.door.check(w, r); err != nil {
		return err
	}
	call, ok := calls[r.URL.Path]
	allowed := "GET, HEAD"
	if call.post != nil {
		allowed = "POST"
	}
	switch {
	case !ok:
		return refuse(http.StatusNotFound, "there is no call %s; GET / is the status page, GET /status the same as JSON", shown(r.URL.Path))
	case !slices.Contains(strings.Split(allowed, ", "), r.Method):
		w.Header().Set("Allow", allowed)
		return refuse(http.StatusMethodNotAllowed, "%s takes %s only", r.URL.Path, allowed)
	case call.get != nil:
		return call.get(a, w, r)
	}
	body, form, err := readBody(w, r)
	if err != nil {
		return err
	}
	most := cmp.Or(call.most, commandTime)
	if call.most > 0 {
		c := http.NewResponseController(w)
		_, _ = c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(time.Now().Add(most+answerTime-requestTime-commandTime)) // a test's recorder has none
	}
	// What has begun does not end with its caller, and may say a moment before the end how far it has come.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), most-time.Second)
	defer cancel()
	done, err := command(a, most, func() (reply, error) { return call.post(a, ctx, who(r, form), body) })
	if form {
		a.sayings.tell(w, r, done.said, err)
		return nil
	}
	if err == nil {
		write(w, http.StatusOK, done.body)
	}
	return err
}

// read is a call that answers with JSON.
func read(ask func(*API, context.Context) (any, error)) func(*API, http.ResponseWriter, *http.Request) error {
	return func(a *API, w http.ResponseWriter, r *http.Request) error {
		body, err := ask(a, r.Context())
		if err == nil {
			write(w, http.StatusOK, body)
		}
		return err
	}
}

// command runs what may hang with the volume or with Kafka, and leaves it alone where it takes longer. So many may hang.
func command[T any](a *API, most time.Duration, do func() (T, error)) (done T, err error) {
	select {
	case a.commands <- struct{}{}:
	default:
		return done, refuse(http.StatusServiceUnavailable, "%d commands are under way and have not ended; look at GET /status for what hangs", commandsMost)
	}
	ended, late := make(chan struct{}), time.NewTimer(most)
	defer late.Stop()
	var result T
	var failed error
	go func() {
		defer close(ended)
		defer func() { <-a.commands }()
		defer func() {
			if p := recover(); p != nil {
				a.log.Error("a command has failed, which is a bug of kpush", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				failed = refuse(http.StatusInternalServerError, "kpush has a bug here: %v; its log has the stack", p)
			}
		}()
		result, failed = do()
	}()
	select {
	case <-ended:
		return result, failed
	case <-late.C:
		return done, refuse(http.StatusServiceUnavailable, "it has not ended within %v, and may still be done: the volume or Kafka does not answer. GET /status says why, GET /audit what was done", most)
	}
}

func write(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		text, status = fmt.Appendf(nil, `{"error":%q}`, "kpush has a bug here: "+err.Error()), http.StatusInternalServerError
	}
	text = append(text, '\n')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) // an error here means that the caller has gone
}

// oneLine is a sentence, whatever has been joined into it.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
