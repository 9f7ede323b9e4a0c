// Package offsets knows what has been delivered, and keeps the file that remembers it. Numbers only.
//
// It promises that an outcome which was recorded is never lost, that what Progress says may be committed, and that a start knows
// what may have been sent. It owns the file of a volume and the memory of every assigned partition: nobody else counts attempts,
// outcomes or what is outstanding. It must not know what a message holds, how it is delivered, when another attempt is due, or
// how to talk to Kafka.
//
// Invariants, cited by number in the tests:
//
//	F1  an offset is recorded only after its final outcome
//	F2  what Progress reports, and so what may be committed, is contiguous and recorded; file first, Kafka second
//	O1  the file holds only true facts. Any subset of them is safe: it costs a repeat, never a loss
//	O2  after a crash at any instant, also during recovery, every synced fact is there and no false one
//	O3  one process per volume
//	O4  what cannot be read is kept, reported, and never applied, deleted or overwritten
//
// # Who owns what
//
// A Store has one mutex, which guards all of these but the keeper:
//
//	table    what has to be remembered: the slot of every Key, with its tracker (rows, watermark, attempts)
//	journal  where the next frame goes in the file
//	backlog  what of the writes is not on disk yet, and who waits for it
//	keeper   the signals to the only goroutine: it syncs, lowers ceilings, heals
//
// A Store of InMemory has a journal without a disk, which takes every frame and keeps none, and an empty table: its trackers
// belong to their Partitions alone, nothing is ever off disk, nobody waits, and there is no goroutine. That is guarantee 1:
// F2 gives way to "what was sent counts as finished", until HandOver.
//
// # The file, format 1
//
// DIR/offsets is two halves of the same size (4 MiB unless the header says otherwise), preallocated. All numbers are little
// endian. One half is written, frame after frame; when it is full, all of memory is written into the other:
//
//	half A  ┌────────┬──────────────────────┬──────┬──────────────────────────────┬───────┬─────────────┐
//	        │ header │ snapshot: all slots  │ seal │ facts, one frame after other │ moved │ old, unread │
//	        └────────┴──────────────────────┴──────┴──────────────────────────────┴───────┴─────────────┘
//	half B  ┌────────┬──────────────────────┬──────┬──────────────────┬─────────────────────────────────┐
//	        │ header │ snapshot             │ seal │ facts            │ old frames, or zeros: unread    │
//	        └────────┴──────────────────────┴──────┴──────────────────┴─────────────────────────────────┘
//
//	header, 512 bytes: one sector
//	┌──────────┬─────────┬───────────┬────────────┬────────┬─────────┬──────┬────────┬─────────┬─────────────┬─────────┬────────┐
//	│ "kpush\0"│ version │ half size │ generation │ volume │ created │ life │ before │ boot id │ for a human │ openers │ CRC32C │
//	│ 0     6  │ 6    u16│ 8      u64│ 16      u64│ 24  u64│ 32   i64│40 u32│ 44   20│ 64   64 │ 128     120 │ 248  256│ 508 u32│
//	└──────────┴─────────┴───────────┴────────────┴────────┴─────────┴──────┴────────┴─────────┴─────────────┴─────────┴────────┘
//
// Openers are the newest 16 processes that had the file, and how much of what each wrote it holds; the last one writes now. Before is what it holds of
// all earlier ones. What a process says elsewhere (an Edition, in Kafka's commits) and the file does not hold was written behind a copy of it, which
// has been put back.
//
//	frame, 32 bytes: it never crosses a sector
//	┌────────┬──────┬───────┬───────┬────────┬────────┬──────────┬──────────┐
//	│ CRC32C │ kind │ flags │ count │ life   │ slot   │ offset   │ value    │
//	│ 0   u32│ 4  u8│ 5   u8│ 6  u16│ 8   u32│ 12  u32│ 16    i64│ 24    u64│
//	└────────┴──────┴───────┴───────┴────────┴────────┴──────────┴──────────┘
//
// The kinds and what their fields mean are in format.go. The checksum of a frame starts from the checksum of volume,
// generation and life, and covers the frame with its own number (0 for the first after the header) in place of the checksum.
// Life is drawn for every writing of a half. So a frame of another file, of an older generation, of a writing that a crash cut
// short, or of another place never verifies.
//
// A slot is a Key in one lineage; its number is never used twice, so a fact belongs to it for ever, and of the slots of a Key
// the highest counts. A slot is on disk before the first fact of it is written. What earlier slots have finished goes along as
// had frames, and what this one has below its Next as finished ones: nothing is kept back for that, it says what a rewind brings again.
//
// # What is believed
//
// The newest half whose snapshot is sealed, alone: its snapshot was on disk before the first fact after it was written, and
// holds all that the older half knew. Of it every frame that verifies, wherever it stands: any subset is safe (O1). After each
// sync the next write is led by a synced frame; a frame that does not verify below that point is damage, above it is a torn
// tail, which is left out and counted. A moved frame in the believed half names a newer half that was on disk and is not whole
// now: damage, too. A damaged file is refused and left as it is (O4).
//
// Recovery writes what it found into the half that it did not believe, and goes on there: until that is sealed and on disk,
// nothing of the believed half is touched, so a crash during recovery changes nothing. It syncs first: after kill -9 the believed
// half may be in the page cache alone, and the other one be what a power cut would leave.
//
// A write or sync that failed is never tried again on the same pages: memory goes into the other half, with a new life, until
// that works. Meanwhile every call that records returns an error.
//
// # In doubt
//
// An intent is written before a request, together with an outcome where there is one, and not synced: kill -9 leaves it in the
// page cache, so a start on the same boot id knows exactly which messages may have been sent. A ceiling that no request has
// passed is synced ahead of the requests: after a power cut (another boot id, no clean frame) whatever is unfinished below it
// is in doubt. It is about six sync windows of the partition's pace ahead, 16 to 512 offsets, so that hardly any request waits
// for it and a cut flags little more than was under way. A clean stop leaves only intents without an outcome in doubt.
//
// The device has to write a sector of 512 bytes whole or not at all, and Sync has to mean it.
package offsets
