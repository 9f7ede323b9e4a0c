package forwarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/kafka"
)

// How often the cluster is asked whether it is there and has the topics. A question keeps Go's monitor awake for some 10 ms: it waits
// inside the client.
const (
	watchTime = 2 * time.Second
	calmTime  = 20 * time.Second // while all is well, nothing is delivered, and the client has reported no error for so long
)

// news is what watch does not wait for while it asks seldom. The poll goroutine and the committer tell it; watch itself notes what it finds.
type news struct {
	bad  atomic.Int64 // unix nanoseconds: when the client has reported an error last
	come chan struct{}
}

// error notes that the client has reported one.
func (n *news) error() {
	n.bad.Store(time.Now().UnixNano())
	n.tell()
}

func (n *news) tell() { poke(n.come) }

// wait returns after so long, with what has come, or when ctx ends.
func (n *news) wait(ctx context.Context, atMost time.Duration) {
	t := time.NewTimer(atMost)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-n.come:
	case <-t.C:
	}
}

// calm tells whether the cluster need be asked only once in a while.
func (f *Forwarder) calm() bool {
	return f.committer.rests.Load() && time.Since(time.Unix(0, f.news.bad.Load())) > calmTime
}

// watch asks the cluster through a connection of its own, so that readiness can name what is missing: the consumer
// itself is silent about a broker that does not answer and about a topic that is gone.
func (f *Forwarder) watch(ctx context.Context) {
	contact := contact{}
	contact.made(f.cfg.Credentials)
	for well := false; ; {
		question, cancel := context.WithTimeout(ctx, kafka.QuestionTime)
		topics, err := f.topics(question, f.cfg.Topics)
		cancel()
		if ctx.Err() != nil {
			return
		}
		answered := err == nil || errors.Is(err, kafka.ErrNoTopic) || errors.Is(err, kafka.ErrForbidden)
		contact.check(ctx, f, answered)
		f.consumer.compare(ctx, topics) // what is told of some topics, whatever is of others
		was := well
		well = err == nil
		switch {
		case !answered && was:
			continue // it may be one broker of several that is silent: the next question goes to another one
		case !answered:
			f.health.noBroker(f.cfg.Brokers, err)
		default:
			if err != nil {
				err = fmt.Errorf("waiting for the topic: %s", oneLine(err))
			}
			f.health.watched(broker, nil)
			f.health.watched(topic, err)
			well = f.watchLetters(ctx) && well
		}
		if well && f.calm() {
			f.news.wait(ctx, untilNext(calmTime))
		} else if sleep(ctx, untilNext(watchTime)) != nil {
			return
		}
	}
}

// watchLetters names a dead letter topic that is not there, or not for this process, before the first letter has to wait for it. It tells
// whether all is well with it.
func (f *Forwarder) watchLetters(ctx context.Context) bool {
	if f.cfg.DeadLetterTopic == "" {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, kafka.QuestionTime)
	defer cancel()
	_, err := f.parts.Cluster.Topics(ctx, []string{f.cfg.DeadLetterTopic}, kafka.Write)
	switch {
	case err == nil:
		f.health.watched(letters, nil)
	case errors.Is(err, kafka.ErrNoTopic), errors.Is(err, kafka.ErrForbidden):
		f.health.watched(letters, fmt.Errorf("waiting for the dead letter topic: %s", oneLine(err)))
	}
	return err == nil
}

// oneLine is what errors.Join would put in several.
func oneLine(err error) string { return strings.ReplaceAll(fmt.Sprint(err), "\n", "; ") }

// noReason stands where the client knows none: for it, a connection that the other end closes is a matter of course.
const noReason = "it does not answer, or closes the connection (does its listener want TLS or a password? see KPUSH_SECURITY_PROTOCOL)"

// hears takes in why a client has reached no broker, which may be one of several: watch finds out whether another one answers.
func (s *health) hears(at string, err error) {
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, kafka.ErrAllDown) {
		s.with(func() { s.detail, s.heard = unreachable(at, err), time.Now() })
	}
}

// unreachable is why a broker cannot be reached, and who is wrong about its address where that is not the user's.
func unreachable(at string, err error) string {
	why := err.Error()
	if told, ok := errors.AsType[kafka.AddressError](err); ok && !slices.Contains(strings.Split(strings.ReplaceAll(at, " ", ""), ","), told.Address) {
		why += "; Kafka itself gives the address " + told.Address + " for a broker (its advertised.listeners), KPUSH_BROKERS does not have it"
	}
	return why
}

// heardTime is how long the client's reason counts: it repeats itself twice a minute.
const heardTime = time.Minute

// noBroker notes that no broker answers, with the newest reason that librdkafka gave.
func (s *health) noBroker(at string, err error) {
	s.hears(at, err)
	detail := ""
	s.with(func() {
		if time.Since(s.heard) < heardTime {
			detail = s.detail
		}
	})
	sentence := "waiting for a broker at " + at
	if detail == "" && errors.Is(err, context.DeadlineExceeded) {
		detail = noReason
	}
	if detail != "" {
		sentence += ": " + detail
	}
	s.watched(broker, errors.New(sentence))
}

// notAdmitted says that the group does not take this process as a member.
func notAdmitted(group string, err error) error {
	return fmt.Errorf("waiting for a place in group %s: %w", group, err)
}
