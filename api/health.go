package api

import (
	"encoding/json"
	"net"
	"net/http"
)

// Source is whose health is told. Each answer is a list of sentences; an empty one means that all is well.
type Source interface {
	Live() []string  // why the process cannot make progress by itself any more
	Ready() []string // what it is waiting for before it can work
	Notes() []string // worth knowing, but no reason for either
}

// report is the body of /healthz and /readyz.
type report struct {
	OK    bool     `json:"ok"`
	Why   []string `json:"why"`
	Notes []string `json:"notes,omitempty"`

	volume string // from volumeHeader
}

// volumeHeader tells a probe whose health it is.
const volumeHeader = "Kpush-Volume"

// Health answers GET /healthz and /readyz: 200 or 503, and why. volume is the id of the process's.
func Health(volume string, sources ...Source) http.Handler {
	mux := http.NewServeMux()
	answer := func(ask func(Source) []string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			r := report{Why: []string{}}
			for _, s := range sources {
				r.Why = append(r.Why, ask(s)...)
				r.Notes = append(r.Notes, s.Notes()...)
			}
			r.OK = len(r.Why) == 0
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set(volumeHeader, volume)
			if !r.OK {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			_ = json.NewEncoder(w).Encode(r) // an error here means that the caller has gone
		}
	}
	mux.Handle("GET /healthz", answer(Source.Live))
	mux.Handle("GET /readyz", answer(Source.Ready))
	return mux
}

// reach is where on this machine a process answers that listens on addr: a wildcard is reached on loopback.
func reach(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port), nil
}
