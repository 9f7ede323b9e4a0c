package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kpush/kpush/e2e/rig"
)

// relay is a service that publishes what is delivered to it again, each byte of the Kafka headers as it came. It answers with the
// door's status.
func relay(t *testing.T, door func() string, topic string) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for from := bufio.NewReader(c); ; {
					status, err := again(from, door(), topic)
					if err != nil {
						return
					}
					fmt.Fprintf(c, "HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n", status)
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// again takes one request, and publishes it.
func again(from *bufio.Reader, door, topic string) (status int, err error) {
	var out bytes.Buffer
	fmt.Fprintf(&out, "POST /topics/%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", topic, door)
	size := 0
	for {
		line, err := from.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if strings.HasPrefix(line, "Kafka-") {
			out.WriteString(line)
		}
		if _, err := fmt.Sscanf(line, "Content-Length: %d", &size); err == nil {
			out.WriteString(line)
		}
		if line == "\r\n" {
			break
		}
	}
	out.WriteString("\r\n")
	if _, err := io.CopyN(&out, from, int64(size)); err != nil {
		return 0, err
	}
	c, err := net.Dial("tcp", door)
	if err != nil {
		return 503, nil
	}
	defer c.Close()
	if _, err := c.Write(out.Bytes()); err != nil {
		return 503, nil
	}
	_ = c.(*net.TCPConn).CloseWrite() // it has said all, and reads
	w, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 503, nil
	}
	return w.StatusCode, nil
}

// TestWhatIsDeliveredCanBePublishedAgain, byte for byte: null, empty and binary values, keys and headers, in their order and case.
func TestPublishWhatWasDelivered(t *testing.T) {
	t.Parallel()
	k := kafka(t)
	topic, copied := k.Topic(t, 2), k.Topic(t, 2)
	h := func(pairs ...string) (out []rig.Header) {
		for i := 0; i < len(pairs); i += 2 {
			v := []byte(pairs[i+1])
			if pairs[i+1] == "null" {
				v = nil
			}
			out = append(out, rig.Header{Name: pairs[i], Value: v})
		}
		return out
	}
	records := keyed(200)
	for _, r := range []rig.Record{
		{Value: nil, Key: []byte("tombstone")}, {Value: []byte{}, Key: []byte{}}, {Value: []byte("\x00\xff\r\n")}, {Value: []byte("v"), Key: []byte("with blank")},
		{Value: []byte("v"), Key: []byte("\x00\xff")}, {Value: []byte("v"), Headers: h("b", "1", "a", "2", "camelCase", "3", "UPPER", "4", "x_y", "5")},
		{Value: []byte("v"), Headers: h("a", "1", "a", "2", "A", "3")}, {Value: []byte("v"), Headers: h("n", "null", "e", "", "bin", "\x00\xff", "", "no name", "ünï", "ö")},
		{Value: []byte("v"), Headers: h("content-type", "text/plain", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", " blank ", " v ")},
		{Value: bytes.Repeat([]byte("v"), 900_000), Headers: h("long", strings.Repeat("l", 20_000))},
	} {
		r.Partition = -1
		records = append(records, r)
	}
	for i := range records {
		records[i].Partition = int32(i % 2)
	}
	produced := k.Produce(t, topic, records...)
	var sc *rig.Sidecar
	port := relay(t, func() string { return sc.API() }, copied)
	sc = rig.NewSidecar(t, t.TempDir(), "KPUSH_BROKERS="+k.Brokers, "KPUSH_TOPIC="+topic, "KPUSH_GROUP="+topic, fmt.Sprintf("KPUSH_PORT=%d", port), "KPUSH_RETRY_INTERVAL=50ms")
	sc.Start(t)
	rig.Within(t, patience, "all of them", func() bool {
		n := int64(0)
		for _, end := range k.EndOffsets(t, copied) {
			n += end
		}
		return n == int64(len(produced))
	})
	sc.Shut(t, 10*time.Second)
	whole := func(r *kgo.Record) string {
		text := fmt.Sprintf("%d %t %q %t %q", r.Timestamp.UnixMilli(), r.Key == nil, r.Key, r.Value == nil, r.Value)
		for _, h := range r.Headers {
			text += fmt.Sprintf(" %q %t %q", h.Key, h.Value == nil, h.Value)
		}
		return text
	}
	left := map[string]int{}
	for _, list := range contents(t, k, topic) {
		for _, r := range list {
			left[whole(r)]++
		}
	}
	for _, list := range contents(t, k, copied) {
		for _, r := range list {
			if left[whole(r)]--; left[whole(r)] < 0 {
				t.Errorf("Nobody produced %.300s", whole(r))
			}
		}
	}
	for text, n := range left {
		if n > 0 {
			t.Errorf("%d are missing of %.300s", n, text)
		}
	}
}
