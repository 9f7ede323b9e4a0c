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

// resentLine notes in the skip log that a message was sent again.
type resentLine struct {
	Time      time.Time `json:"time"`
	ID        string    `json:"id"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Resent    bool      `json:"resent"`
}

// entry is any line of the skip log.
type entry struct {
	skipped
	Resent bool `json:"resent"`
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
	newest := map[string]int{}
	err := each(f.skips, filepath.Base(f.skips.path), func(e entry) {
		i, known := newest[e.ID]
		if e.Resent {
			if known {
				all[i].Resent = e.Time
			}
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
		if e.Resent || !wanted[e.ID] || failed != nil {
			return
		}
		delete(wanted, e.ID)
		if failed = context.Cause(ctx); failed != nil {
			return
		}
		one := Resent{Position: e.position()}
		v := f.push(ctx, &e.skipped)
		if one.Delivered, one.Reason = v.Class == push.Delivered, v.Reason; one.Delivered {
			failed = f.skips.append(filepath.Base(f.skips.path), resentLine{time.Now().UTC(), e.ID, e.Topic, e.Partition, e.Offset, true})
		}
		out = append(out, one)
	})
	return out, errors.Join(err, failed)
}

// toResend are the ids of the messages that are meant.
func (f *Forwarder) toResend(which []kafka.Position) (map[string]bool, error) {
	all, err := f.Skipped()
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, m := range all {
		if which == nil && m.Resent.IsZero() {
			wanted[m.ID] = true
		}
		for _, at := range which {
			if m.Position == at {
				wanted[m.ID] = true
			}
		}
	}
	if len(wanted) < len(which) {
		return nil, fmt.Errorf("%s/%d is %w: the skip log does not hold it", which[0].Partition, which[0].Offset, ErrNotFailing)
	}
	return wanted, nil
}

// push makes one attempt at a message of the skip log.
func (f *Forwarder) push(ctx context.Context, s *skipped) push.Verdict {
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
	it := &push.Item{Message: &m, TopicID: urlSafe(strings.Join(id[min(3, len(id)):], "")), Group: f.cfg.Group, Attempt: s.Attempts + 1, InDoubt: s.InDoubt}
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
