// Package forwarder pushes the messages of a Kafka topic into a service over HTTP: in order, for as long as it takes,
// with every outcome on record before Kafka is told.
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
// One goroutine, Run, owns the Kafka consumer and the map of partitions (poll.go, assign.go). One other commits
// (commit.go): a commit during a rebalance can wait for seconds. A partition owns lanes (lane.go); a lane delivers one
// message at a time, through the Handler (delivery.go is one message's way, http.go and policy.go are the default
// Handler). A slot of Config.Concurrency is held for one attempt, never while waiting for the next.
package forwarder
