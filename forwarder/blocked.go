package forwarder

import (
	"context"
	"encoding/base64"
	"log/slog"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kpush/kpush/forwarder/push"
)

// Bounds of what the log says of messages that fail, are blocked, or are delivered at last: of each so many are named a minute, and one
// line counts the others.
const (
	burstMost = 5
	burstTime = time.Minute
	burstWait = time.Second // until the count, for a burst to be whole
)

// burst keeps them. A service that refuses hundreds of messages at once has one reason, not hundreds.
type burst struct {
	mu      sync.Mutex
	began   time.Time // the minute
	named   int       // in it
	more    int       // that no line has counted yet
	counted time.Time // when the newest one did
}

// names tells whether one more may have a line of its own. Else it is counted: say says how many they are, once a minute at the most.
func (b *burst) names(say func(more int)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if now.Sub(b.began) >= burstTime {
		b.began, b.named = now, 0
	}
	if b.named < burstMost {
		b.named++
		return true
	}
	if b.more++; b.more == 1 {
		time.AfterFunc(max(burstWait, burstTime-now.Sub(b.counted)), func() {
			b.mu.Lock()
			more := b.more
			b.more, b.counted = 0, time.Now()
			b.mu.Unlock()
			say(more)
		})
	}
	return false
}

// level is loud where one more may have a line of its own, else that of debug.
func (b *burst) level(loud slog.Level, say func(more int)) slog.Level {
	if b.names(say) {
		return loud
	}
	return slog.LevelDebug
}

// loud is what the log says of many messages at once: at level debug it says each.
type loud struct{ failed, slow, blocked, doubtful, recovered burst }

// sayFailed has the log say the first failure of a message.
func (d *delivery) sayFailed(about []any) {
	log := d.f.log
	level := d.f.loud.failed.level(slog.LevelWarn, func(more int) {
		log.Warn("more deliveries failed for the first time than the log names", "more", more)
	})
	log.Log(context.Background(), level, "delivery failed, will be retried", about...)
}

// saySlow has it say an attempt that took longer than KPUSH_SLOW_TIME.
func (d *delivery) saySlow(it *item, took time.Duration) {
	log := d.f.log
	level := d.f.loud.slow.level(slog.LevelWarn, func(more int) {
		log.Warn("more deliveries were slow than the log names", "more", more)
	})
	log.Log(context.Background(), level, "slow delivery", it.where(), "took", took.String(), "verdict", it.verdict.Class.String())
}

// sayRecovered has it say the end of failures, or of a doubt that an earlier life has left.
func (d *delivery) sayRecovered(it *item) {
	log, said := d.f.log, "delivered after failures"
	if it.failure == nil && it.InDoubt {
		said = "delivered; it was in doubt, so the service may have had it before"
	}
	level := d.f.loud.recovered.level(slog.LevelInfo, func(more int) {
		log.Info("more messages that had failed or were in doubt are delivered than the log names", "more", more)
	})
	log.Log(context.Background(), level, said, it.where(), "attempts", it.attempt.Number)
}

// sayDoubtful has it name a message that waits for KPUSH_CONFIRM_URL, and what the question got.
func (d *delivery) sayDoubtful(it *item, v push.Verdict) {
	log := d.f.log
	level := d.f.loud.doubtful.level(slog.LevelError, func(more int) {
		log.Error("more messages in doubt wait for KPUSH_CONFIRM_URL than the log names", "more", more)
	})
	log.Log(context.Background(), level, "KPUSH_CONFIRM_URL does not say whether the service has a message in doubt: it is asked again, and the message waits; kpush -skip TOPIC/PARTITION/OFFSET gives it up",
		it.where(), "reason", v.Reason, "answer", v.Answer)
}

// sayBlocked has the log name a message that keeps failing, with all that an operator needs to find it and to decide about it.
func (d *delivery) sayBlocked(it *item, v push.Verdict) {
	log := d.f.log
	if !d.f.loud.blocked.names(func(more int) {
		log.Error("more messages are blocked than the log names; /readyz and kpush -status say how many there are",
			"more", more, "blocked", len(d.f.failures.blocked()))
	}) {
		return
	}
	verdict := v.Class.String()
	if it.failure.Doubtful {
		verdict = "in doubt"
	}
	about := []any{it.where(), keyOf(it.Key), "status", v.Status, "verdict", verdict, "reason", v.Reason, "answer", v.Answer,
		"attempts", it.failure.Attempts, "since", it.failure.Since.UTC().Format(time.RFC3339)}
	switch {
	case it.failure.Doubtful:
		log.Error("blocked: the message is in doubt and waits for KPUSH_CONFIRM_URL, which still does not say whether the service has it (status and answer are the question's): look at that URL; kpush -skip TOPIC/PARTITION/OFFSET or SIGUSR1 gives the message up", about...)
	case v.Class == push.ServiceFault:
		log.Error("blocked: the message has failed ten times by faults of the service, not of its own: look at the service (a handler that throws breaks its connection: catch it, and answer 500), and at KPUSH_URL, KPUSH_HOST, KPUSH_PORT and KPUSH_SERVICE_TOKEN", about...)
	case v.Class == push.Busy:
		log.Error("blocked: the service is busy, and has not taken the message in ten attempts: that is no fault of the message, which goes as soon as the service takes it; to skip it does not help while others get the same answer: look at the service", about...)
	default:
		log.Error("blocked: the message keeps failing and holds up what comes behind it; kpush -skip TOPIC/PARTITION/OFFSET or SIGUSR1 skips it", about...)
	}
}

// keyMost is how many bytes of a key the log shows.
const keyMost = 200

// keyOf is a message's key for the log: as it is where it is text, else in base64 as in the header Kafka-Key, and nothing where it has none.
func keyOf(key []byte) slog.Attr {
	if key == nil {
		return slog.Attr{}
	}
	cut := key[:min(len(key), keyMost)]
	text, about := string(cut), []any(nil)
	if !isText(text) {
		text, about = base64.StdEncoding.EncodeToString(cut), append(about, "key_encoding", "base64")
	}
	if len(cut) < len(key) {
		about = append(about, "key_bytes", len(key))
	}
	return slog.Group("", append([]any{"key", text}, about...)...)
}

// isText tells whether people can read s on a line.
func isText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
