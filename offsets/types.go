package offsets

import (
	"cmp"
	"log/slog"
	"strings"
	"time"
)

// Key names whose offsets these are. Facts of one Key never apply to another.
type Key struct {
	Cluster, Group, Topic string
	TopicID               string // "" where the cluster has none
	Partition             int32
}

// Remade tells whether a topic with the second id was made under the name of one with the first: both are known, and differ.
func Remade(was, is string) bool { return was != "" && is != "" && was != is }

// URLSafe is a topic id as Kafka's tools write it, which is how people see it. The file and the marks have it in standard base64, whose
// slashes would part a message's id.
func URLSafe(topicID string) string {
	return strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(topicID, "="))
}

// Sync says when a record reaches the disk. The zero value is always: a write returns only when it is on disk, many writers
// share a sync.
type Sync struct {
	Window   time.Duration // sync this long after the first write; negative: leave it to the operating system
	Unsynced int           // with a window: so many finished offsets may be off disk before a write waits; 0 means 128
}

// DefaultSync survives kill -9 with every record, a power cut with all but the newest 128, of the last 50 ms.
var DefaultSync = Sync{Window: 50 * time.Millisecond, Unsynced: 128}

// Options of Open and InMemory. The zero value is good.
type Options struct {
	Sync Sync
	Now  func() time.Time // nil: time.Now
	Log  *slog.Logger     // nil: slog.Default

	// Group and Topics are what this process consumes: what the file knows of that is never forgotten.
	Group  string
	Topics []string

	half   int64           // size of a half when the file is created; 0: 4 MiB
	boot   string          // "": the running system's boot id
	random func() uint64   // nil: the system's
	wrap   func(disk) disk // nil: the file itself
	idle   bool            // no goroutine: whoever tests calls tick
}

// complete fills in what was left out.
func (o Options) complete() Options {
	o.Sync.Unsynced = cmp.Or(o.Sync.Unsynced, 128)
	o.Log = cmp.Or(o.Log, slog.Default())
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.boot == "" {
		o.boot = bootID()
	}
	if o.random == nil {
		o.random = random
	}
	return o
}

// Saved is what the file knows of a Key.
type Saved struct {
	Next      int64     // every offset below has its final outcome, or is not this group's business
	Done      Ranges    // finished at or above Next
	Had       Ranges    // finished in earlier lineages, or below Next in this one, as far as the file knows
	Attempts  []Attempt // unfinished messages that were tried, or may have been, by offset
	Ceiling   int64     // >0 only if intents may have been lost: any unfinished offset below may have been sent
	Unvouched bool      // the power was cut, and nothing was ever synced (Sync.Window < 0): intents may be lost, and Ceiling, too
	Committed int64     // the newest offset whose commit Kafka acknowledged, -1 = none
	Lineage   uint64    // see Start
	At        time.Time // of the newest fact
}

// Attempt is what is known of the attempts at one offset.
type Attempt struct {
	Offset  int64
	Number  int  // attempts started
	Faults  int  // message faults so far
	InDoubt bool // one of them may have reached the service
}

// Start is what a new assignment begins with.
type Start struct {
	Next      int64
	Done      Ranges
	Attempts  []Attempt
	Ceiling   int64  // unfinished offsets below it are in doubt
	Lineage   uint64 // the same as Saved.Lineage: the facts of the file go on. Another: they never apply again
	Committed int64
	Had       Ranges // finished before, to be said of what comes again: nothing is kept back for it
}

// InDoubt counts the messages below end that may have reached the service although nothing says that they are done.
func (s Start) InDoubt(end int64) (n int64) {
	above := max(s.Next, min(s.Ceiling, end))
	n = above - s.Next
	for _, r := range s.Done {
		n -= max(0, min(r.To, above)-max(r.From, s.Next))
	}
	for _, a := range s.Attempts {
		if a.InDoubt && a.Offset >= above && a.Offset < end && !s.Done.Contains(a.Offset) {
			n++
		}
	}
	return n
}
