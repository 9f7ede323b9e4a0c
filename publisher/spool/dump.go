package spool

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/kpush/kpush/volume"
)

const legend = `# spool: what was answered with 202, and what Kafka has not acknowledged yet, of each topic
# records, bytes   not acknowledged; oldest: when the oldest of them was taken
# files            segments of the topic; position: of the oldest record, in bytes of all that the topic ever had in the spool
# refused          what Kafka does not take, as lines of refused.jsonl
`

// readOnly is a directory of which nothing is changed.
type readOnly struct{ dir }

func (d readOnly) Open(name string) (volume.File, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	return volume.New(f), nil
}

// Dump prints what the spool of a volume holds, and what the words mean; nothing where there is none. It only reads, and works while a
// process writes.
func Dump(w io.Writer, dirOfVolume string) error {
	d := readOnly{dir(Directory(dirOfVolume))}
	if _, err := os.Stat(string(d.dir)); os.IsNotExist(err) {
		return nil
	}
	all, err := look(d)
	for more := 3; err != nil && more > 0; more-- {
		all, err = look(d) // a writer may have removed a file in the middle of the reading
	}
	if err != nil {
		return fmt.Errorf("the spool %s cannot be used: %w", d.dir, err)
	}
	refused := int64(0)
	if st, err := os.Stat(d.path(refusedName)); err == nil {
		refused = st.Size()
	}
	out := fmt.Appendf(nil, "spool %s: format %d, refused %d bytes\n", d.dir, version, refused)
	for _, l := range all {
		oldest := "-"
		if l.records > 0 {
			oldest = l.oldest.UTC().Format(time.RFC3339)
		}
		out = fmt.Appendf(out, "spooled %s: records=%d bytes=%d oldest=%s files=%d position=%d\n", l.topic, l.records, l.end-l.mark.position, oldest, len(l.segments), l.mark.position)
	}
	_, err = w.Write(append(out, legend...))
	return err
}
