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
	"time"

	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
	"github.com/kpush/kpush/volume/sim"
)

// host is a machine with its volume, on which one process lives after the other. Its fields belong to the world's lock, but for what is on the disk.
type host struct {
	w             *World
	name          string
	boot          int
	disk          *sim.Disk
	volumes       int       // that were replaced by another
	wrote, synced time.Time // when the disk was written to last, and up to when that is on the platter
	audit         string    // the file beside the disk, as the newest life has it; "": none
	copy          backup
	life          *life   // nil: none
	lives         []*life // all that there were
	off           bool    // nobody starts it again
	until         time.Time
	frozen        time.Time
}

// backup is a copy of the volume, and when it was made.
type backup struct {
	disk  []byte
	audit string
	at    time.Time // when it was made
}

// cut tells whether Kafka does not hear of it, stands whether its process stands still. Both under the world's lock.
func (h *host) cut() bool    { return time.Now().Before(h.until) }
func (h *host) stands() bool { return time.Now().Before(h.frozen) }

// life is one process.
type life struct {
	host   *host
	disk   *sim.Disk
	volume int    // of the host's: their number
	dir    string // its part of the volume beside the disk: what an earlier life has left there, it finds
	number int
	f      *forwarder.Forwarder
	store  *offsets.Store
	end    context.CancelFunc
	ended  chan struct{}
	steps  int
	killAt int  // the step at which it is killed; 0: none
	dead   bool // killed, or at its end: nothing of it has an effect any more
	account
}

func (l *life) String() string { return fmt.Sprintf("%s, life %d", l.host.name, l.number) }

// write is the call that is made with a lock held, and a bubble's clock stands still while somebody waits for a lock.
const write = "write"

// step is a call of a seam: a moment at which the process may be killed, and at which it stands while the host does, but for a write.
func (l *life) step(what string) {
	kill, stands := false, false
	l.host.w.with(func() {
		l.steps++
		kill = l.steps == l.killAt && !l.dead
		stands = what != write && l.stands()
	})
	if kill {
		l.kill("at step %d, %s", l.steps, what)
	}
	for stands {
		time.Sleep(100 * time.Millisecond)
		l.host.w.with(func() { stands = l.stands() })
	}
}

func (l *life) isDead() (yes bool) {
	l.host.w.with(func() { yes = l.dead })
	return yes
}

func (l *life) stands() bool { return !l.dead && l.host.stands() }

// kill ends it as kill -9 does. What runs of it winds down, without an effect.
func (l *life) kill(how string, args ...any) {
	w := l.host.w
	w.with(func() {
		if l.dead {
			return
		}
		w.say("%s is killed, %s", l, fmt.Sprintf(how, args...))
		w.kills++
		l.dead, l.killed = true, true
		l.host.life = nil
	})
	l.end()
}

// errKilled is what the disk says to a process that is no more.
var errKilled = errors.New("killed")

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
		l = &life{host: h, number: len(h.lives) + 1, disk: disk, volume: h.volumes, ended: make(chan struct{}), account: account{committed: map[kafka.Partition]time.Time{}}}
		l.dir = filepath.Join(w.dir, l.String())
		h.lives = append(h.lives, l)
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
	h.forgive(disk)
	store, err := machine.Open(platter{l, disk, &h.w.platters}, "offsets", offsets.Options{Sync: w.cfg.sync, Log: log})
	if err == nil {
		l.store = store
		var f *forwarder.Forwarder
		f, err = l.assemble(log)
		w.with(func() { l.f = f })
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
	go l.run(ctx)
}

// run lives until the process ends; where it has ended by itself another one begins a second later.
func (l *life) run(ctx context.Context) {
	h, w := l.host, l.host.w
	defer close(l.ended)
	err := l.f.Run(ctx)
	_ = l.store.Close()
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
}

// forgive has the oracle know what nobody can tell the volume's next life: a sync that failed has taken pages from memory, and nobody has written
// them again.
func (h *host) forgive(disk *sim.Disk) {
	h.w.platters.Lock()
	dropped := disk.Dropped
	h.w.platters.Unlock()
	h.w.with(func() {
		if dropped {
			h.w.service.excuse(h.synced, time.Now(), nobody)
			for _, l := range h.lives {
				l.powerCut = l.powerCut || l.disk == disk
			}
		}
	})
}

func (l *life) assemble(log *slog.Logger) (*forwarder.Forwarder, error) {
	w := l.host.w
	instance, services := "", []string(nil)
	for i := range w.cfg.services {
		services = append(services, fmt.Sprint("service ", i))
	}
	if w.cfg.static {
		instance = l.host.name
	}
	c := newClient(w, l, instance)
	cfg := forwarder.Config{Brokers: "kafka:9092", Topics: []string{topic}, Group: "g", InstanceID: instance, ComesBack: w.cfg.comesBack, Session: session, PollInterval: 5 * time.Minute,
		Order: w.cfg.order, Concurrency: w.cfg.concurrency, Hosts: services, ExecTimeout: execTimeout, RetryNums: 3, RetryInterval: 200 * time.Millisecond, RetryMaxInterval: 400 * time.Millisecond,
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

// runs tells whether the life has got as far as that; nil has not.
func (l *life) runs() (runs bool) {
	if l != nil {
		l.host.w.with(func() { runs = l.f != nil })
	}
	return runs
}

const byPower = "by a power cut"

// cutPower ends what lives, and leaves of the disk what a platter may hold.
func (h *host) cutPower() {
	h.restart(byPower, func() backup { return backup{disk: h.disk.Crash(true), audit: h.audit} })
}

// save makes a copy of the volume.
func (h *host) save() {
	audit := ""
	h.w.with(func() { audit = h.audit })
	h.w.platters.Lock()
	defer h.w.platters.Unlock()
	h.copy = backup{disk: slices.Clone(h.disk.Cache), audit: filepath.Join(h.w.dir, h.name+", copy"), at: time.Now()}
	if err := errors.Join(os.RemoveAll(h.copy.audit), duplicate(audit, h.copy.audit)); err != nil {
		panic(err)
	}
}

// renew gives it another volume: an empty one, or one as it was.
func (h *host) renew(volume backup) {
	h.restart("with its machine", func() backup { return volume })
	h.w.with(func() {
		h.volumes++
		h.wrote, h.synced = volume.at, volume.at
		if volume.disk != nil {
			h.w.service.excuse(volume.at, time.Now(), func(p kafka.Partition) bool { return h.w.group.vouched[p].After(volume.at) })
		}
	})
}

func (h *host) restart(how string, left func() backup) {
	if l := h.now(); l != nil {
		l.kill("%s", how)
	}
	h.w.platters.Lock()
	defer h.w.platters.Unlock()
	h.w.with(func() {
		for _, l := range h.lives {
			l.powerCut = l.powerCut || how == byPower && l.disk == h.disk
		}
		volume := left()
		h.boot, h.disk, h.audit = h.boot+1, sim.New(h.w.stream(fmt.Sprint("disk ", h.name, h.boot)), volume.disk), volume.audit
	})
}
