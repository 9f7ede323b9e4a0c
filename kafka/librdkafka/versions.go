package librdkafka

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// versions are which brokers are too old for static members: to those librdkafka does not say group.instance.id, and it does not tell that
// it does not. What a broker can do is only in its debug lines.
type versions struct {
	mu  sync.Mutex
	old map[string]bool // by broker, as librdkafka names it
}

// joinable is the line about JoinGroup, whose version 5 was the first with group.instance.id (Kafka 2.3).
var joinable = regexp.MustCompile(`: (\S+):   ApiKey JoinGroup \(11\) Versions \d+\.\.(\d+)$`)

const staticFrom = 5

// hear takes in a line of the client's log.
func (v *versions) hear(tag, text string) {
	if tag != "APIVERSION" {
		return
	}
	if said := joinable.FindStringSubmatch(text); said != nil {
		version, _ := strconv.Atoi(said[2]) // digits
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.old == nil {
			v.old = map[string]bool{}
		}
		v.old[said[1]] = version < staticFrom
	}
}

// tooOld is one of them, by its address if librdkafka names it so, "" where there is none.
func (v *versions) tooOld() (name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for broker, is := range v.old {
		if is && (name == "" || strings.HasPrefix(name, "GroupCoordinator/")) {
			name = broker
		}
	}
	return name
}
