// Package spool keeps records on the volume until Kafka has them.
//
// It promises that a record is on the disk when Add returns, that it is sent for as long as it takes, after what was added before it with
// its key, and that it is forgotten only once Kafka has acknowledged it, or once it is in the file of those that Kafka refuses. It owns
// the directory DIR/spool, and of the bytes in it holds no more in memory than the producer takes. It must not know HTTP, nor
// Kafka's client.
//
// Invariants, cited by number in the tests:
//
//	S1  what Add has taken is sent, whatever the process or the machine does
//	S2  a record is given to the producer after the one before it with its key is acknowledged
//	S3  a crash sends again at most the newest windowMost records of a topic, and only such as nothing on the disk says are done
//	S4  what Add has refused is never sent, but for what ended with ErrUnknown
//	S5  what cannot be read is reported, and never applied, deleted or overwritten
//
// # Who owns what
//
// A topic has a queue, and a queue two goroutines. One writes: it puts on the disk in one sync what has come since the last one. The
// other sends: it has the window, from the oldest record without an acknowledgement to the newest that it has looked at, and the
// mark. Queue.mu guards what they tell each other; nobody holds it while a disk is asked.
//
// # The files, format 1
//
//	DIR/spool/TOPIC/00000000000000000000   a segment; its name is the position of its first record in all that the topic ever had
//	DIR/spool/TOPIC/00000000000016777311   the next one: where it begins the one before ends, whatever is behind that there
//	DIR/spool/TOPIC/mark                   what is below this position is done
//	DIR/spool/TOPIC/done                   what of the newest windowMost behind it was done, too, when a life was stopped
//	DIR/spool/refused.jsonl                what Kafka does not take
//
// All numbers are little endian. A segment is a sector, and groups of frames, each of which was written at once; a frame is a record.
//
//	segment  ┌────────┬───────────────────────┬─────────┬──────────────────┐
//	         │ header │ frame … frame, left 0 │ … group │ torn tail: no 0  │
//	         └────────┴───────────────────────┴─────────┴──────────────────┘
//	header, 512 bytes          ┌──────────┬─────────┬──────────┬──────────┬───────┬─────────────┬────────┐
//	                           │ "kpspool"│ version │ life     │ position │ –     │ topic       │ CRC32C │
//	                           │ 0     7  │ 7     u8│ 8     u64│ 16    u64│ 24  24│ 48      460 │ 508 u32│
//	                           └──────────┴─────────┴──────────┴──────────┴───────┴─────────────┴────────┘
//	mark, twice 512 bytes      ┌──────────┬─────────┬──────────┬──────────┬───────┬─────────────┬────────┐
//	                           │ "kpspool"│ version │ places   │ position │ end   │ topic       │ CRC32C │
//	                           └──────────┴─────────┴──────────┴──────────┴───────┴─────────────┴────────┘
//	done, 512 bytes and more   ┌──────────┬─────────┬──────────┬──────────┬───────┬─────────────┬────────┬────────────────────────┐
//	                           │ "kpspool"│ version │ CRC32C   │ mark     │ bytes │ topic       │ CRC32C │ position u64 … position│
//	                           └──────────┴─────────┴──────────┴──────────┴───────┴─────────────┴────────┴────────────────────────┘
//	frame, 40 bytes and record ┌────────┬────────┬────────┬────────┬──────────┬──────────┬──────────┬─────────┐
//	                           │ "kpsr" │ CRC32C │ size   │ left   │ synced   │ at       │ lane     │ record  │
//	                           │ 0     4│ 4   u32│ 8   u32│ 12  u32│ 16    u64│ 24    u64│ 32    u64│ 40      │
//	                           └────────┴────────┴────────┴────────┴──────────┴──────────┴──────────┴─────────┘
//
// A record is JSON, as the door takes it in application/vnd.kafka.binary.v2+json. Lane is a hash of its key.
//
// The mark has two sectors, of which one is always whole on the disk; the higher one counts. A frame's checksum starts from the life of its segment, which is random, and from its position: no record's bytes can look like one. Left is
// how many frames of its group follow. What does not end with a left of 0 is no group: a write that failed, or that a crash tore. Below
// a position that a later frame or the mark calls synced there is no torn tail, but damage. A segment that a life before has written,
// or on which a write or a sync has failed, is not written any more.
//
// The device has to write a sector of 512 bytes whole or not at all, and Sync has to mean it.
package spool
