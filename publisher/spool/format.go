package spool

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"hash/fnv"
	"time"

	"github.com/kpush/kpush/kafka"
)

const (
	version   = 1
	headSize  = 512 // of a segment, or of half a mark: a sector
	frameHead = 40
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	fileMagic  = append([]byte("kpspool"), version)
	frameMagic = []byte("kpsr")

	errNewer = errors.New("was written by a newer kpush: use that one")
	errTorn  = errors.New("does not verify")
)

// head is the sector with which a segment begins, or that is half of a mark.
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

func decodeHead(b []byte) (h head, err error) {
	switch {
	case len(b) < headSize || !bytes.Equal(b[:7], fileMagic[:7]) || le.Uint32(b[508:]) != crc32.Checksum(b[:508], castagnoli):
		return h, errTorn
	case b[7] > version:
		return h, errNewer
	}
	return head{le.Uint64(b[8:]), int64(le.Uint64(b[16:])), int64(le.Uint64(b[24:])), string(bytes.TrimRight(b[48:508], "\x00"))}, nil
}

// form is a record as it is in a frame: as the door takes it in application/vnd.kafka.binary.v2+json. Bytes are base64.
type form struct {
	Key       []byte       `json:"key"`
	Value     []byte       `json:"value"`
	Partition *int32       `json:"partition,omitempty"`
	Timestamp int64        `json:"timestamp"`
	Headers   []headerForm `json:"headers,omitempty"`
}

type headerForm struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// appendFrame adds a record to a group. One without a timestamp gets that of now: it may be sent hours later.
func appendFrame(b []byte, r *kafka.Record, now time.Time) []byte {
	f := form{Key: r.Key, Value: r.Value, Timestamp: r.Timestamp}
	if r.Timestamp == 0 {
		f.Timestamp = now.UnixMilli()
	}
	if r.Partition >= 0 {
		f.Partition = &r.Partition
	}
	for _, h := range r.Headers {
		f.Headers = append(f.Headers, headerForm{h.Name, h.Value})
	}
	text, _ := json.Marshal(f) // it has nothing that cannot be written
	var head [frameHead]byte
	copy(head[:], frameMagic)
	le.PutUint32(head[8:], uint32(frameHead+len(text)))
	le.PutUint64(head[24:], uint64(now.UnixMilli()))
	if r.Key != nil {
		h := fnv.New64a()
		_, _ = h.Write(r.Key) // it never fails
		le.PutUint64(head[32:], max(1, h.Sum64()))
	}
	return append(append(b, head[:]...), text...)
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

// frame is a record as it is in a segment.
type frame struct {
	size, left int64
	synced     int64
	at         time.Time // when it was added
	lane       uint64    // of its key; 0: it has none
	text       []byte
}

// sizeOf is how long the frame is that begins with b.
func sizeOf(b []byte) (size int64, ok bool) {
	if len(b) >= frameHead && bytes.Equal(b[:4], frameMagic) {
		size = int64(le.Uint32(b[8:]))
	}
	return size, size >= frameHead
}

// decodeFrame reads all of b.
func decodeFrame(b []byte, life uint64, position int64) (frame, error) {
	if size, ok := sizeOf(b); !ok || size != int64(len(b)) || le.Uint32(b[4:]) != checksum(b, life, position) {
		return frame{}, errTorn
	}
	return frame{int64(len(b)), int64(le.Uint32(b[12:])), int64(le.Uint64(b[16:])), time.UnixMilli(int64(le.Uint64(b[24:]))), le.Uint64(b[32:]), b[frameHead:]}, nil
}

// record is the frame's.
func (f frame) record(topic string) (kafka.Record, error) {
	var text form
	err := json.Unmarshal(f.text, &text)
	r := kafka.Record{Topic: topic, Partition: kafka.AnyPartition, Timestamp: text.Timestamp, Key: text.Key, Value: text.Value}
	if text.Partition != nil {
		r.Partition = *text.Partition
	}
	for _, h := range text.Headers {
		r.Headers = append(r.Headers, kafka.Header{Name: h.Key, Value: h.Value})
	}
	return r, err
}
