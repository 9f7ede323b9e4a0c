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
)

// Dump prints what the file in dir says. It only reads, takes no lock, and works while a process writes.
func Dump(w io.Writer, dir string) error {
	m, err := peek(dir)
	for more := 3; err != nil && more > 0; more-- {
		m, err = peek(dir) // a writer may have turned from half to half in the middle of the reading
	}
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
	_, err = w.Write(out)
	return err
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
	return load(newFileDisk(f), filePath(dir))
}

func (t *slot) describe(out []byte) []byte {
	s, k := t.saved(), t.key
	out = fmt.Appendf(out, "%s/%d cluster=%s topic-id=%s group=%s next=%d done=%s committed=%d ceiling=%d in-doubt-below=%d lineage=%x at=%s\n",
		k.Topic, k.Partition, cmp.Or(k.Cluster, "-"), cmp.Or(k.TopicID, "-"), cmp.Or(k.Group, "-"), s.Next,
		cmp.Or(s.Done.String(), "-"), s.Committed, t.ceiling, s.Ceiling, s.Lineage, utc(t.at))
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
