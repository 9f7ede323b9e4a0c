package rig

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Answer lets the link answer requests in the brokers' place: those that rule has an answer to never reach one. nil ends it.
func (l *Link) Answer(rule func(kmsg.Request) kmsg.Response) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = rule
}

// Change lets rule change what the brokers answer. nil ends it.
func (l *Link) Change(rule func(kmsg.Response)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.change = rule
}

func (l *Link) rules() (func(kmsg.Request) kmsg.Response, func(kmsg.Response)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answer, l.change
}

// wire is one connection through a link, which is passed on in whole frames of Kafka's protocol.
type wire struct {
	link           *Link
	client, server *net.TCPConn

	mu    sync.Mutex // writes to client, and
	asked map[int32]api
}

// api is which request a correlation id stands for.
type api struct{ key, version int16 }

// copy ends both when one has ended, as a router would pass on a FIN; during a cut that has to wait, too.
func (w *wire) copy(to, from *net.TCPConn, pass func(frame []byte) error) {
	read := frameOf
	if w.link.sealed {
		read = chunkOf
		pass = func(chunk []byte) error { _, err := to.Write(chunk); return err }
	}
	for {
		got, err := read(from)
		if !w.link.passes() {
			return
		}
		if len(got) > 0 {
			err = errors.Join(err, pass(got))
		}
		if err != nil {
			_, _ = w.client.Close(), w.server.Close()
			return
		}
	}
}

func chunkOf(from io.Reader) ([]byte, error) {
	chunk := make([]byte, 64<<10)
	n, err := from.Read(chunk)
	return chunk[:n], err
}

// frameOf is a whole frame with its length, nothing beside an error.
func frameOf(from io.Reader) ([]byte, error) {
	size := make([]byte, 4)
	if _, err := io.ReadFull(from, size); err != nil {
		return nil, err
	}
	frame := append(size, make([]byte, binary.BigEndian.Uint32(size))...)
	if _, err := io.ReadFull(from, frame[4:]); err != nil {
		return nil, err
	}
	return frame, nil
}

// request passes a client's frame on, or answers it.
func (w *wire) request(frame []byte) error {
	a := api{int16(binary.BigEndian.Uint16(frame[4:])), int16(binary.BigEndian.Uint16(frame[6:]))}
	id := int32(binary.BigEndian.Uint32(frame[8:]))
	if rule, _ := w.link.rules(); rule != nil {
		if q := kmsg.RequestForKey(a.key); q != nil {
			q.SetVersion(a.version)
			if err := q.ReadFrom(frame[headerLength(frame, q.IsFlexible()):]); err == nil {
				if r := rule(q); r != nil {
					r.SetVersion(a.version)
					return w.write(id, r)
				}
			}
		}
	}
	w.mu.Lock()
	w.asked[id] = a
	w.mu.Unlock()
	_, err := w.server.Write(frame)
	return err
}

// headerLength is how long a request's header is: behind api, version and id stands the client's name, and in newer ones tags,
// of which no client sends any.
func headerLength(frame []byte, flexible bool) int {
	length := 14
	if name := int16(binary.BigEndian.Uint16(frame[12:])); name > 0 {
		length += int(name)
	}
	if flexible {
		length++
	}
	return length
}

// response passes a broker's frame on, changed or as it is.
func (w *wire) response(frame []byte) error {
	id := int32(binary.BigEndian.Uint32(frame[4:]))
	w.mu.Lock()
	a := w.asked[id]
	delete(w.asked, id)
	w.mu.Unlock()
	if _, rule := w.link.rules(); rule != nil {
		if r := kmsg.ResponseForKey(a.key); r != nil {
			r.SetVersion(a.version)
			body := frame[8:]
			if tagged(r) {
				body = body[1:]
			}
			if err := r.ReadFrom(body); err == nil {
				rule(r)
				return w.write(id, r)
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.client.Write(frame)
	return err
}

// tagged tells whether an answer's header has tags, of which no broker sends any.
func tagged(r kmsg.Response) bool { return r.IsFlexible() && r.Key() != kmsg.ApiVersions.Int16() }

func (w *wire) write(id int32, r kmsg.Response) error {
	frame := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(id))
	if tagged(r) {
		frame = append(frame, 0)
	}
	frame = r.AppendTo(frame)
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.client.Write(frame)
	return err
}
