package forwarder

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
)

// SkippedMessage is one of the skip log.
type SkippedMessage struct {
	kafka.Position
	ID       string
	Key      []byte
	Size     int // of the value, bytes
	Attempts int
	Reason   string
	InDoubt  bool
	Skipped  time.Time
	Resent   time.Time // zero: it was not
}

// Resent is what came of sending a skipped message again.
type Resent struct {
	kafka.Position
	Delivered bool
	Reason    string // why not
}

// resentLine notes in the skip log that a message is about to be sent again, and that it was: one without the other is in doubt.
type resentLine struct {
	Time      time.Time `json:"time"`
	ID        string    `json:"id"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Resend    string    `json:"resend"` // begins, delivered, refused
}

// What a resentLine says. One that begins, and nothing behind it, is in doubt.
const (
	resendBegins    = "begins"
	resendDelivered = "delivered"
	resendRefused   = "refused"
)

// entry is any line of the skip log.
type entry struct {
	skipped
	Resend string `json:"resend"` // "": a message that was skipped
}

// each hands the lines of a file beside the skip log over, in their order. A file that is not there has none; what is no line, as half
// of one that a crash has left, is passed over.
func each[T any](s *skipLog, name string, do func(T)) error {
	file, err := os.Open(filepath.Join(filepath.Dir(s.path), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	for r := bufio.NewReader(file); ; {
		line, err := r.ReadBytes('\n')
		var v T
		if len(line) > 0 && json.Unmarshal(line, &v) == nil {
			do(v)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Skipped is what the skip log holds, oldest first.
func (f *Forwarder) Skipped() ([]SkippedMessage, error) {
	var all []SkippedMessage
	doubt := map[string]bool{} // before the newest resend
	newest := map[string]int{} // of an id: a message that is skipped once more, behind a seek or a crash, is there once
	err := each(f.skips, filepath.Base(f.skips.path), func(e entry) {
		i, known := newest[e.ID]
		switch {
		case !known && e.Resend != "":
			return
		case e.Resend == resendBegins:
			doubt[e.ID] = all[i].InDoubt
			all[i].InDoubt, all[i].Attempts = true, all[i].Attempts+1
			return
		case e.Resend == resendRefused:
			all[i].InDoubt = doubt[e.ID]
			return
		case e.Resend == resendDelivered:
			all[i].Resent = e.Time
			return
		case known:
			all[i].Resent, all[i].Skipped = time.Time{}, e.Time
			return
		}
		newest[e.ID] = len(all)
		all = append(all, SkippedMessage{Position: e.position(), ID: e.ID, Key: e.Key, Size: len(e.Value), Attempts: e.Attempts,
			Reason: e.Reason, InDoubt: e.InDoubt, Skipped: e.Time})
	})
	return all, err
}

func (s *skipped) position() kafka.Position {
	return kafka.Position{Partition: kafka.Partition{Topic: s.Topic, Number: s.Partition}, Offset: s.Offset}
}

// Resend sends skipped messages to the service once more, outside of any order, and notes in the skip log that it did. nil: all that
// were not sent again yet.
func (f *Forwarder) Resend(ctx context.Context, who string, which []kafka.Position) ([]Resent, error) {
	if !f.resending.TryLock() {
		return nil, fmt.Errorf("another resend is under way, so this one is %w", ErrAsked)
	}
	defer f.resending.Unlock()
	wanted, err := f.toResend(which)
	if err != nil {
		return nil, err
	}
	to := "all"
	if which != nil {
		to = fmt.Sprintf("%s/%d", which[0].Partition, which[0].Offset)
	}
	if err := f.audit(who, "resend", to); err != nil {
		return nil, err
	}
	var out []Resent
	var failed error
	err = each(f.skips, filepath.Base(f.skips.path), func(e entry) {
		known, is := wanted[e.ID]
		if e.Resend != "" || !is || failed != nil {
			return
		}
		delete(wanted, e.ID)
		if failed = f.resendable(ctx); failed == nil {
			var one Resent
			one, failed = f.resend(ctx, &e.skipped, known)
			out = append(out, one)
		}
	})
	return out, errors.Join(err, failed)
}

// resendable is why no message may be sent outside of the order now, nil where one may.
func (f *Forwarder) resendable(ctx context.Context) error {
	if _, stopping := f.health.stopDeadline(); stopping {
		return ErrEnding
	}
	if until := f.pace.Status().Paused; time.Now().Before(until) {
		return fmt.Errorf("the service asked for a pause until %s, so it is %w", until.UTC().Format(time.RFC3339), ErrAsked)
	}
	return context.Cause(ctx)
}

// resend makes one attempt at a skipped message, of which the log knows before and behind.
func (f *Forwarder) resend(ctx context.Context, s *skipped, known SkippedMessage) (Resent, error) {
	one := Resent{Position: s.position()}
	note := func(what string) error {
		return f.skips.append(filepath.Base(f.skips.path), resentLine{time.Now().UTC(), s.ID, s.Topic, s.Partition, s.Offset, what})
	}
	if err := note(resendBegins); err != nil {
		one.Reason = err.Error()
		return one, err
	}
	v := f.push(ctx, s, known)
	if len(v.Failed) > 0 {
		v = push.Verdict{Class: push.MessageFault, Reason: reasonNamed}
	}
	one.Delivered, one.Reason = v.Class == push.Delivered, v.Reason
	switch {
	case one.Delivered:
		return one, note(resendDelivered)
	case !v.InDoubt:
		return one, note(resendRefused)
	}
	return one, nil
}

// toResend are the messages that are meant, by id.
func (f *Forwarder) toResend(which []kafka.Position) (map[string]SkippedMessage, error) {
	all, err := f.Skipped()
	if err != nil {
		return nil, err
	}
	wanted := map[string]SkippedMessage{}
	for _, m := range all {
		if which == nil && m.Resent.IsZero() {
			wanted[m.ID] = m
		}
		for _, at := range which {
			if m.Position == at {
				wanted[m.ID] = m
			}
		}
	}
	if len(wanted) < len(which) {
		return nil, fmt.Errorf("%s/%d is %w: the skip log does not hold it", which[0].Partition, which[0].Offset, ErrNotFailing)
	}
	return wanted, nil
}

// push makes one attempt at a message of the skip log.
func (f *Forwarder) push(ctx context.Context, s *skipped, known SkippedMessage) push.Verdict {
	m := kafka.Message{Partition: s.position().Partition, Offset: s.Offset, Timestamp: s.Timestamp, Key: s.Key, Value: s.Value}
	for _, h := range s.Headers {
		name, _ := h[0].(string)
		k := kafka.Header{Name: name}
		if text, ok := h[1].(string); ok {
			k.Value, _ = base64.StdEncoding.DecodeString(text) // as write has encoded it
		}
		m.Headers = append(m.Headers, k)
	}
	id := strings.SplitN(s.ID, "/", 4)
	it := &push.Item{Message: &m, TopicID: urlSafe(strings.Join(id[min(3, len(id)):], "")), Group: f.cfg.Group, Attempt: known.Attempts + 1, InDoubt: known.InDoubt}
	if id := f.cluster.Load(); id != nil {
		it.Cluster = *id
	}
	host := 0
	for i, h := range f.pace.Status().Hosts {
		if h.Up {
			host = i
			break
		}
	}
	return f.parts.Handler.Push(&push.Attempt{Items: []*push.Item{it}, Host: host, Gate: outside{ctx}})
}

// outside is the gate of an attempt that waits for nothing.
type outside struct{ ctx context.Context }

func (o outside) Context() context.Context { return o.ctx }

func (o outside) Fresh() bool { return false }

func (o outside) Cleared() (bool, error) { return false, context.Cause(o.ctx) }
