// Package api is what the sidecar answers: health, readiness, metrics, the status and its page, and the calls of an operator. It reads the
// other rooms and decides nothing for them. It owns no state of theirs: what it remembers is a chart, and what a form is to be told.
package api
