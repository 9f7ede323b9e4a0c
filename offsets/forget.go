package offsets

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// fits tells whether all that has to be remembered takes no more than so many frames, where need be without what others had.
func (s *Store) fits(most int) bool {
	if now := s.opt.Now(); s.table.size > most || s.table.size > most/2 && now.Sub(s.table.counted) > time.Second {
		s.table.recount()
		s.table.counted = now
	}
	if s.table.size > most {
		s.forget(most * 3 / 4)
	}
	return s.table.size <= most
}

// forget leaves out what groups and topics had that this process does not consume, and says so. Who consumes it again goes on where Kafka's
// commit is. The caller holds the lock.
func (s *Store) forget(most int) {
	if s.opt.Group == "" {
		return // nobody has said what is consumed here
	}
	gone := s.table.forget(most, func(k Key) bool { return k.Group == s.opt.Group && slices.Contains(s.opt.Topics, k.Topic) })
	if len(gone) == 0 {
		return
	}
	var named []string
	for _, k := range gone {
		if name := fmt.Sprintf("%s of group %s", k.Topic, k.Group); !slices.Contains(named, name) {
			named = append(named, name)
		}
	}
	more := len(named) - 5
	s.opt.Log.Warn("offsets: the file is full: what was unused for longest is forgotten, of topics that are not consumed here; whoever does again goes on where Kafka's commit is",
		"file", s.path, "partitions", len(gone), "topics", named[:min(len(named), 5)], "more_topics", max(0, more))
}

// forget makes room: it leaves out what others than keep names had, the longest unused first, until the rest takes no more than so many
// frames.
func (m *table) forget(most int, keep func(Key) bool) (forgotten []Key) {
	var idle []*slot
	for k, t := range m.current {
		if t.owner == nil && !keep(k) {
			idle = append(idle, t)
		}
	}
	slices.SortFunc(idle, func(a, b *slot) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.number, b.number)) })
	for i := 0; i < len(idle) && m.size > most; i++ {
		m.remove(idle[i].key)
		forgotten = append(forgotten, idle[i].key)
	}
	return forgotten
}
