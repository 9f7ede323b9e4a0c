package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"time"

	"github.com/kpush/kpush/kafka"
)

const (
	version   = 1
	headSize  = 512 // of a segment, or all of the mark: a sector
	frameHead = 40
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	fileMagic  = append([]byte("kpspool"), version)
	frameMagic = []byte("kpsr")
)

// head is the sector with which a segment begins, or that is a mark.
type head struct {
	life     uint64 // of a mark: how many partitions the topic has
	position int64
	end      int64 // of a mark: what is below was on the disk when it was written
	topic    string
}

func (h head) encode() []byte {
	b := make([]byte, headSize)
	copy(b, fileMagic)
	le.PutUint64(b[8:], h.life)
	le.PutUint64(b[16:], uint64(h.position))
	le.PutUint64(b[24:], uint64(h.end))
	copy(b[48:508], h.topic)
	le.PutUint32(b[508:], crc32.Checksum(b[:508], castagnoli))
	return b
}

var (
	errNewer = errors.New("was written by a newer kpush: use that one")
	errTorn  = errors.New("does not verify")
)

func decodeHead(b []byte) (h head, err error) {
	switch {
	case len(b) < headSize || !bytes.Equal(b[:7], fileMagic[:7]) || le.Uint32(b[508:]) != crc32.Checksum(b[:508], castagnoli):
		return h, errTorn
	case b[7] > version:
		return h, errNewer
	}
	return head{le.Uint64(b[8:]), int64(le.Uint64(b[16:])), int64(le.Uint64(b[24:])), string(bytes.TrimRight(b[48:508], "\x00"))}, nil
}

// frame is a record as it is in a segment.
type frame struct {
	size, left int64
	synced     int64
	at         time.Time // when it was added
	lane       uint64    // of its key; 0: it has none
	record     []byte
}

// appendFrame adds a record to a group. A record without a timestamp gets that of now: it may be sent hours later.
func appendFrame(b []byte, r *kafka.Record, now time.Time) []byte {
	from := len(b)
	b = append(append(b, frameMagic...), make([]byte, frameHead-len(frameMagic))...)
	b = binary.AppendVarint(b, int64(r.Partition))
	at := r.Timestamp
	if at == 0 {
		at = now.UnixMilli()
	}
	b = binary.AppendVarint(b, at)
	b = appendBytes(appendBytes(b, r.Key), r.Value)
	b = binary.AppendUvarint(b, uint64(len(r.Headers)))
	for _, h := range r.Headers {
		b = appendBytes(appendBytes(b, []byte(h.Name)), h.Value)
	}
	f := b[from:]
	le.PutUint32(f[8:], uint32(len(f)))
	le.PutUint64(f[24:], uint64(now.UnixMilli()))
	if r.Key != nil {
		h := fnv.New64a()
		_, _ = h.Write(r.Key) // it never fails
		le.PutUint64(f[32:], max(1, h.Sum64()))
	}
	return b
}

// appendBytes tells null from empty.
func appendBytes(b, text []byte) []byte {
	if text == nil {
		return append(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(text))+1), text...)
}

// seal makes a group of frames, which is to be written at position of a segment of that life.
func seal(group []byte, life uint64, position, synced int64) {
	left := -1
	for at := 0; at < len(group); at += int(le.Uint32(group[at+8:])) {
		left++
	}
	for at := 0; at < len(group); left-- {
		f := group[at : at+int(le.Uint32(group[at+8:]))]
		le.PutUint32(f[12:], uint32(left))
		le.PutUint64(f[16:], uint64(synced))
		le.PutUint32(f[4:], checksum(f, life, position+int64(at)))
		at += len(f)
	}
}

func checksum(f []byte, life uint64, position int64) uint32 {
	var seed [16]byte
	le.PutUint64(seed[:], life)
	le.PutUint64(seed[8:], uint64(position))
	return crc32.Update(crc32.Checksum(seed[:], castagnoli), castagnoli, f[8:])
}

// sizeOf is how long the frame is that begins with b.
func sizeOf(b []byte) (int64, bool) {
	if len(b) < frameHead || !bytes.Equal(b[:4], frameMagic) {
		return 0, false
	}
	size := int64(le.Uint32(b[8:]))
	return size, size >= frameHead
}

// decodeFrame reads all of b.
func decodeFrame(b []byte, life uint64, position int64) (frame, error) {
	if size, ok := sizeOf(b); !ok || size != int64(len(b)) || le.Uint32(b[4:]) != checksum(b, life, position) {
		return frame{}, errTorn
	}
	return frame{int64(len(b)), int64(le.Uint32(b[12:])), int64(le.Uint64(b[16:])), time.UnixMilli(int64(le.Uint64(b[24:]))), le.Uint64(b[32:]), b[frameHead:]}, nil
}

// decode is the frame's record. Its bytes are the frame's.
func (f frame) decode(topic string) (r kafka.Record, err error) {
	d := decoder{b: f.record}
	r = kafka.Record{Topic: topic, Partition: int32(d.int()), Timestamp: d.int(), Key: d.bytes(), Value: d.bytes()}
	for n := d.uint(); n > 0 && !d.bad; n-- {
		r.Headers = append(r.Headers, kafka.Header{Name: string(d.bytes()), Value: d.bytes()})
	}
	if d.bad || len(d.b) > 0 {
		return r, fmt.Errorf("holds a record that cannot be read")
	}
	return r, nil
}

// decoder takes one field after the other.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) skip(n int) {
	if n <= 0 || n > len(d.b) {
		d.b, d.bad = nil, true
		return
	}
	d.b = d.b[n:]
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	d.skip(n)
	return v
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	d.skip(n)
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uint()
	if n == 0 || n-1 > uint64(len(d.b)) {
		d.bad = d.bad || n > 0
		return nil
	}
	text := d.b[: n-1 : n-1]
	d.b = d.b[n-1:]
	return text
}
