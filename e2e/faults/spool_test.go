package faults

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// windowMost is how many records of a topic a crash may send again.
const windowMost = 1000

// publishers are services that publish through the spool, one after the other with a key of its own, and what they were told.
type publishers struct {
	*testing.T
	story   string
	rng     *rand.Rand
	k       *rig.Kafka
	sc      *rig.Sidecar
	link    *rig.Link
	topic   string
	callers int

	mu      sync.Mutex
	kept    map[string]bool // values that were answered with 202
	refused map[string]bool // and with 429 or 503
	next    []int           // of each caller
	ends    []map[int32]int64
	lives   int
}

var publishing = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// publish sends some records of a caller in one request, and notes whether they are kept. Nobody knows what has become of them where there is no
// answer.
func (p *publishers) publish(caller int) (answered bool) {
	p.mu.Lock()
	from, many := p.next[caller], 1
	if p.rng.IntN(10) == 0 {
		many = 2 + p.rng.IntN(8)
	}
	p.next[caller] += many
	p.mu.Unlock()
	var values, records []string
	for n := range many {
		values = append(values, fmt.Sprintf("%d/%d", caller, from+n))
		records = append(records, fmt.Sprintf(`{"key":"caller-%d","value":"%s"}`, caller, values[n]))
	}
	url, kind, body := fmt.Sprintf("http://%s/topics/%s?async=true", p.sc.API(), p.topic), "application/vnd.kafka.text.v2+json", `{"records":[`+strings.Join(records, ",")+"]}"
	if many == 1 {
		url, kind, body = url+fmt.Sprintf("&key=caller-%d", caller), "text/plain", values[0]
	}
	r, err := publishing.Post(url, kind, strings.NewReader(body))
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, r.Body)
	if r.Body.Close(); err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range values {
		switch r.StatusCode {
		case 202:
			p.kept[v] = true
		case 429, 503: // the disk of a busy machine may take its time
			p.refused[v] = true
		default:
			p.Errorf("%s: %s is answered %d.", p.story, v, r.StatusCode)
		}
	}
	return true
}

// live has all of them publish at once until so many more records are kept, does the fault, and starts again. In every third life Kafka is away.
func (p *publishers) live(records int, fault, start func()) {
	p.Helper()
	away := p.lives%3 == 2
	if p.lives++; away {
		p.link.Cut()
	}
	rig.Within(p, patience, "the address of the API", func() bool { return p.sc.API() != "" })
	p.mu.Lock()
	records += len(p.kept)
	p.mu.Unlock()
	var all sync.WaitGroup
	for caller := range p.callers {
		all.Go(func() {
			for p.publish(caller) {
			}
		})
	}
	rig.Within(p, patience, "records", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.kept) >= records })
	fault()
	all.Wait()
	publishing.CloseIdleConnections()
	if away {
		p.link.Heal(true)
	}
	p.ends = append(p.ends, p.k.EndOffsets(p, p.topic))
	start()
}

func (p *publishers) spooled() float64 {
	p.Helper()
	return p.sc.Call(p, 200, "GET", "/status", "")["publish"].(map[string]any)["spooled"].(float64)
}

// judge wants all that was kept to be in Kafka, in order per key, and no crash to have cost more than its bound.
func (p *publishers) judge(remark string) {
	p.Helper()
	for left := p.spooled(); left > 0; { // one of a key after the other
		rig.Within(p, patience, fmt.Sprintf("fewer than %v records in the spool", left), func() bool { return p.spooled() < left })
		left = p.spooled()
	}
	p.sc.Shut(p, 15*time.Second)
	seen, next, repeats := map[string]bool{}, map[string]int{}, make([]int, len(p.ends)+1)
	total := 0
	for _, r := range p.k.Read(p, p.topic) {
		value := string(r.Value)
		if seen[value] {
			life := 0
			for life < len(p.ends) && r.Offset >= p.ends[life][r.Partition] {
				life++
			}
			repeats[life]++
			total++
			continue
		}
		if seen[value] = true; p.refused[value] {
			p.Errorf("%s (seed %d): %s was refused, and is in Kafka.", p.story, *seed, value)
		}
		var caller string
		var n int
		if _, err := fmt.Sscanf(strings.Replace(value, "/", " ", 1), "%s %d", &caller, &n); err != nil {
			p.Fatalf("%q was never published.", value)
		}
		if n < next[caller] {
			p.Errorf("%s (seed %d): %s arrives after %s/%d.", p.story, *seed, value, caller, next[caller]-1)
		}
		next[caller] = n + 1
	}
	lost := 0
	for value := range p.kept {
		if !seen[value] {
			lost++
		}
	}
	if lost > 0 {
		p.Errorf("%s (seed %d): %d of %d records that were answered with 202 are not in Kafka.", p.story, *seed, lost, len(p.kept))
	}
	most := 0
	for life, n := range repeats {
		most = max(most, n)
		if bound := min(life, 1) * windowMost; n > bound {
			p.Errorf("%s (seed %d): crash %d cost %d repeats, the bound is %d.", p.story, *seed, life, n, bound)
		}
	}
	rig.Tell(p, rig.Row{Story: p.story, Runs: fmt.Sprint(len(p.ends)), Lost: lost, Repeats: fmt.Sprintf("%d, a run at most %d (%d)", total, most, windowMost),
		Flagged: "-", Remark: fmt.Sprintf("%d records with 202, all in order of their key, %d with 503; %s", len(p.kept), len(p.refused), remark)})
}

// publish stages a sidecar that only publishes, by a link that can be cut.
func publish(t *testing.T, story, volume string) *publishers {
	t.Helper()
	rig.Broken(t, story)
	const callers, partitions = 24, 8
	p := &publishers{T: t, story: story, rng: rand.New(rand.NewPCG(*seed, 1)), k: rig.Own(t, 1), callers: callers, kept: map[string]bool{}, refused: map[string]bool{}, next: make([]int, callers)}
	p.topic, p.link = p.k.Topic(t, partitions), p.k.Link(t)
	p.sc = rig.NewSidecar(t, volume, "KPUSH_BROKERS="+p.link.Brokers, "KPUSH_PUBLISH_SPOOL=64MiB")
	return p
}

// TestSpoolKills: kill -9 at random under callers who publish with async=true: every 202 arrives, in order per key.
func TestSpoolKills(t *testing.T) {
	t.Parallel()
	p := publish(t, "kill -9, spool of 24 publishers", t.TempDir())
	p.sc.Start(t)
	for range times(200, 6) {
		p.live(1+p.rng.IntN(1500), p.sc.Kill, func() { p.sc.Start(t) })
	}
	p.judge("Kafka away in every third life")
}

// TestSpoolPowerCuts is TestSpoolKills for the machine.
func TestSpoolPowerCuts(t *testing.T) {
	t.Parallel()
	const story = "power cut, spool of 24 publishers"
	m := machine(t, story, 128, "")
	p := publish(t, story, m.Disk)
	m.Start(t, p.sc)
	for range times(30, 3) {
		p.live(1+p.rng.IntN(3000), func() { m.PowerCut(t, p.sc) }, func() { m.Start(t, p.sc) })
	}
	p.judge("Kafka away in every third life; ext4 in a loop device, EXT4_IOC_SHUTDOWN without its journal")
}
