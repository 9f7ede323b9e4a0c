package forwarder

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kpush/kpush/offsets"
)

const benchService = "KPUSH_TEST_BENCH_SERVICE"

// The benchmark's service is this binary in another process, until its stdin ends.
func init() {
	if os.Getenv(benchService) == "" {
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerAll(c)
		}
	}()
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// answerAll is the least that a service can do: a 200 to each request with a Content-Length.
func answerAll(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for length := 0; ; {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		if n, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(n)))
		}
		if len(bytes.TrimSpace(line)) == 0 {
			r.Discard(length)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 10:00:00 GMT\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\nok")
		}
	}
}

func serveElsewhere(b *testing.B) (url string) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchService+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stdin.Close(); cmd.Wait() })
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return "http://" + strings.TrimSpace(address)
}

// cpu is what the process has used so far.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A message of 100 bytes from its delivery to its outcome, eight lanes at a time; with and without the record of it.
func BenchmarkHandle(b *testing.B) {
	url := serveElsewhere(b)
	b.Run("recorded", func(b *testing.B) {
		store, err := offsets.Open(b.TempDir(), offsets.Options{Sync: offsets.Sync{Window: -1}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		defer store.Close()
		handleAll(b, url, store)
	})
	b.Run("unrecorded", func(b *testing.B) { handleAll(b, url, nil) })
}

func handleAll(b *testing.B, url string, store *offsets.Store) {
	const lanes = 8
	cfg := small()
	cfg.Targets = []string{url}
	h, err := newHTTP(cfg)
	if err != nil {
		b.Fatal(err)
	}
	kafka := newFakeKafka()
	f := build(cfg, store, h, kafka, fakeAdmin{kafka}, slog.New(slog.DiscardHandler))
	value := bytes.Repeat([]byte("v"), 100)
	begun := cpu()
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for l := range int32(lanes) {
		start := offsets.Start{Lineage: 1, Committed: -1}
		rec, err := f.ledger.Assign(offsets.Key{Cluster: "C", Group: "g", Topic: "t", TopicID: "T", Partition: l}, start)
		if err != nil {
			b.Fatal(err)
		}
		p := newPartition(f, tp{"t", l}, "T", rec, start)
		p.raise(1 << 40)
		wg.Go(func() {
			for o := range int64(b.N / lanes) {
				d := handed(p, Message{Offset: o, Value: value, Timestamp: 1700000000123, Key: []byte("order-17")})
				if out, err := h.Handle(d); err != nil || out.Class != Delivered {
					b.Errorf("%v %v: %s", out, err, d.verdict.Reason)
					return
				}
				finish(d)
				if err := p.rec.Done(o); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64((cpu()-begun).Nanoseconds())/float64(b.N), "cpu-ns/op")
}
