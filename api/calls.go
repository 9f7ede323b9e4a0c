package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/kafka"
)

// reply is what a command answers: JSON, and a sentence for the page.
type reply struct {
	body any
	said string
}

// decode reads a whole body into a call's struct: an unknown field, or anything behind the object, is a mistake. So is a null, which a
// script sends for a name it did not find: to leave the field out would widen the call to all partitions.
func decode(body []byte, call any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	begin, _, _ := strings.Cut(strings.TrimLeft(string(body), " \t\r\n"), "{")
	err := d.Decode(call)
	switch _, more := d.Token(); {
	case begin != "" || len(body) == 0:
		return refuse(http.StatusBadRequest, "the body has to be a JSON object, such as {}")
	case err != nil:
		return refuse(http.StatusBadRequest, "the body cannot be taken: %s", strings.TrimPrefix(oneLine(err), "json: "))
	case more != io.EOF:
		return refuse(http.StatusBadRequest, "the body goes on behind its JSON object")
	}
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(body, &fields) // it is an object
	for name, value := range fields {
		if string(value) == "null" {
			return refuse(http.StatusBadRequest, "%s is null: say what it is, or leave it out", name)
		}
	}
	return nil
}

// partitions are what a call is about: all of them, a topic's, or one.
type partitions struct {
	Topic     *string `json:"topic"`
	Partition *int32  `json:"partition"`
}

// named are topic and partition as the forwarder takes them.
func (p partitions) named() (topic string, number int32, err error) {
	switch {
	case p.Topic != nil && *p.Topic == "":
		return "", 0, refuse(http.StatusBadRequest, "topic is empty")
	case p.Partition != nil && p.Topic == nil:
		return "", 0, refuse(http.StatusBadRequest, "a partition needs its topic")
	case p.Partition != nil && *p.Partition < 0:
		return "", 0, refuse(http.StatusBadRequest, "a partition's number is not negative")
	case p.Topic == nil:
		return "", forwarder.All, nil
	case p.Partition == nil:
		return *p.Topic, forwarder.All, nil
	}
	return *p.Topic, *p.Partition, nil
}

// message is one message of a topic.
type message struct {
	partitions
	Offset *int64 `json:"offset"`
}

func (m message) position() (at kafka.Position, err error) {
	at.Topic, at.Number, err = m.named()
	switch {
	case err != nil:
	case m.Topic == nil || m.Partition == nil || m.Offset == nil:
		err = refuse(http.StatusBadRequest, "a message is named by topic, partition and offset")
	case *m.Offset < 0:
		err = refuse(http.StatusBadRequest, "an offset is not negative")
	default:
		at.Offset = *m.Offset
	}
	return at, err
}

func (a *API) skip(ctx context.Context, who string, body []byte) (reply, error) {
	var call struct {
		message
		Key       *string `json:"key"`
		KeyBase64 []byte  `json:"keyBase64"`
		Blocked   bool    `json:"blocked"`
	}
	if err := decode(body, &call); err != nil {
		return reply{}, err
	}
	s := forwarder.Selection{Blocked: call.Blocked, Key: call.KeyBase64}
	if call.Key != nil {
		s.Key = []byte(*call.Key)
	}
	var err error
	switch byKey := s.Key != nil; {
	case call.Key != nil && call.KeyBase64 != nil,
		call.Blocked && (byKey || call.Topic != nil || call.Partition != nil || call.Offset != nil),
		byKey && (call.Topic == nil || *call.Topic == "" || call.Partition != nil || call.Offset != nil):
		err = refuse(http.StatusBadRequest, `name one message by topic, partition and offset, those of a key by topic and key (or keyBase64), or all that are blocked: {"blocked":true}`)
	case byKey:
		s.Topic = *call.Topic
	case !call.Blocked:
		s.Position, err = call.position()
	}
	if err != nil {
		return reply{}, err
	}
	came, err := a.op.Skip(ctx, who, s)
	return reply{SkipCount(came), fmt.Sprintf("Skipped: %d.%s", came.Skipped, remark(came.Note))}, err
}

func (a *API) pause(ctx context.Context, who string, body []byte) (reply, error) {
	return a.suspend(ctx, who, body, "Paused", a.op.Pause)
}

func (a *API) resume(ctx context.Context, who string, body []byte) (reply, error) {
	return a.suspend(ctx, who, body, "Resumed", a.op.Resume)
}

func (a *API) suspend(ctx context.Context, who string, body []byte, did string, do func(context.Context, string, string, int32) ([]kafka.Partition, error)) (reply, error) {
	var call partitions
	if err := decode(body, &call); err != nil {
		return reply{}, err
	}
	topic, number, err := call.named()
	if err != nil {
		return reply{}, err
	}
	all, err := do(ctx, who, topic, number)
	list, said := a.places(ctx, topic, number, len(all), err), []string{}
	if here := a.op.PausedHere(); err == nil && did == "Paused" && here != "" {
		list.Note = strings.TrimPrefix(list.Note+"; "+here, "; ")
	}
	for _, p := range all {
		list.Partitions = append(list.Partitions, Place{Topic: p.Topic, Partition: p.Number})
		said = append(said, p.String())
	}
	return reply{list, did + ": " + names(said) + "." + remark(list.Note)}, err
}

// places is a list to be filled of what a call was done to. Each replica acts on the partitions that it has: where that is not the whole
// of what was named, the list says so.
func (a *API) places(ctx context.Context, topic string, number int32, done int, err error) Places {
	list := Places{Partitions: []Place{}}
	if err == nil && number == forwarder.All {
		list.Note = a.op.Rest(ctx, topic, done)
	}
	return list
}

// remark is a sentence behind another one, where there is any.
func remark(note string) string {
	if note == "" {
		return ""
	}
	return " Note: " + note + "."
}

func (a *API) seek(ctx context.Context, who string, body []byte) (reply, error) {
	var call struct {
		message
		Timestamp json.RawMessage `json:"timestamp"`
		To        string          `json:"to"`
	}
	if err := decode(body, &call); err != nil {
		return reply{}, err
	}
	topic, number, err := call.named()
	if err != nil {
		return reply{}, err
	}
	given := 0
	for _, is := range []bool{call.Offset != nil, call.Timestamp != nil, call.To != ""} {
		if is {
			given++
		}
	}
	to := forwarder.Target{Beginning: call.To == "beginning", End: call.To == "end"}
	switch {
	case call.Topic == nil:
		return reply{}, refuse(http.StatusBadRequest, "a seek needs a topic")
	case given != 1 || call.To != "" && !to.Beginning && !to.End:
		return reply{}, refuse(http.StatusBadRequest, `say where to, once: "offset", "timestamp" (RFC 3339, or milliseconds), or "to": "beginning" or "end"`)
	case call.Offset != nil && *call.Offset < 0:
		return reply{}, refuse(http.StatusBadRequest, "an offset is not negative")
	case call.Offset != nil:
		to.Offset = *call.Offset
	case call.Timestamp != nil:
		if to.Time, err = timestamp(call.Timestamp); err != nil {
			return reply{}, err
		}
	}
	all, err := a.op.Seek(ctx, who, topic, number, to)
	list, said := a.places(ctx, topic, number, len(all), err), []string{}
	for _, p := range all {
		list.Partitions = append(list.Partitions, Place{p.Topic, p.Number, &p.Offset})
		said = append(said, fmt.Sprintf("%s at %d", p.Partition, p.Offset))
	}
	return reply{list, "Goes on: " + names(said) + "." + remark(list.Note)}, err
}

// timestamp is RFC 3339, or milliseconds since 1970.
func timestamp(value json.RawMessage) (t time.Time, err error) {
	var text string
	if json.Unmarshal(value, &text) == nil {
		if t, err = Timestamp(text); err != nil {
			err = refuse(http.StatusBadRequest, "%s", err)
		}
		return t, err
	}
	var ms int64
	if json.Unmarshal(value, &ms) != nil || ms < 0 || ms > math.MaxInt64/int64(time.Millisecond) {
		return t, refuse(http.StatusBadRequest, `a timestamp is RFC 3339, such as "2026-01-31T08:00:00Z", or milliseconds since 1970`)
	}
	return time.UnixMilli(ms), nil
}

// Timestamp reads one of RFC 3339, whose t and z may be small letters.
func Timestamp(text string) (t time.Time, err error) {
	switch {
	case t.UnmarshalText([]byte(strings.ToUpper(text))) != nil:
		err = errors.New(`a timestamp is RFC 3339, such as "2026-01-31T08:00:00Z"`)
	case t.UnixMilli() < 0:
		err = fmt.Errorf("%s is before 1970: Kafka has no messages of then", shown(text))
	}
	return t, err
}

func (a *API) resend(ctx context.Context, who string, body []byte) (reply, error) {
	var call struct {
		message
		All bool `json:"all"`
	}
	if err := decode(body, &call); err != nil {
		return reply{}, err
	}
	var which []kafka.Position
	switch at, err := call.position(); {
	case call.All && call.message != (message{}):
		return reply{}, refuse(http.StatusBadRequest, `name one message by topic, partition and offset, or all: {"all":true}`)
	case call.All:
	case err != nil:
		return reply{}, err
	default:
		which = []kafka.Position{at}
	}
	all, err := a.op.Resend(ctx, who, which)
	list, failed := ResentList{[]Resent{}}, []string{}
	for _, r := range all {
		list.Resent = append(list.Resent, Resent{r.Topic, r.Number, r.Offset, r.Delivered, r.Reason})
		if !r.Delivered {
			failed = append(failed, fmt.Sprintf("%s/%d: %s", r.Partition, r.Offset, r.Reason))
		}
	}
	if errors.Is(err, context.DeadlineExceeded) && len(all) > 0 {
		err = refuse(http.StatusServiceUnavailable, "the time is over; delivered: %d of %d that were sent. Repeat it for the rest", len(all)-len(failed), len(all))
	}
	said := fmt.Sprintf("Delivered: %d of %d.", len(all)-len(failed), len(all))
	if len(failed) > 0 {
		said += " Not delivered: " + names(failed) + "."
	}
	return reply{list, said}, err
}

func (a *API) redrive(ctx context.Context, who string, body []byte) (reply, error) {
	var call struct {
		Limit *int `json:"limit"`
	}
	if err := decode(body, &call); err != nil {
		return reply{}, err
	}
	if call.Limit == nil || *call.Limit < 1 {
		return reply{}, refuse(http.StatusBadRequest, `say how many dead letters to send back at the most: {"limit":100}`)
	}
	came, err := a.op.Redrive(ctx, who, *call.Limit)
	said := fmt.Sprintf("Sent back: %d, refused: %d, left: %d.", came.Sent, came.Refused, came.Left)
	if err != nil && came != (forwarder.Redriven{}) {
		err = refuse(statusOf(err), "%s Then: %s", said, oneLine(err))
	}
	return reply{Redriven(came), said}, err
}

// names lists a few of many.
func names(all []string) string {
	const most = 5
	switch {
	case len(all) == 0:
		return "nothing"
	case len(all) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
	}
	return strings.Join(all, ", ")
}
