// Package forwarder is one member of a Kafka group: its partitions, a message's way to its outcome, and the commits.
//
// What it promises (tests cite the numbers):
//
//	F1  an offset is recorded only after its final outcome: delivered, or skipped with the skip log written
//	F2  committed ≤ contiguous recorded: the file first, Kafka second
//	F3  in a lane, attempt or message n+1 starts after the outcome of n
//	F4  when the revoke callback returns, no request of that partition starts; a lost partition records and commits
//	    nothing more
//	F5  bytes held ≤ Config.Buffer, whatever the service does
//
// Who owns what: the poll goroutine, Run, the consumer (consumer.go, rebalance.go, open.go, drain.go, silent.go, flow.go), which
// publishes its list of partitions for all others; one goroutine the committer, since a commit during a rebalance can wait for
// seconds; a goroutine that has a batch's turn its delivery (deliver.go, retry.go, batch.go, pen.go). The order of locks is pace's,
// then ceiling's.
//
// A message's way is read in deliver.go: who goes next is pace's, one attempt push's, where a partition starts and what a commit
// says start's. It must not know HTTP, librdkafka or environment variables.
package forwarder
