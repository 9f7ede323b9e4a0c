package simulation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
	"github.com/kpush/kpush/volume/sim"
)

// host is a machine with its volume, on which one process lives after the other. Its fields belong to the world's lock, but for the disk.
type host struct {
	w      *World
	name   string
	boot   int
	disk   *sim.Disk
	synced time.Time // belongs to the platters' lock, as the disk does
	audit  string    // the file beside the disk, as the newest life has it; "": none
	copy   backup
	life   *life // nil: none
	lives  int
	off    bool // nobody starts it again
	until  time.Time
}

// backup is a copy of the volume, and when it was made.
type backup struct {
	disk  []byte
	audit string
	at    time.Time
}

func (h *host) cut() bool { return time.Now().Before(h.until) }

// life is one process.
type life struct {
	host   *host
	dir    string // its part of the volume beside the disk: what an earlier life has left there, it finds
	number int
	f      *forwarder.Forwarder
	store  *offsets.Store
	end    context.CancelFunc
	ended  chan struct{}
	steps  int
	killAt int  // the step at which it is killed; 0: none
	dead   bool // killed, or at its end: nothing of it has an effect any more
}

func (l *life) String() string { return fmt.Sprintf("%s, life %d", l.host.name, l.number) }

// step is a call of a seam: a moment at which the process may be killed.
func (l *life) step(what string) {
	kill := false
	l.host.w.with(func() {
		l.steps++
		kill = l.steps == l.killAt && !l.dead
	})
	if kill {
		l.kill("at step %d, %s", l.steps, what)
	}
}

// unpack gives a life what is on the volume beside the disk. Each has a directory of its own: one that was killed still winds down here when the
// next begins, and would hold its lock.
func (l *life) unpack(audit string) error {
	return errors.Join(os.Mkdir(l.dir, 0o700), duplicate(audit, l.auditFile()))
}

func (l *life) auditFile() string { return filepath.Join(l.dir, "audit.jsonl") }

// duplicate copies a file that may not be there.
func duplicate(from, to string) error {
	if from == "" {
		return nil
	}
	b, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, os.WriteFile(to, b, 0o600))
}

// kill ends it as kill -9 does. What runs of it winds down, without an effect.
func (l *life) kill(how string, args ...any) {
	w := l.host.w
	w.with(func() {
		if l.dead {
			return
		}
		w.say("%s is killed, %s", l, fmt.Sprintf(how, args...))
		w.kills++
		l.dead = true
		l.host.life = nil
	})
	l.end()
}

// errKilled is what the disk says to a process that is no more.
var errKilled = errors.New("killed")

// platter is the host's disk as one life has it.
type platter struct {
	*life
	disk *sim.Disk
	mu   *sync.Mutex
}

func (p platter) do(what string, call func() (int, error)) (n int, err error) {
	p.step(what)
	dead, mode := false, ""
	p.host.w.with(func() { dead, mode = p.dead, p.host.w.now("disk "+p.host.name) })
	switch {
	case dead:
		return 0, errKilled
	case mode == "hangs" && what == "sync":
		time.Sleep(3 * time.Second)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.disk.Power.Fault = nil; mode == "fails" || mode == "is full" {
		kind := sim.FailPartly
		if mode == "is full" {
			kind = sim.Full
		}
		p.disk.Power.Fault = func(int) sim.Fault { return kind }
	}
	n, err = call()
	return n, err
}

func (p platter) WriteAt(b []byte, at int64) (int, error) {
	return p.do("write", func() (int, error) { return p.disk.WriteAt(b, at) })
}

func (p platter) ReadAt(b []byte, at int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.disk.ReadAt(b, at)
}

// Sync that fails may take from memory what was written since the last one that did not.
func (p platter) Sync() error {
	time.Sleep(300 * time.Microsecond)
	_, err := p.do("sync", func() (int, error) {
		err := p.disk.Sync()
		if err == nil {
			p.disk.Dropped, p.host.synced = false, time.Now()
		}
		return 0, err
	})
	return err
}

func (p platter) Size() (int64, error) { return p.disk.Size() }
func (p platter) ReadOnly() bool       { return false }
func (p platter) Close() error         { return nil }

// start begins a life; where the volume cannot be opened, or the process ends by itself, another one begins a second later.
func (h *host) start() {
	w := h.w
	var l *life
	var disk *sim.Disk
	boot, audit := 0, ""
	w.with(func() {
		if h.life != nil || h.off || w.closing {
			return
		}
		boot, disk = h.boot, h.disk
		h.lives++
		l = &life{host: h, number: h.lives, ended: make(chan struct{}), dir: filepath.Join(w.dir, fmt.Sprintf("%s, life %d", h.name, h.lives))}
		h.life, audit, h.audit = l, h.audit, l.auditFile()
	})
	if l == nil {
		return
	}
	ctx, end := context.WithCancel(context.Background())
	l.end = end
	machine := offsets.Machine{Boot: fmt.Sprint("boot ", boot), Half: 64 << 10, Random: w.number}
	log := slog.New(&teller{w: w, who: l.String()})
	if n, _ := disk.Size(); n == 0 {
		if err := machine.Format(disk); err != nil { // under another name, and renamed: whole, or not there
			panic(err)
		}
	}
	if err := l.unpack(audit); err != nil {
		panic(err)
	}
	if h.dropped(disk) {
		w.with(func() { w.service.excuse(h.synced, false) })
	}
	store, err := machine.Open(platter{l, disk, &h.w.platters}, "offsets", offsets.Options{Sync: w.cfg.sync, Log: log})
	if err == nil {
		l.store = store
		l.f, err = l.assemble(log)
	}
	if err != nil {
		w.with(func() {
			if w.say("%s does not start: %v", l, err); h.life == l { // a power cut may have been before
				h.life = nil
			}
		})
		close(l.ended)
		end()
		w.later(time.Second, h.start)
		return
	}
	go func() {
		defer close(l.ended)
		err := l.f.Run(ctx)
		_ = store.Close()
		again := false
		w.with(func() {
			if !l.dead {
				w.say("%s has ended: %v", l, err)
			}
			l.dead = true // what Run has left behind ends with the process
			if h.life == l {
				h.life, again = nil, true
			}
		})
		if again {
			w.later(time.Second, h.start)
		}
	}()
}

// dropped tells whether a sync that failed has taken pages from memory, and nobody has written them again.
func (h *host) dropped(disk *sim.Disk) bool {
	h.w.platters.Lock()
	defer h.w.platters.Unlock()
	return disk.Dropped
}

func (l *life) assemble(log *slog.Logger) (*forwarder.Forwarder, error) {
	w := l.host.w
	instance := ""
	if w.cfg.static {
		instance = l.host.name
	}
	c := newClient(w, l, instance)
	cfg := forwarder.Config{Brokers: "kafka:9092", Topics: []string{topic}, Group: "g", InstanceID: instance, ComesBack: w.cfg.comesBack, Session: session, PollInterval: 5 * time.Minute,
		Order: w.cfg.order, Concurrency: w.cfg.concurrency, Hosts: []string{"service"}, ExecTimeout: execTimeout, RetryNums: 3, RetryInterval: 200 * time.Millisecond, RetryMaxInterval: 400 * time.Millisecond,
		CommitInterval: 200 * time.Millisecond, Reset: "earliest", Buffer: 1 << 20, DrainTimeout: drainTimeout, RevokeTimeout: revokeTimeout, SkipLog: filepath.Join(l.dir, "skipped.jsonl")}
	return forwarder.New(cfg, forwarder.Parts{Consumer: c, Cluster: cluster{c}, Reader: func(at []kafka.Position) (kafka.Reader, error) { return c.reader(at) }, Store: l.store, Handler: l}, log)
}

// stop is SIGTERM.
func (l *life) stop() {
	l.host.w.with(func() { l.host.w.say("%s gets SIGTERM", l) })
	l.end()
	<-l.ended
}

// now is the life that there is, nil where there is none.
func (h *host) now() (l *life) {
	h.w.with(func() { l = h.life })
	return l
}

// cutPower ends what lives, and leaves of the disk what a platter may hold.
func (h *host) cutPower() {
	h.restart("by a power cut", func() backup { return backup{disk: h.disk.Crash(true), audit: h.audit} })
}

// save makes a copy of the volume.
func (h *host) save() {
	h.w.platters.Lock()
	defer h.w.platters.Unlock()
	h.copy = backup{slices.Clone(h.disk.Cache), filepath.Join(h.w.dir, h.name+", copy"), time.Now()}
	if err := errors.Join(os.RemoveAll(h.copy.audit), duplicate(h.audit, h.copy.audit)); err != nil {
		panic(err)
	}
}

// renew gives it another volume: an empty one, or one as it was.
func (h *host) renew(volume backup) {
	h.restart("with its machine", func() backup { return volume })
}

func (h *host) restart(how string, left func() backup) {
	if l := h.now(); l != nil {
		l.kill("%s", how)
	}
	h.w.platters.Lock()
	defer h.w.platters.Unlock()
	h.w.with(func() {
		volume := left()
		h.boot, h.disk, h.audit = h.boot+1, sim.New(h.w.stream("disk"), volume.disk), volume.audit
	})
}

// teller writes the log of a life into the history.
type teller struct {
	w    *World
	who  string
	with string
}

func (t *teller) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (t *teller) WithGroup(string) slog.Handler                    { return t }

func (t *teller) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *t
	for _, a := range attrs {
		c.with += " " + a.String()
	}
	return &c
}

func (t *teller) Handle(_ context.Context, r slog.Record) error {
	text := r.Message + t.with
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	t.w.with(func() { t.w.say("  %s: %s", t.who, text) })
	return nil
}
