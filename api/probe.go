package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Probe asks the process that listens on addr for its health, for containers without a shell, and says in one line what is well and what
// is noted. volume is the id of this container's, "" where it has none yet: who has another one is another sidecar, which shares the
// network and was there first. An error means that it is not healthy, and nothing else does: what it waits for is said, too, and marked as no reason.
func Probe(ctx context.Context, addr, volume string) (said string, err error) {
	at, err := reach(addr)
	if err != nil {
		return "", fmt.Errorf("KPUSH_HEALTH_ADDR=%s: %w", addr, err)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	at = "http://" + at
	well, err := get(ctx, at+"/healthz")
	if err != nil {
		return "", err
	}
	if well.volume != "" && volume != "" && well.volume != volume {
		return "", fmt.Errorf("another kpush answers at KPUSH_HEALTH_ADDR=%s, with the volume %s instead of %s: two in one network need two addresses", addr, well.volume, volume)
	}
	if !well.OK {
		return "", fmt.Errorf("not healthy: %s", inOneLine(append(well.Why, well.Notes...)))
	}
	said = "healthy"
	if len(well.Notes) > 0 {
		said += ": " + inOneLine(well.Notes)
	}
	switch ready, err := get(ctx, at+"/readyz"); {
	case err != nil:
		said += "; /readyz does not answer (no reason for exit code 1)"
	case !ready.OK:
		said += "; not ready (no reason for exit code 1): " + inOneLine(ready.Why)
	}
	return said, nil
}

// probeTime is for both questions: less than a container's engine gives a health check.
const probeTime = 3 * time.Second

// get returns what the path says, whatever its status is.
func get(ctx context.Context, url string) (r report, err error) {
	c := http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}
	question, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return r, fmt.Errorf("nobody can be asked at %s", url)
	}
	resp, err := c.Do(question)
	if err != nil {
		return r, fmt.Errorf("no kpush answers: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return r, fmt.Errorf("kpush's answer broke off: %w", err)
	}
	r.volume = resp.Header.Get(volumeHeader)
	if err := json.Unmarshal(body, &r); err != nil || r.OK != (resp.StatusCode == http.StatusOK) || !r.OK && len(r.Why) == 0 {
		return r, fmt.Errorf("what answers at %s is no kpush: status %d, %.200q", url, resp.StatusCode, body)
	}
	return r, nil
}

func inOneLine(sentences []string) string {
	return strings.Join(strings.Fields(strings.Join(sentences, "; ")), " ")
}
