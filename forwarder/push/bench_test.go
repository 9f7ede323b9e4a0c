package push

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kpush/kpush/kafka"
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

// An attempt at a message of 100 bytes, from its item to its verdict, eight at a time.
func BenchmarkPush(b *testing.B) {
	const lanes = 8
	s := service(b, hasty(serveElsewhere(b)))
	value := bytes.Repeat([]byte("v"), 100)
	begun := cpu()
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for l := range int32(lanes) {
		wg.Go(func() {
			m := kafka.Message{Partition: kafka.Partition{Topic: "t", Number: l}, Value: value, Timestamp: 1700000000123, Key: []byte("order-17")}
			it := Item{Message: &m, TopicID: "T", Group: "g", Attempt: 1}
			a := Attempt{Items: []*Item{&it}, Gate: open{context.Background()}}
			for m.Offset = range int64(b.N / lanes) {
				if v := s.Push(&a); v.Class != Delivered {
					b.Errorf("%s: %s", v.Class, v.Reason)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64((cpu()-begun).Nanoseconds())/float64(b.N), "cpu-ns/op")
}
