package api

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kpush/kpush/forwarder"
)

// Status is the answer to GET /status. What is not known yet is null.
type Status struct {
	Version    string            `json:"version"`
	State      forwarder.State   `json:"state"`
	Ready      bool              `json:"ready"`
	Why        []string          `json:"why"`
	Notes      []string          `json:"notes"`
	Cluster    string            `json:"cluster"`
	Group      string            `json:"group"`
	InstanceID string            `json:"instanceId"`
	Guarantee  int               `json:"guarantee"`
	Service    Service           `json:"service"`
	Partitions []Partition       `json:"partitions"`
	Publish    Publish           `json:"publish"`
	Letters    *Letters          `json:"deadLetters"` // null: KPUSH_DEAD_LETTER_TOPIC is not set
	Config     map[string]string `json:"config"`
}

// Service is how the service is.
type Service struct {
	Up          bool       `json:"up"`
	Hosts       []Host     `json:"hosts"`
	InFlight    int        `json:"inFlight"`
	Limit       int        `json:"limit"`
	Waiting     int        `json:"waiting"`
	Failing     int        `json:"failing"`
	PausedUntil *time.Time `json:"pausedUntil"`
}

// Host is one of its hosts; Since is when it went down.
type Host struct {
	Host  string     `json:"host"`
	Up    bool       `json:"up"`
	Since *time.Time `json:"since"`
}

// Partition is one that delivers. High is there only where it is above End: a transaction is open.
type Partition struct {
	Topic         string    `json:"topic"`
	Partition     int32     `json:"partition"`
	Next          int64     `json:"next"`
	Committed     *int64    `json:"committed"`
	End           *int64    `json:"end"`
	High          *int64    `json:"high,omitempty"`
	Lag           *int64    `json:"lag"`
	Open          *int64    `json:"open"`
	OldestSeconds float64   `json:"oldestSeconds"`
	PerSecond     float64   `json:"perSecond"`
	InFlight      int       `json:"inFlight"`
	Waiting       int       `json:"waiting"`
	Failing       int       `json:"failing"`
	Paused        []string  `json:"paused"`
	Bounded       string    `json:"bounded,omitempty"`
	Stall         string    `json:"stall"`
	Blocked       []Blocked `json:"blocked"`
}

// Blocked is a message that keeps failing.
type Blocked struct {
	Offset int64 `json:"offset"`
	Key
	Attempts int       `json:"attempts"`
	Status   int       `json:"status"`
	Reason   string    `json:"reason"`
	Answer   string    `json:"answer"` // the beginning of what the service said
	Since    time.Time `json:"since"`
}

// Publish is what was published: records, and of Refused requests that were not answered with 2xx, by status.
type Publish struct {
	Queued   int              `json:"queued"`
	Spooled  int              `json:"spooled"`
	Sent     int              `json:"sent"`
	Failed   int              `json:"failed"`
	FailedBy map[string]int64 `json:"failedBy"`
	Refused  map[int]int64    `json:"refused"`
	Silent   *time.Time       `json:"unacknowledgedSince"` // Kafka acknowledges nothing of what is queued
}

// Letters are what this process has to do with dead letters.
type Letters struct {
	Topic    string           `json:"topic"`
	Sent     int64            `json:"sent"`
	From     map[string]int64 `json:"from"`
	Waiting  int              `json:"waiting"`
	Why      string           `json:"why"`
	Redriven int64            `json:"redriven"`
	Refused  int64            `json:"refused"`
}

// Key is a message's key as in a batch: text, or base64 of any other. Without both there is none.
type Key struct {
	Text   *string `json:"key,omitempty"`
	Base64 *string `json:"keyBase64,omitempty"`
}

func keyOf(key []byte) (k Key) {
	switch {
	case key == nil:
	case utf8.Valid(key):
		text := string(key)
		k.Text = &text
	default:
		text := base64.StdEncoding.EncodeToString(key)
		k.Base64 = &text
	}
	return k
}

// asBase64 begins a key that is shown as base64: one that is no text, and one that would be taken for such a one, or for none.
const (
	asBase64 = "base64:"
	noKey    = "–"
)

// KeyFrom is the key that String shows so, as fields of a call.
func KeyFrom(shown string) (map[string]any, error) {
	text, ok := strings.CutPrefix(shown, asBase64)
	if !ok {
		return map[string]any{"key": shown}, nil
	}
	if _, err := base64.StdEncoding.DecodeString(text); err != nil {
		return nil, fmt.Errorf("%q is no base64; a key that is text and begins with %s is written in base64, too, as -status shows it", text, asBase64)
	}
	return map[string]any{"keyBase64": text}, nil
}

// String is the key for people, in one line of printable text. KeyFrom takes it back.
func (k Key) String() string {
	unprintable := func(r rune) bool { return r == '\\' || !strconv.IsPrint(r) } // what a terminal is not shown as it is
	switch {
	case k.Text != nil && (strings.HasPrefix(*k.Text, asBase64) || *k.Text == noKey || strings.ContainsFunc(*k.Text, unprintable)):
		return asBase64 + base64.StdEncoding.EncodeToString([]byte(*k.Text))
	case k.Text != nil:
		return *k.Text
	case k.Base64 != nil:
		return asBase64 + *k.Base64
	}
	return noKey
}

// Skipped is a message of the skip log.
type Skipped struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	ID        string `json:"id"`
	Key
	Size     int        `json:"size"`
	Attempts int        `json:"attempts"`
	Reason   string     `json:"reason"`
	InDoubt  bool       `json:"inDoubt"`
	At       time.Time  `json:"skipped"`
	Resent   *time.Time `json:"resent"`
}

// Resent is what came of sending one of them again.
type Resent struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Delivered bool   `json:"delivered"`
	Reason    string `json:"reason"`
}

// Place is a partition, and where it goes on after a seek.
type Place struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    *int64 `json:"offset,omitempty"`
}

// Places, SkippedList, ResentList, SkipCount, Redriven and Audit are the whole answers.
type (
	Places struct {
		Partitions []Place `json:"partitions"`
		Note       string  `json:"note,omitempty"` // what of the topic is not among them
	}
	SkippedList struct {
		Skipped []Skipped `json:"skipped"`
		Next    *int64    `json:"next"` // where the next page begins; null: there is none
	}
	ResentList struct {
		Resent []Resent `json:"resent"`
	}
	SkipCount struct {
		Skipped int    `json:"skipped"`
		Note    string `json:"note,omitempty"` // where that is not what was asked for
	}
	Redriven struct {
		Sent    int `json:"sent"`
		Refused int `json:"refused"`
		Left    int `json:"left"`
	}
	Audit struct {
		Audit []forwarder.Moved `json:"audit"`
	}
)

// answer is the status as it goes out.
func answer(s forwarder.Status) Status {
	a := Status{State: s.State, Ready: s.Ready, Why: some(s.Why), Notes: some(s.Notes), Cluster: s.Cluster, Group: s.Group, InstanceID: s.InstanceID,
		Service: Service{Up: s.Service.Up, Hosts: []Host{}, InFlight: s.Service.Taken, Limit: s.Service.Limit, Waiting: s.Service.Waiting,
			Failing: s.Service.Failing, PausedUntil: moment(s.Service.Paused)},
		Partitions: []Partition{}, Letters: lettersOf(s.Letters)}
	for i, h := range s.Service.Hosts {
		host := Host{Up: h.Up, Since: moment(h.Since)}
		if i < len(s.Service.Names) {
			host.Host = s.Service.Names[i]
		}
		a.Service.Hosts = append(a.Service.Hosts, host)
	}
	for _, p := range s.Partitions {
		row := Partition{Topic: p.Topic, Partition: p.Number, Next: p.Next, Committed: known(p.Committed), End: known(p.End),
			OldestSeconds: p.Oldest.Seconds(), PerSecond: p.PerSecond, InFlight: p.InFlight, Waiting: max(0, p.Outstanding-p.InFlight),
			Failing: p.Failing, Paused: some(p.Paused), Bounded: p.Bounded, Stall: p.Stall, Blocked: []Blocked{}}
		if p.End >= 0 {
			lag, open := p.Lag()
			row.Lag, row.Open = &lag, &open
			if p.High > p.End {
				row.High = known(p.High)
			}
		}
		for _, b := range s.Blocked {
			if b.Partition == p.Partition {
				row.Blocked = append(row.Blocked, Blocked{b.Offset, keyOf(b.Key), b.Attempts, b.Status, b.Reason, b.Answer, b.Since.UTC()})
			}
		}
		a.Partitions = append(a.Partitions, row)
	}
	return a
}

// lettersOf are null where there is no topic for them.
func lettersOf(s forwarder.LettersStatus) *Letters {
	if s.Topic == "" {
		return nil
	}
	l := Letters{Topic: s.Topic, From: map[string]int64{}, Waiting: s.Waiting, Why: s.Why, Redriven: s.Redriven, Refused: s.Refused}
	for topic, n := range s.Sent {
		l.From[topic] = n
		l.Sent += n
	}
	return &l
}

// some is the list, never null.
func some(list []string) []string { return append([]string{}, list...) }

// known is an offset, null where there is none yet.
func known(offset int64) *int64 {
	if offset < 0 {
		return nil
	}
	return &offset
}

// moment is a time in UTC, null where it is zero.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
