package offsets

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// The file is two halves of the same size. A half is a header of one sector and then frames; a frame never crosses a sector.
const (
	version     = 1
	magic       = "kpush\x00"
	headerSize  = 512
	frameSize   = 32
	defaultHalf = 4 << 20 // 131,056 frames
)

// kind says what a frame means. The numbers are part of the format.
type kind uint8

const (
	textKind      kind = 1  // 16 bytes of a Key; count: which piece, flags: bytes used
	openKind      kind = 2  // the slot exists; offset: its Next, value: its lineage, count: bytes of its Key
	doneKind      kind = 3  // offset is finished; value: number of offsets below it that do not exist <<32 | unix seconds
	finishedKind  kind = 4  // value ≤ n < offset is finished
	bitsKind      kind = 5  // offset+i is finished where bit i of value is set
	intentKind    kind = 6  // an attempt at offset is about to start; value: its number <<32 | message faults before it
	settledKind   kind = 7  // that attempt ended without a final outcome; flags 1: it is in doubt; value: number <<32 | faults
	ceilingKind   kind = 8  // no request has passed offset; the last one counts
	doubtKind     kind = 9  // what is unfinished below offset may have been sent in a life whose intents are lost; flags 1: or anything, since nothing was synced
	committedKind kind = 10 // Kafka acknowledged a commit at offset (-1: none); value: unix seconds of the newest fact
	sealKind      kind = 11 // the snapshot ends here; offset: its number of frames, each of which has to verify
	syncedKind    kind = 12 // the frames before number offset are on disk
	movedKind     kind = 13 // the file goes on in the other half; offset: its generation
	cleanKind     kind = 14 // the frames before number offset are on disk, and the process ended
	hadKind       kind = 15 // value ≤ n < offset was finished in an earlier lineage
	hadBitsKind   kind = 16 // offset+i was, where bit i of value is set
)

const (
	inDoubtFlag   = 1 // of a settledKind
	unvouchedFlag = 1 // of a doubtKind
)

// frame is one fact. The zero frame is none.
type frame struct {
	kind   kind
	flags  uint8
	count  uint16
	slot   uint32
	offset int64
	value  uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// place is what a frame has to match besides its own checksum: one writing of one half of one file.
type place struct {
	life uint32 // random for each writing of a half, also when a generation is written a second time
	seed uint32 // CRC32C of volume, generation and life
}

func (h header) place() place {
	var b [20]byte
	binary.LittleEndian.PutUint64(b[0:], h.volume)
	binary.LittleEndian.PutUint64(b[8:], h.generation)
	binary.LittleEndian.PutUint32(b[16:], h.life)
	return place{h.life, crc32.Checksum(b[:], castagnoli)}
}

// encode writes f as frame number n of its half. The checksum is taken with n in its place.
func (p place) encode(b []byte, n uint32, f frame) {
	_ = b[frameSize-1]
	le := binary.LittleEndian
	le.PutUint32(b[0:], n)
	b[4], b[5] = byte(f.kind), f.flags
	le.PutUint16(b[6:], f.count)
	le.PutUint32(b[8:], p.life)
	le.PutUint32(b[12:], f.slot)
	le.PutUint64(b[16:], uint64(f.offset))
	le.PutUint64(b[24:], f.value)
	le.PutUint32(b[0:], crc32.Update(p.seed, castagnoli, b[:frameSize]))
}

// decode reads frame number n, and says whether it was written there, in this life of this half. It changes b meanwhile.
func (p place) decode(b []byte, n uint32) (f frame, ok bool) {
	le := binary.LittleEndian
	if le.Uint32(b[8:]) != p.life {
		return frame{}, false
	}
	sum := le.Uint32(b)
	le.PutUint32(b, n)
	ok = crc32.Update(p.seed, castagnoli, b[:frameSize]) == sum
	le.PutUint32(b, sum)
	if !ok {
		return frame{}, false
	}
	return frame{
		kind: kind(b[4]), flags: b[5], count: le.Uint16(b[6:]), slot: le.Uint32(b[12:]),
		offset: int64(le.Uint64(b[16:])), value: le.Uint64(b[24:]),
	}, true
}

// header is the first sector of a half. Magic, version and checksum keep their places in every version of the format.
type header struct {
	size       int64 // of a half
	generation uint64
	life       uint32
	volume     uint64
	created    int64  // of the file, unix seconds
	boot       string // of the machine that wrote this half
	past       history
}

// The list of a history is the last of a header, in front of the checksum.
const (
	historyAt   = 248
	historySize = 16
)

// capacity is the number of frames in a half.
func (h header) capacity() int { return int((h.size - headerSize) / frameSize) }

// byteOf is where a frame begins in the file.
func (h header) byteOf(half, frame int) int64 {
	return int64(half)*h.size + headerSize + int64(frame)*frameSize
}

func (h header) encode(b []byte) {
	le := binary.LittleEndian
	clear(b[:headerSize])
	copy(b, magic)
	le.PutUint16(b[6:], version)
	le.PutUint64(b[8:], uint64(h.size))
	le.PutUint64(b[16:], h.generation)
	le.PutUint64(b[24:], h.volume)
	le.PutUint64(b[32:], uint64(h.created))
	le.PutUint32(b[40:], h.life)
	le.PutUint64(b[44:], h.past.before.generation)
	le.PutUint32(b[52:], h.past.before.frames)
	le.PutUint32(b[56:], h.past.before.life)
	le.PutUint32(b[60:], uint32(len(h.past.list)))
	copy(b[64:128], h.boot)
	for i, one := range h.past.list {
		at := b[historyAt+i*historySize:]
		le.PutUint32(at, uint32(one.generation)) // the half was not written four thousand million times
		le.PutUint32(at[4:], one.frames)
		le.PutUint32(at[8:], one.life)
		le.PutUint32(at[12:], one.opening)
	}
	copy(b[128:historyAt], fmt.Sprintf("\nkpush offsets, format %d, volume %016x, created %s; read it with: kpush -offsets DIR\n",
		version, h.volume, utc(h.created)))
	le.PutUint32(b[508:], crc32.Checksum(b[:508], castagnoli))
}

// parseHeader reads a header. Sound means magic and checksum are right; only then the version means something.
func parseHeader(b []byte) (h header, ver uint16, sound bool) {
	le := binary.LittleEndian
	if len(b) < headerSize || string(b[:6]) != magic || crc32.Checksum(b[:508], castagnoli) != le.Uint32(b[508:]) {
		return header{}, 0, false
	}
	h = header{
		size: int64(le.Uint64(b[8:])), generation: le.Uint64(b[16:]), volume: le.Uint64(b[24:]),
		created: int64(le.Uint64(b[32:])), life: le.Uint32(b[40:]),
		boot: string(bytes.TrimRight(b[64:128], "\x00")),
	}
	h.past.before = edition{generation: le.Uint64(b[44:]), frames: le.Uint32(b[52:]), life: le.Uint32(b[56:])}
	for i := range min(le.Uint32(b[60:]), historyMost) { // none in a file of before
		at := b[historyAt+i*historySize:]
		h.past.list = append(h.past.list, edition{uint64(le.Uint32(at)), le.Uint32(at[4:]), le.Uint32(at[8:]), le.Uint32(at[12:])})
	}
	return h, le.Uint16(b[6:]), true
}

func doneFrame(slot uint32, offset, span, now int64) frame {
	return frame{kind: doneKind, slot: slot, offset: offset, value: uint64(span)<<32 | uint64(uint32(now))}
}

func finishedFrame(slot uint32, from, to int64) frame {
	return frame{kind: finishedKind, slot: slot, offset: to, value: uint64(from)}
}

func committedFrame(t *slot) frame {
	return frame{kind: committedKind, slot: t.number, offset: t.committed, value: uint64(t.at)}
}

func attemptFrame(k kind, slot uint32, a Attempt) frame {
	f := frame{kind: k, slot: slot, offset: a.Offset, value: uint64(clamp(a.Number))<<32 | uint64(clamp(a.Faults))}
	if k == settledKind && a.InDoubt {
		f.flags = inDoubtFlag
	}
	return f
}

// setFrames packs a set: long ranges as they are, the rest 64 offsets a frame.
func setFrames(out []frame, slot uint32, done Ranges, long, bits kind) []frame {
	for i := 0; i < len(done); {
		r := done[i]
		if r.To-r.From >= 64 {
			out = append(out, frame{kind: long, slot: slot, offset: r.To, value: uint64(r.From)})
			i++
			continue
		}
		base, mask := r.From, uint64(0)
		for ; i < len(done) && done[i].To-base <= 64; i++ {
			r := done[i]
			mask |= (math.MaxUint64 >> (64 - (r.To - r.From))) << (r.From - base)
		}
		out = append(out, frame{kind: bits, slot: slot, offset: base, value: mask})
	}
	return out
}

// A Key is its partition and its four names, each after its length; text frames carry it 16 bytes at a time.
func keyText(k Key) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(k.Partition))
	for _, s := range []string{k.Cluster, k.Group, k.Topic, k.TopicID} {
		b = append(le.AppendUint16(b, uint16(len(s))), s...)
	}
	return b
}

func parseKey(b []byte) (k Key, ok bool) {
	le := binary.LittleEndian
	if len(b) < 4 {
		return Key{}, false
	}
	k.Partition = int32(le.Uint32(b))
	b = b[4:]
	for _, s := range []*string{&k.Cluster, &k.Group, &k.Topic, &k.TopicID} {
		if len(b) < 2 || len(b)-2 < int(le.Uint16(b)) {
			return Key{}, false
		}
		n := int(le.Uint16(b))
		*s, b = string(b[2:2+n]), b[2+n:]
	}
	return k, len(b) == 0
}

func textFrames(out []frame, slot uint32, k Key) []frame {
	le := binary.LittleEndian
	text := keyText(k)
	for i := 0; i*16 < len(text); i++ {
		var b [16]byte
		n := copy(b[:], text[i*16:])
		out = append(out, frame{kind: textKind, slot: slot, count: uint16(i), flags: uint8(n),
			offset: int64(le.Uint64(b[:])), value: le.Uint64(b[8:])})
	}
	return out
}

func (f frame) text(out []byte) []byte {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], uint64(f.offset))
	binary.LittleEndian.PutUint64(b[8:], f.value)
	return append(out, b[:min(f.flags, 16)]...)
}
