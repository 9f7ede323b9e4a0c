package offsets

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// topicOf assigns partitions of a group's topic side by side, as a start does, and lets go of them unless they are kept.
func topicOf(t testing.TB, s *Store, group, topic string, partitions int32, keep bool) {
	t.Helper()
	var all sync.WaitGroup
	for n := range partitions {
		all.Go(func() {
			p, err := s.Assign(Key{"Zad7Km2n6XJdD8EPekcOrw", group, topic, "tAuGuid4SO6eyhBBMXZ4fQ", n}, Start{Lineage: 1, Committed: -1})
			if err != nil {
				t.Error(err)
				return
			}
			if p.Fetched(0) {
				must(t, p.Intent(Attempt{Offset: 0, Number: 1}), p.Done(0))
			}
			if !keep {
				p.Release()
			}
		})
	}
	all.Wait()
}

// TestForget: what groups and topics had that are not this process's any more makes room for what it has, the longest unused first, and
// says so. What protects from a repeat in this process's own is never forgotten, however old it is.
func TestForget(t *testing.T) {
	const groups, partitions = 90, 100
	var said bytes.Buffer
	now := time.Unix(1_800_000_000, 0)
	dir, o := t.TempDir(), Options{Log: slog.New(slog.NewTextHandler(&said, nil)), Sync: Sync{Window: -1}, Now: func() time.Time { return now },
		Group: "mine", Topics: []string{"orders", "later"}}
	s := mustOpen(t, dir, o)
	topicOf(t, s, "mine", "orders", partitions, false)
	topicOf(t, s, "mine", "later", 1, false)
	topicOf(t, s, "mine", "not any more", 1, false)
	for group := range groups {
		now = now.Add(time.Hour)
		topicOf(t, s, fmt.Sprintf("the-orders-service-of-the-warehouse-%02d", group), "warehouse.orders.changed.v1", partitions, false)
	}
	must(t, s.Close())
	s = mustOpen(t, dir, o)
	topicOf(t, s, "mine", "orders", 2*partitions, true)
	must(t, s.Close())
	s = mustOpen(t, dir, o)
	knows := func(group, topic string) int32 {
		count := int32(0)
		for n := range int32(2 * partitions) {
			if saved, ok := s.Saved(Key{"Zad7Km2n6XJdD8EPekcOrw", group, topic, "tAuGuid4SO6eyhBBMXZ4fQ", n}); ok && saved.Next == 1 {
				count++
			}
		}
		return count
	}
	if n, later := knows("mine", "orders"), knows("mine", "later"); n != 2*partitions || later != 1 {
		t.Errorf("of this group's own it knows %d of %d, and %d of 1", n, 2*partitions, later)
	}
	if first, last := knows("the-orders-service-of-the-warehouse-00", "warehouse.orders.changed.v1"), knows("the-orders-service-of-the-warehouse-89", "warehouse.orders.changed.v1"); first != 0 || last != partitions {
		t.Errorf("it knows %d of the group that is unused for longest, and %d of the newest one", first, last)
	}
	if n := knows("mine", "not any more"); n != 0 {
		t.Error("it knows a topic of days ago that is consumed no more")
	}
	if lines := strings.Count(said.String(), "forgotten"); lines == 0 || lines > 5 || !strings.Contains(said.String(), "warehouse-00") {
		t.Errorf("%d lines tell what was forgotten:\n%.2000s", lines, &said)
	}
}

// TestForgetInVain: where nothing is to be forgotten, a start says what to do, as ever.
func TestForgetInVain(t *testing.T) {
	o := quiet()
	o.Group, o.Topics = "g", []string{"t"}
	s := mustOpen(t, t.TempDir(), o)
	var err error
	for n := int32(0); err == nil && n < 100; n++ {
		_, err = s.Assign(Key{"c", "g", "t", "id", n}, Start{Lineage: 1, Committed: -1})
	}
	if err == nil || !strings.Contains(err.Error(), "use more volumes with fewer partitions each") {
		t.Error(err)
	}
	if s.failed != nil {
		t.Error(s.failed)
	}
}

// BenchmarkAssign: a start on a volume that knows others' partitions. The time is of all of them.
func BenchmarkAssign(b *testing.B) {
	for _, row := range []struct {
		others     int
		partitions int32
	}{{0, 100}, {0, 1000}, {50, 100}, {50, 1000}} {
		b.Run(fmt.Sprintf("%d beside %d", row.partitions, row.others*100), func(b *testing.B) {
			dir, o := b.TempDir(), Options{Log: slog.New(slog.DiscardHandler), Group: "mine", Topics: []string{"orders"}}
			s := mustOpen(b, dir, o)
			for group := range row.others {
				topicOf(b, s, fmt.Sprintf("group-%02d", group), "orders", 100, false)
			}
			round := 0
			b.ResetTimer()
			for b.Loop() {
				round++
				var all sync.WaitGroup
				for n := range row.partitions {
					all.Go(func() {
						k := Key{"Zad7Km2n6XJdD8EPekcOrw", "mine", "orders", fmt.Sprint("id", round), n}
						s.Foreign(k)
						p, err := s.Assign(k, Start{Lineage: 1, Committed: -1})
						if err != nil {
							b.Error(err)
							return
						}
						p.Release()
					})
				}
				all.Wait()
			}
		})
	}
}
