package api

import (
	"io"
	"net/http"
	"time"
)

// So much of a body that nobody wants is read behind the answer, for so long.
const (
	lingerMost = 128 << 20
	lingerTime = 5 * time.Second
)

// lingering reads on for so long, and throws away, where a request is answered before its end. Most clients write all of it before they read: they
// would find their connection reset, and never see the answer.
func lingering(h http.Handler, most time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		if r.ContentLength == 0 {
			return
		}
		c := http.NewResponseController(w)
		_, _ = c.Flush(), c.SetReadDeadline(time.Now().Add(most))
		_, _ = io.CopyN(io.Discard, r.Body, lingerMost) // at its end at once, where all was read
	})
}
