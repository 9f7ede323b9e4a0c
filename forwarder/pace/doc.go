// Package pace says who may send next, how many at once, and to which host.
//
// It promises: messages of a lane one after the other, no more than Config.Concurrency turns, no request to a service that
// rests but the probe and a question an interval, and that a batch keeps its turn until it gives it back. It owns the lanes and turns, all under one mutex,
// since lanes, turns and retries decide together. A Batch belongs to the goroutine that delivers it. It must not know Kafka's
// protocol, HTTP, records or what an outcome means: a Sign is all that it hears of an attempt.
package pace
