package simulation

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	defenceTime = flag.Duration("defences", 0, "take each defence out, and run histories without it for so long at the most; 0: do not")
	only        = flag.String("only", "", "with -defences: those whose name this regular expression fits")
)

// defence is a line of the program without which it is wrong: old is taken out, or replaced by less.
type defence struct{ name, file, old, less string }

var defences = []defence{
	{"a message in doubt is flagged", "forwarder/item.go", "it.InDoubt = it.attempt.InDoubt\n", "it.InDoubt = false\n"},
	{"an attempt that was interrupted is in doubt", "forwarder/item.go", "it.attempt.InDoubt = it.attempt.InDoubt || v.InDoubt && v.Class != push.Delivered", "_ = v.InDoubt"},
	{"an intent that the file has without an end is in doubt", "offsets/image.go", "InDoubt: f.kind == intentKind || f.flags", "InDoubt: f.flags"},
	{"a commit's mark carries a ceiling", "forwarder/commit.go", "m.Ceiling, started = p.ceiling.mark(next, goesOn && store.Keeps())", "_, started = p.ceiling.mark(next, goesOn && store.Keeps())\n	m.Ceiling = 0"},
	{"no request passes the ceiling that Kafka has", "forwarder/ceiling.go", "case offset >= c.at:", "case offset >= c.at && false:"},
	{"the ceiling of whoever was before is handed on", "forwarder/ceiling.go", "if c.inherits > next {", "if false {"},
	{"another machine's ceiling is believed", "forwarder/start/decide.go", "	d.Start = offsets.Start{Next: m.Offset, Done: m.Done, Attempts: m.Attempts, Ceiling: m.Ceiling,", "	d.Start = offsets.Start{Next: m.Offset, Done: m.Done, Attempts: m.Attempts,"},
	{"another machine's doubts are believed", "forwarder/start/decide.go", "	d.Start = offsets.Start{Next: m.Offset, Done: m.Done, Attempts: m.Attempts, Ceiling: m.Ceiling,", "	d.Start = offsets.Start{Next: m.Offset, Done: m.Done, Ceiling: 0,"},
	{"an older copy of the volume is known", "forwarder/start/decide.go", "older := own && m.Edition != \"\" && !k.Holds(m.Edition)", "older := false"},
	{"a mark of this lineage is joined with the file", "forwarder/start/decide.go", "		d.fromSaved(k)\n		d.join(k, m)", "		d.fromSaved(k)"},
	{"what a file that was never synced knows is not believed", "forwarder/start/decide.go", "&& !k.Saved.Unvouched &&", "&&"},
	{"that nothing was synced is remembered", "offsets/image.go", "t.doubt, t.unvouched = max(t.doubt, f.offset), f.flags&unvouchedFlag != 0", "t.doubt = max(t.doubt, f.offset)"},
	{"after a power cut the ceilings on the disk are doubt", "offsets/open.go", "t.doubt = max(t.doubt, t.ceiling)", "_ = t.ceiling"},
	{"a ceiling is on the disk before a request passes", "offsets/record.go", "err = p.usable(p.store.covered(p.slot, seq, highest))", "err = p.usable(nil)"},
	{"a power cut is known by the boot id", "offsets/open.go", "m.header.boot != s.opt.boot || m.hole", "m.hole"},
	{"what a failed sync took from memory is missed", "offsets/open.go", "m.header.boot != s.opt.boot || m.hole", "m.header.boot != s.opt.boot"},
	{"a drain waits for what is under way", "forwarder/partition.go", "	p.lanes.Wait()\n	over()", "	over()"},
	{"a revoke ends before its callback returns", "forwarder/rebalance.go", "	c.drain(ps, cause)\n", "	go c.drain(ps, cause)\n"},
	{"nothing of a lost partition is committed", "forwarder/rebalance.go", "		p.stage.Store(gone)\n", ""},
	{"nothing is committed after a hand-over", "forwarder/commit.go", "return p.stage.Load() != stage", "return false"},
	{"only what is on record is committed", "offsets/tracker.go", "for t.head < len(t.rows) && t.rows[t.head].progress == recorded {", "for t.head < len(t.rows) && (t.rows[t.head].progress == recorded || t.rows[t.head].stage == underWay) {"},
	{"what is done already goes no further", "forwarder/partition.go", "if !p.rec.Fetched(m.Offset) {", "if !p.rec.Fetched(m.Offset) && false {"},
	{"what was done out of order is in the mark", "forwarder/commit.go", "Offset: next, Done: done,", "Offset: next, Done: done[:0],"},
	{"attempts of a life before are counted as tried", "offsets/tracker.go", "	if a, ok := t.attempts[offset]; ok {\n		r.note(a, unsent)", "	if a, ok := t.attempts[offset]; ok && a.Offset < 0 {\n		r.note(a, unsent)"},
	{"doubt is handed over with what could not be recorded", "forwarder/pen.go", "		p.rec.Doubt(a)", "		_ = a"},
	{"a snapshot is on the disk before facts follow it", "offsets/journal.go", "		err = j.disk.Sync()\n", "		err = nil\n"},
	{"a failed write closes the file", "offsets/journal.go", "		case s.failed != nil:\n			return s.failed\n", ""},
	{"a member that stood still, or was cut off, proves itself first", "forwarder/lease.go", "func (l *lease) valid() bool { return !l.doubted.Load() && !l.stale() }", "func (l *lease) valid() bool { return true }"},
	{"a pause is handed on", "forwarder/commit.go", "Paused: p.gate.isShut(), ", ""},
	{"what is fetched again behind a reader is dropped", "forwarder/consumer.go", "	if p.reading.again && m.Offset < p.reading.next {\n		return", "	if false {\n		return"},
	{"gaps are passed over", "forwarder/consumer.go", "			p.rec.Advance(a.Offset)\n", ""},
	{"a lineage that went with the power is not overruled by the file", "forwarder/start/decide.go", "k.Holds(m.Edition) && !k.Saved.Unvouched:", "k.Holds(m.Edition):"},
	{"a commit of nothing proves nothing", "forwarder/commit.go", "case doubted && c.accepted > before:", "case doubted && (err == nil || c.accepted > before):"},
	{"right before a request its partition is looked at again", "forwarder/deliver.go", "	if err == nil && d.ctx().Err() != nil {", "	if false {"},
	{"a topic's id tells it from the one before", "forwarder/start/decide.go", "	if marked && k.earlier(m) {", "	if false {"},
	{"what was read under an old id is in doubt", "forwarder/open.go", "o.Start.Ceiling = max(o.Start.Ceiling, was.next)", "_ = was.next"},
	{"a seek begins another lineage", "forwarder/start/decide.go", "Next: *k.Asked, Committed: -1, Lineage: NewLineage()}", "Next: *k.Asked, Committed: -1, Lineage: m.Lineage}"},
	{"retention does not stall", "forwarder/start/decide.go", "k.Bounds.Oldest-1, gap))\n		d.Start.Next = k.Bounds.Oldest\n", "k.Bounds.Oldest-1, gap))\n"},
	{"a lost partition is cancelled", "forwarder/rebalance.go", "		c.lose(tps, errLost)", "		_ = c.lose"},
	{"a record waits for the disk", "offsets/record.go", "		err = p.store.await()\n", ""},
	{"a start is on the disk before it delivers", "offsets/store.go", "if err := s.flush(s.backlog.seq); err != nil || s.failed != nil {", "if err := error(nil); err != nil || s.failed != nil {"},
}

// TestEachDefenceIsMissed takes them out one at a time, and wants a history that fails.
func TestEachDefenceIsMissed(t *testing.T) {
	for _, d := range defences {
		path, less, err := d.takenOut()
		if err != nil {
			t.Errorf("%s: %v", d.name, err)
			continue
		}
		if fits, err := regexp.MatchString(*only, d.name); *defenceTime == 0 || err != nil || !fits {
			continue // make defences
		}
		took, how, err := missed(t, path, less)
		switch {
		case err != nil:
			t.Errorf("| %s | not tried: %v |", d.name, err)
		case how == "":
			t.Errorf("| %s | nobody has missed it in %v |", d.name, took.Round(time.Second))
		default:
			t.Logf("| %s | %v | %s |", d.name, took.Round(time.Second), how)
		}
	}
}

// lastWord is the seed, which is the history's number, too.
var lastWord = regexp.MustCompile(`\d+ $`)

// takenOut is the file of the defence, and what it holds without it.
func (d defence) takenOut() (path, less string, err error) {
	if path, err = filepath.Abs(filepath.Join("..", d.file)); err != nil {
		return "", "", err
	}
	text, err := os.ReadFile(path)
	if n := strings.Count(string(text), d.old); err == nil && n != 1 {
		err = fmt.Errorf("%s has it %d times", d.file, n)
	}
	return path, strings.Replace(string(text), d.old, d.less, 1), err
}

// missed is how long it took until a history failed, and what failed first.
func missed(t *testing.T, path, less string) (took time.Duration, how string, err error) {
	dir := t.TempDir()
	without, overlay := filepath.Join(dir, "without.go"), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(without, []byte(less), 0o600); err != nil {
		return 0, "", err
	}
	list, _ := json.Marshal(map[string]map[string]string{"Replace": {path: without}})
	if err := os.WriteFile(overlay, list, 0o600); err != nil {
		return 0, "", err
	}
	binary := filepath.Join(dir, "simulation.test")
	if out, err := exec.Command("go", "test", "-vet=off", "-overlay", overlay, "-c", "-o", binary, ".").CombinedOutput(); err != nil {
		return 0, "", fmt.Errorf("%w\n%s", err, out)
	}
	began := time.Now()
	c := exec.Command(binary, "-test.run", "TestSimulate", "-for", defenceTime.String(), "-histories", "0", "-test.timeout", (*defenceTime + time.Minute).String(), "-test.outputdir", dir)
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if c.Run() == nil {
		return time.Since(began), "", nil
	}
	for line := range strings.Lines(said.String()) {
		if seed, what, ok := strings.Cut(line, "-shrink): "); ok {
			return time.Since(began), "history " + strings.TrimSpace(lastWord.FindString(seed)) + ": " + strings.TrimSpace(what), nil
		}
		if strings.HasPrefix(line, "panic:") {
			how = strings.TrimSpace(line)
		}
	}
	return time.Since(began), how, nil
}
