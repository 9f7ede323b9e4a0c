package push

import (
	"bytes"
	"net/http"
)

// Bounds of a head as it is sent, above which a server may refuse a request because of it: proxies stop at 4 KiB, where the answer is
// about the size of what was sent at 8 KiB, and small servers at 50 lines.
const (
	headLarge = 4 << 10
	headHuge  = 8 << 10
	linesMany = 50
)

// refusal is what may be about the size of a head. Each has a try without key and headers, until it turns out that they are not why.
type refusal uint8

const (
	tooLarge   refusal = 1 << iota // 431: it is
	badRequest                     // 400 of nginx and Apache
	entity                         // 413 of others
	badGateway                     // 502 of a proxy that does not get through with it
	unanswered                     // the connection ended without an answer, twice in a row
)

// refusalOf is 0 where a verdict says nothing of the head.
func refusalOf(v *Verdict) refusal {
	switch v.Status {
	case http.StatusRequestHeaderFieldsTooLarge:
		return tooLarge
	case http.StatusBadRequest:
		return badRequest
	case http.StatusRequestEntityTooLarge:
		return entity
	case http.StatusBadGateway:
		return badGateway
	case 0:
		if v.InDoubt && (v.Stale || v.Class == ServiceFault) {
			return unanswered
		}
	}
	return 0
}

// heed takes a verdict for what it says of the head of the request, of which the rest had so many bytes: no message may be undeliverable because
// of its headers. slimmer: the next attempt leaves key and headers out. spared: so this one counts for nothing, or what it showed will
// be known by the next one. Where the slim attempt fails in the same way the headers are not why, and go in every attempt from then on;
// a 431 leaves no doubt.
func (it *Item) heed(v *Verdict, request []byte, rest int) (slimmer, spared bool) {
	why := refusalOf(v)
	if v.Status != 0 {
		it.mute = 0
	}
	switch {
	case why == 0 || it.Key == nil && len(it.Headers) == 0:
	case it.slim && why == tooLarge:
		it.why = tooLarge
	case it.slim && why == it.why && why != tooLarge:
		it.slim, it.innocent = false, it.innocent|why
	case it.slim || it.innocent&why != 0 || !suspect(why, request, rest):
	case why == unanswered && it.mute == 0:
		it.mute, spared = 1, true
	default:
		it.slim, it.why, it.mute = true, why, 0
		return true, true
	}
	return false, spared
}

// suspect tells whether the head of a request may be what was refused.
func suspect(why refusal, request []byte, rest int) bool {
	head, body, _ := bytes.Cut(request, []byte("\r\n\r\n"))
	switch {
	case why == tooLarge:
		return true
	case why == entity:
		return len(head) > headHuge && len(head) > len(body)+rest
	default:
		return len(head) > headLarge || bytes.Count(head, []byte("\r\n")) > linesMany
	}
}
