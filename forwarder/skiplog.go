package forwarder

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/kpush/kpush/offsets"
	"github.com/kpush/kpush/volume"
)

// skipLog keeps every message that was given up, whole, one JSON object a line. It is on the disk before the message
// counts as done (F1).
type skipLog struct {
	path   string
	mu     sync.Mutex
	locked bool   // the volume is this process's
	unlock func() // nil where that is the offsets file's business

	tallying sync.Mutex
	tally    skipTally // guarded by tallying
}

// lock makes the volume this process's until close: two processes would cut each other's lines. Guarantee 1, which has no file there,
// does so at the start where it may skip by itself, else with the first message that SIGUSR1 or the service skips. The caller holds
// mu, or is alone.
func (s *skipLog) lock() (err error) {
	if !s.locked {
		s.unlock, err = offsets.Lock(filepath.Dir(s.path))
		s.locked = err == nil
	}
	return err
}

// absent tells whether there is no volume: it cannot be used, and never was, so that nothing of kpush is there.
func (s *skipLog) absent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := os.Lstat(filepath.Join(filepath.Dir(s.path), "lock"))
	return !s.locked && errors.Is(err, fs.ErrNotExist)
}

// close unlocks the volume. It waits for no disk that hangs: the end of the process unlocks it as well.
func (s *skipLog) close() {
	if !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	if s.unlock != nil {
		s.unlock()
		s.unlock, s.locked = nil, false
	}
}

// skipped is a line of the skip log. Bytes are base64; value_text repeats a value that is text, to be read by people.
type skipped struct {
	Time      time.Time `json:"time"`
	ID        string    `json:"id"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Timestamp int64     `json:"timestamp"`
	Attempts  int       `json:"attempts"`
	Reason    string    `json:"reason"`
	InDoubt   bool      `json:"in_doubt"`
	Key       []byte    `json:"key"`
	Value     []byte    `json:"value"`
	ValueText string    `json:"value_text,omitempty"`
	Headers   [][2]any  `json:"headers"`
}

func (s *skipLog) write(it *item) error {
	line := skipped{Time: time.Now().UTC(), ID: it.ID(), Topic: it.Topic, Partition: it.Partition.Number, Offset: it.Offset,
		Timestamp: it.Timestamp, Attempts: it.attempt.Number, Reason: it.verdict.Reason, InDoubt: it.attempt.InDoubt,
		Key: it.Key, Value: it.Value, Headers: make([][2]any, 0, len(it.Headers))}
	if utf8.Valid(it.Value) {
		line.ValueText = string(it.Value)
	}
	for _, h := range it.Headers {
		line.Headers = append(line.Headers, [2]any{h.Name, h.Value})
	}
	if err := s.append(filepath.Base(s.path), line); err != nil {
		return fmt.Errorf("cannot write %s/%d/%d to the skip log, so it is not skipped: %w", it.Topic, it.Partition.Number, it.Offset, err)
	}
	return nil
}

// append adds a line to the file of that name beside the skip log, on a volume that is this process's.
func (s *skipLog) append(name string, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.lock(); err != nil {
		return err
	}
	return volume.AppendLine(filepath.Join(filepath.Dir(s.path), name), append(line, '\n'))
}
