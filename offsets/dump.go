package offsets

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/kpush/kpush/volume"
)

// legend explains the words of a Dump. Each of its lines begins with a #, so that whoever reads by line passes over it.
const legend = `# What the words mean. First line: the file. Then a line for each partition; below it a line for each message that was tried and has no outcome yet.
# format, generation, half, frames   how the file is written: in two halves in turn, one generation each; frames: records in this half, of those it has room for
# torn             newest records that a crash left half written; they are left out
# stopped cleanly  the process has ended in order; else it runs, or was killed
# volume           the file's own id; KPUSH_INSTANCE_ID is made of it
# cluster, topic-id, group   whose offsets these are; they apply to no other cluster, group or topic, a topic that was deleted and made again included
# next             every offset below has its outcome: delivered, or skipped. The first message that has not
# done             offsets above next that have their outcome already, first-last; they are not sent again. -: none
# replay           offsets from next on that were done before an operator had it begin anew: they come with Kafka-Replay: true. -: none
# committed        the offset that Kafka has acknowledged last; it may be behind next by one KPUSH_COMMIT_INTERVAL. -1: none
# ceiling          no request has gone out for an offset at or above it; after a power cut what lies below counts as in doubt. 0: none
# in-doubt-below   what is below and has no outcome may have been sent: the power was cut, or another machine died. 0: nothing
# lineage          a history of this partition; an operator's reset begins another one, to which nothing of before applies
# at               when the newest of this was written
# attempts         how often the message was sent; message faults: how many of these count towards KPUSH_RETRY_NUMS
# in doubt         an attempt of it may have reached the service, which did not say so: it comes again with Kafka-In-Doubt: true
`

// Dump prints what the file in dir says, and what its words mean. It only reads, takes no lock, and works while a process writes.
func Dump(w io.Writer, dir string) error {
	m, err := read(dir)
	if err != nil {
		return err
	}
	state := "in use, or not stopped cleanly"
	if m.clean {
		state = "stopped cleanly"
	}
	out := fmt.Appendf(nil, "%s: format %d, volume %016x, created %s, half %s, generation %d, %d frames of %d, %d torn, %s\n",
		filePath(dir), version, m.header.volume, utc(m.header.created), "AB"[m.half:m.half+1], m.header.generation, m.end,
		m.header.capacity(), m.torn, state)
	for _, k := range slices.SortedFunc(maps.Keys(m.current), compareKeys) {
		out = m.current[k].describe(out)
	}
	_, err = w.Write(append(out, legend...))
	return err
}

// read is what the file in dir says, also while a process writes.
func read(dir string) (*image, error) {
	m, err := peek(dir)
	for more := 3; err != nil && more > 0; more-- {
		m, err = peek(dir) // a writer may have turned from half to half in the middle of the reading
	}
	return m, err
}

func peek(dir string) (*image, error) {
	f, err := os.Open(filePath(dir))
	if st, _ := os.Stat(dir); st != nil && st.IsDir() && errors.Is(err, fs.ErrNotExist) {
		return nil, &OpenError{Reason: ErrVolume, Path: dir,
			Sentence: dir + " holds no offsets file: no kpush has run there yet, or only with guarantee 1, which keeps none"}
	}
	if err != nil {
		return nil, unusable(dir, err)
	}
	defer f.Close()
	b, err := load(volume.New(f), filePath(dir))
	if err != nil {
		return nil, err
	}
	return parse(b, filePath(dir))
}

func (t *slot) describe(out []byte) []byte {
	s, k := t.saved(), t.key
	out = fmt.Appendf(out, "%s/%d cluster=%s topic-id=%s group=%s next=%d done=%s replay=%s committed=%d ceiling=%d in-doubt-below=%d lineage=%x at=%s\n",
		k.Topic, k.Partition, cmp.Or(k.Cluster, "-"), cmp.Or(URLSafe(k.TopicID), "-"), cmp.Or(k.Group, "-"), s.Next,
		cmp.Or(s.Done.String(), "-"), cmp.Or(s.Had.TrimBelow(s.Next).String(), "-"), s.Committed, t.ceiling, s.Ceiling, s.Lineage, utc(t.at))
	for _, a := range s.Attempts {
		doubt := ""
		if a.InDoubt {
			doubt = " in doubt"
		}
		out = fmt.Appendf(out, "  offset %d: attempts %d, message faults %d%s\n", a.Offset, a.Number, a.Faults, doubt)
	}
	return out
}

func utc(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.RFC3339) }
