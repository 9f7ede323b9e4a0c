package bench

import (
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// address is where a kpush has logged that something listens, "" where it has not yet.
func (p *process) address(what string) string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		var said struct{ Msg, Addr string }
		if json.Unmarshal([]byte(line), &said) == nil && said.Msg == what+" listens" {
			return said.Addr
		}
	}
	return ""
}

// look asks a kpush for its status every second and for its metrics every five, as a page and a Prometheus do, until its end is called.
func (s *scene) look(p *process) (end func()) {
	s.Helper()
	rig.Within(s, 10*time.Second, "the addresses of API and health", func() bool { return p.address("api") != "" && p.address("health server") != "" })
	status, metrics := "http://"+p.address("api")+"/status", "http://"+p.address("health server")+"/metrics"
	over, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for n := 0; ; n++ {
			s.read(status)
			if n%5 == 0 {
				s.read(metrics)
			}
			select {
			case <-over:
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(over); <-gone }
}

func (s *scene) read(url string) (text string) {
	response, err := asker.Get(url)
	if err != nil {
		s.Errorf("%s: %v", url, err)
		return ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || len(body) == 0 || response.StatusCode != 200 {
		s.Errorf("%s: %d, %d bytes, %v", url, response.StatusCode, len(body), err)
	}
	return string(body)
}

// syncs is how often a kpush has synced its file.
func (s *scene) syncs(p *process) int {
	s.Helper()
	for line := range strings.Lines(s.read("http://" + p.address("health server") + "/metrics")) {
		if count, ok := strings.CutPrefix(line, "kpush_file_sync_duration_seconds_count "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(count))
			if err != nil {
				s.Fatalf("the metric of syncs: %v", err)
			}
			return n
		}
	}
	s.Fatalf("there is no metric of syncs")
	return 0
}
