package push

import (
	"bufio"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kpush/kpush/forwarder/wire"
	"github.com/kpush/kpush/forwarder/wire/wiretest"
	"github.com/kpush/kpush/kafka"
)

// allocated is how many bytes do takes in all.
func allocated(do func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// What need not be read of an answer is thrown away as it comes, the beginning is kept for people, and the connection stays.
func TestLargeAnswersTakeNoMemory(t *testing.T) {
	const lanes, each, size = 32, 4, 1 << 20
	page := "Oops: " + strings.Repeat("x", size-6)
	length := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", size, page)
	chunks := "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size-1, page[1:])
	for _, row := range []struct {
		ack, raw string
		class    Class
	}{
		{"status", "HTTP/1.1 500 Oops\r\n" + length, MessageFault},
		{"errno", "HTTP/1.1 503 Oops\r\n" + chunks, ServiceFault},
		{"status", "HTTP/1.1 200 OK\r\n" + length, Delivered},
		{"status", "HTTP/1.1 201 OK\r\n" + chunks, Delivered},
	} {
		raw := []byte(row.raw)
		var connections atomic.Int64
		cfg := hasty(wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
			connections.Add(1)
			for wiretest.Read(r) {
				c.Write(raw)
			}
		}))
		cfg.Ack, cfg.Most = row.ack, lanes
		s := service(t, cfg)
		took := allocated(func() {
			var wg sync.WaitGroup
			for l := range int64(lanes) {
				wg.Go(func() {
					for range each {
						v := try(s, item(kafka.Message{Offset: l, Value: []byte("v")}))
						if v.Class != row.class || v.Class != Delivered && !strings.Contains(v.Answer, "ops: x") {
							t.Errorf("%.30q: %s: %s, %q", row.raw, v.Class, v.Reason, v.Answer)
						}
					}
				})
			}
			wg.Wait()
		})
		if took > lanes*each*size/8 || connections.Load() > lanes {
			t.Errorf("%.30q: %d requests took %d KiB and %d connections", row.raw, lanes*each, took>>10, connections.Load())
		}
	}
}

// The form of a value is no larger in memory than on the wire.
func TestFormIsOnceInMemory(t *testing.T) {
	it, cfg := item(kafka.Message{Value: make([]byte, 4<<20)}), &Config{Format: "form"}
	var r room
	var rest []byte
	took := allocated(func() { rest = r.write(it, cfg, Trace{}) })
	if len(rest) != 3*len(it.Value)+len("m=&p=0&o=0") || took > len(rest)+len(rest)/10 {
		t.Errorf("%d KiB for a form of %d KiB", took>>10, len(rest)>>10)
	}
	it.Value = make([]byte, wire.AtOnce/4)
	if n := testing.AllocsPerRun(10, func() { r.request = r.request[:0]; r.write(it, cfg, Trace{}) }); n > 0 {
		t.Errorf("%v allocations for a small one", n)
	}
}
