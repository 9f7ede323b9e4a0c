package simulation

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seed     = flag.Uint64("seed", 0, "the one history to run; 0: many")
	first    = flag.Uint64("first", 1, "the first seed of many")
	stride   = flag.Uint64("stride", 1, "from one seed to the next")
	workers  = flag.Int("workers", 1, "processes that share the seeds: a history has one thread")
	duration = flag.Duration("for", 30*time.Second, "how long many are run")
	most     = flag.Int("histories", 0, "how many they are at the most; 0: no bound")
	shrink   = flag.Bool("shrink", false, "leave events of a failing history out, one after the other, as long as it fails")
	verbose  = flag.Bool("verbose", false, "commits and requests are in the history, too")
	show     = flag.Bool("show", false, "print the history of -seed also where it is well")
)

// once lives a history through; nil: the plan of its seed.
func once(t *testing.T, seed uint64, plan []event) (r Result, lived []event) {
	dir, err := os.MkdirTemp(memory(), "kpush-simulation-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(seed, dir)
		w.verbose = *verbose
		if lived = plan; lived == nil {
			lived = newPlan(w)
		}
		r = w.run(lived)
	})
	return r, lived
}

// memory is a file system that is none of a disk's: what simulated processes write beside the file is not what is tried here.
func memory() string {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		return "/dev/shm"
	}
	return os.TempDir()
}

// TestSimulate runs many histories, or one of -seed.
func TestSimulate(t *testing.T) {
	if *seed != 0 {
		r, plan := once(t, *seed, nil)
		if r.Failure == "" {
			if *show {
				t.Log(strings.Join(r.History, "\n"))
			}
			t.Logf("seed %d: well; %d requests, %d repeats, %d kills", *seed, r.Requests, r.Repeats, r.Kills)
			return
		}
		if *shrink {
			plan, r = smaller(t, *seed, plan, r)
		}
		report(t, *seed, plan, r)
		return
	}
	if *workers > 1 {
		share(t)
		return
	}
	var total Result
	histories, began := 0, time.Now()
	for end, s := time.Now().Add(*duration), *first; time.Now().Before(end) && (*most == 0 || histories < *most); s += *stride {
		r, plan := once(t, s, nil)
		histories++
		total.Requests, total.Repeats, total.Kills, total.Messages = total.Requests+r.Requests, total.Repeats+r.Repeats, total.Kills+r.Kills, total.Messages+r.Messages
		if r.Failure != "" {
			report(t, s, plan, r)
			break
		}
	}
	t.Logf("%d histories in %v: %d messages, %d requests, %d repeats, all flagged, %d kills", histories, time.Since(began).Round(time.Millisecond), total.Messages, total.Requests, total.Repeats, total.Kills)
}

// share runs as many processes as workers are asked for, which take turns with the seeds. Where one fails the others end.
func share(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var all sync.WaitGroup
	for i := range *workers {
		all.Go(func() {
			args := []string{"-test.run=^TestSimulate$", "-test.v", "-test.timeout=0", "-for=" + duration.String(), fmt.Sprint("-histories=", (*most+*workers-1) / *workers),
				fmt.Sprint("-first=", *first+uint64(i)), fmt.Sprint("-stride=", *workers)}
			out, err := exec.CommandContext(ctx, os.Args[0], args...).CombinedOutput()
			if ctx.Err() != nil {
				return
			}
			if t.Logf("%s", out); err != nil {
				t.Error(err)
				end()
			}
		})
	}
	all.Wait()
}

func report(t *testing.T, seed uint64, plan []event, r Result) {
	t.Helper()
	path := filepath.Join(t.ArtifactDir(), fmt.Sprintf("history-%d", seed))
	_ = os.WriteFile(path, []byte(strings.Join(r.History, "\n")), 0o644)
	var events strings.Builder
	for _, e := range plan {
		fmt.Fprintln(&events, "   ", e)
	}
	at := slices.IndexFunc(r.History, func(line string) bool { return strings.Contains(line, "  FAILURE: ") })
	t.Errorf("seed %d (again: go test ./simulation -run TestSimulate -seed %[1]d -shrink): %s\n%d events:\n%s\nits history, around that:\n%s", seed, r.Failure, len(plan), &events, strings.Join(r.History[max(0, at-60):min(at+30, len(r.History))], "\n"))
}

// smaller leaves events out as long as the history fails.
func smaller(t *testing.T, seed uint64, plan []event, r Result) ([]event, Result) {
	for i := 0; i < len(plan); {
		fewer := slices.Delete(slices.Clone(plan), i, i+1)
		again, _ := once(t, seed, fewer)
		if again.Failure == "" {
			again, _ = once(t, seed, fewer) // the scheduler has a word in it
		}
		if again.Failure != "" {
			plan, r = fewer, again
			continue
		}
		i++
	}
	return plan, r
}

func init() { runtime.GOMAXPROCS(1) } // a bubble is one clock: what runs beside it only changes the order
