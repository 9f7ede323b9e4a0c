// Package wire is HTTP/1.1 on kept connections; it sends nothing twice, and knows no message.
//
// What it promises:
//
//   - An exchange is one request on one connection, or none. Whatever happens, nothing is sent again, no redirect is followed, and
//     nobody else is asked.
//   - Answer.Sent is false only where nothing of the request went out. Whoever sends is asked last (Gate), and a connection that has
//     ended, or on which something came unasked, carries nothing.
//   - An exchange ends in its time, and when its Gate's context ends: with the cause of that.
//   - What net/http accepts of HTTP/1.x is accepted, and an error holds nothing that the service wrote.
//
// A Wire owns its connections, one host's (wire.go, dial.go). A connection belongs to one exchange at a time (conn.go, quiet.go, raw.go), as
// does what it reads of the answer's head (head.go). Request and Answer are the caller's.
//
// It must not know what a request is about, what an answer means, or whether another has to follow: it reads Kafka-Action and
// Retry-After, and obeys neither.
package wire
