package forwarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// Headers of a dead letter: letterTopic is the first and letterRedrives the last of those that kpush adds to the record's own. A message
// that was sent back has letterRedrives, and letterInDoubt where it may have been sent back twice.
const (
	letterPrefix    = "kpush-dlq-"
	letterTopic     = letterPrefix + "topic"
	letterPartition = letterPrefix + "partition"
	letterOffset    = letterPrefix + "offset"
	letterTimestamp = letterPrefix + "timestamp"
	letterGroup     = letterPrefix + "group"
	letterRedrives  = letterPrefix + "redrives"
	letterInDoubt   = letterPrefix + "in-doubt"
)

// giveUp has a message where given-up messages go, for as long as that takes: only then it may count as done (F1). That is the dead letter
// topic where one is set, else the skip log, where what the service asks to skip goes in any case. false: the partition was stopped before.
func (d *delivery) giveUp(it *item) bool {
	if it.kept { // and is not on record, because the partition stopped
		return true
	}
	keep := d.logSkip
	if d.f.cfg.DeadLetterTopic != "" && it.verdict.Class != push.Skip {
		keep = d.bury
	}
	if err := keep(it); err != nil {
		d.p.rec.Doubt(it.doubt())
		return false
	}
	it.kept = true
	return true
}

// logSkip writes the message to the skip log. Its turn is kept meanwhile: a crash leaves no more in doubt than there are turns.
func (d *delivery) logSkip(it *item) error {
	for tries := 0; ; tries++ {
		err := d.f.skips.write(it)
		d.f.health.say(skipping, err)
		if err == nil {
			d.f.log.Warn("message skipped; it is in the skip log", it.where(), "reason", it.verdict.Reason, "attempts", it.attempt.Number, "faults", it.attempt.Faults)
			return nil
		}
		if tries == 0 {
			d.awaits(it, "the skip log")
		}
		if err := d.p.diskWait(d.p.soft, err); err != nil {
			d.f.health.say(skipping, nil) // whoever gets the partition has it
			return err
		}
	}
}

// buryTime is between two tries to write a dead letter.
const buryTime = time.Second

// bury writes the message to the dead letter topic. While that fails others have the turn: only what is in order behind it waits. What
// is under way at a stop is waited for, or the letter would come twice. A crash between Kafka's answer and the record makes it come twice.
func (d *delivery) bury(it *item) error {
	f := d.f
	for tries := 0; ; tries++ {
		at, err := f.produce(d.p.hard, f.letter(it))
		if err == nil {
			it.buried = true
			if tries > 0 {
				f.buried()
			}
			f.log.Warn("message given up; it is in the dead letter topic", it.where(), "reason", it.verdict.Reason, "attempts", it.attempt.Number,
				"letter", fmt.Sprintf("%s/%d", at.Partition, at.Offset))
			offsets.Crash("dead letter written, not recorded")
			return nil
		}
		err = fmt.Errorf("%s/%d is given up and cannot be written to the dead letter topic %s, so it waits: %w", it.Partition, it.Offset, f.cfg.DeadLetterTopic, err)
		if tries == 0 {
			d.awaitGrave(it)
		}
		f.health.say(burying, err)
		if f.health.every("dead letters", time.Minute) {
			f.log.Error("the dead letter topic takes no letter: messages that were given up wait", "error", err, "waiting", f.unburied.Load())
		}
		if err := sleep(d.p.soft, buryTime); err != nil {
			f.buried()
			return err
		}
	}
}

// produce writes a letter, or what one was made of. Where Kafka does not take that with the record's own time it goes with the one of now:
// since 4.0 a topic takes none that is more than an hour ahead, and nobody can change a record.
func (f *Forwarder) produce(ctx context.Context, r kafka.Record) (kafka.Produced, error) {
	at, err := f.parts.Letters.Produce(ctx, r)
	if errors.Is(err, kafka.ErrInvalid) && r.Timestamp > 0 {
		r.Timestamp = 0
		at, err = f.parts.Letters.Produce(ctx, r)
	}
	return at, err
}

// awaits has a message listed as one that keeps failing.
func (d *delivery) awaits(it *item, grave string) {
	d.fails(it)
	v := it.verdict
	v.Reason += "; it is given up, and waits for " + grave
	d.f.failures.note(it.failure, it.attempt.Number, v)
}

// awaitGrave has a message wait without its turn, as one that keeps failing: it is listed, it counts for the bounds, and a crash does not
// call it in doubt.
func (d *delivery) awaitGrave(it *item) {
	d.awaits(it, "the dead letter topic "+d.f.cfg.DeadLetterTopic)
	d.p.settled([]offsets.Attempt{it.attempt})
	d.f.unburied.Add(1)
	d.batch.Give()
}

// buried ends such a wait.
func (f *Forwarder) buried() {
	if f.unburied.Add(-1) == 0 {
		f.health.say(burying, nil)
		f.log.Info("the dead letter topic takes letters again")
	}
}

// letter is a message as it goes to the dead letter topic: the record as it was, and behind its headers why it is there. What is not
// known (a status, an answer, a record's time) is left out.
func (f *Forwarder) letter(it *item) kafka.Record {
	v := it.verdict
	own := slices.DeleteFunc(slices.Clone(it.Headers), func(h kafka.Header) bool { return h.Name == letterRedrives || h.Name == letterInDoubt })
	add := func(name string, value []byte) {
		own = append(own, kafka.Header{Name: letterPrefix + name, Value: value})
	}
	number := func(name string, n int64) { add(name, strconv.AppendInt(nil, n, 10)) }
	moment := func(name string, t time.Time) {
		if !t.IsZero() { // skipped before an attempt of this process
			add(name, t.UTC().AppendFormat(nil, "2006-01-02T15:04:05.000Z07:00"))
		}
	}
	add("topic", []byte(it.Topic))
	number("partition", int64(it.Partition.Number))
	number("offset", it.Offset)
	if it.Timestamp > 0 {
		number("timestamp", it.Timestamp)
	}
	add("group", []byte(it.Group))
	add("reason", []byte(v.Reason))
	if v.Status > 0 {
		number("status", int64(v.Status))
	}
	if v.Response != nil {
		add("response", v.Response)
	}
	number("attempts", int64(it.attempt.Number))
	moment("first-attempt-at", it.first)
	moment("last-attempt-at", it.last)
	number("redrives", int64(redrives(it.Headers)))
	return kafka.Record{Topic: f.cfg.DeadLetterTopic, Partition: kafka.AnyPartition, Timestamp: max(0, it.Timestamp), Key: it.Key, Value: it.Value, Headers: own, Batch: alone}
}

// redrives is how often a message was sent back, as its newest header says; what cannot be read counts as never.
func redrives(headers []kafka.Header) int {
	n, _ := strconv.Atoi(last(headers, letterRedrives))
	return max(0, n)
}

// last is the value of the newest header of a name, "" where there is none.
func last(headers []kafka.Header, name string) string {
	for _, h := range slices.Backward(headers) {
		if h.Name == name {
			return string(h.Value)
		}
	}
	return ""
}

// alone goes what nobody has asked the topic's bound for: Kafka refuses what is too large together.
const alone = 1

// original is a letter's record as it was before it was buried, sent back once more.
func original(m *kafka.Message, inDoubt bool) kafka.Record {
	from := len(m.Headers) - 1
	for from > 0 && m.Headers[from].Name != letterTopic {
		from--
	}
	headers := slices.Clone(m.Headers[:from])
	for _, h := range m.Headers[from:] { // a tool may have added its own
		if !strings.HasPrefix(h.Name, letterPrefix) {
			headers = append(headers, h)
		}
	}
	headers = append(headers, kafka.Header{Name: letterRedrives, Value: strconv.AppendInt(nil, int64(redrives(m.Headers)+1), 10)})
	if inDoubt {
		headers = append(headers, kafka.Header{Name: letterInDoubt, Value: []byte("true")})
	}
	timestamp, _ := strconv.ParseInt(last(m.Headers, letterTimestamp), 10, 64) // none: the record had none
	return kafka.Record{Topic: last(m.Headers, letterTopic), Partition: kafka.AnyPartition, Timestamp: max(0, timestamp), Key: m.Key, Value: m.Value, Headers: headers, Batch: alone}
}
