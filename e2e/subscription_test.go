package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestAStaticMemberComesBackWithOtherTopics: the group gives a static member that is back within its session what it had, whatever
// it subscribes to now, so a sidecar with other topics is another member. It has what it had before once its former self has timed out.
func TestAStaticMemberComesBackWithOtherTopics(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name      string
		ends      func(*testing.T, *rig.Sidecar)
		id        string
		now, left string // a: the first topic, b: the second
	}{
		{"one more, its id set", stops, "pod-0", "a,b", ""},
		{"another, its id set", stops, "pod-0", "b", "a"},
		{"one more, killed", kills, "", "a,b", ""},
		{"another, killed", kills, "", "b", "a"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()                                  // it mostly waits
			const partitions, bound = 2, 12 * time.Second // the session of the member that it was: 10 s
			k, svc := kafka(t), service(t)
			topics := map[string]string{"a": k.Topic(t, partitions), "b": k.Topic(t, partitions)}
			with := func(names string) string {
				return "KPUSH_TOPIC=" + strings.NewReplacer("a", topics["a"], "b", topics["b"]).Replace(names)
			}
			dir, group := t.TempDir(), topics["a"]
			env := wiring(k, group, svc)
			if row.id != "" {
				env = append(env, "KPUSH_INSTANCE_ID="+row.id)
			}
			produced := k.Produce(t, topics["a"], numbered("before", partitions, 20)...)
			sc := rig.NewSidecar(t, dir, append(env, with("a"))...)
			sc.Start(t)
			hears(t, svc, 0, produced)
			noLag(t, k, group) // a kill between a 2xx and its record may repeat it
			row.ends(t, sc)
			var after []rig.Record
			for name, topic := range topics {
				records := k.Produce(t, topic, numbered("after-"+name, partitions, 20)...)
				if name != row.left {
					after = append(after, records...)
				}
			}
			sc = rig.NewSidecar(t, dir, append(env, with(row.now))...)
			sc.Start(t)
			began := time.Now()
			took := hears(t, svc, 0, after)
			below(t, "The first delivery of the topic that came", began, took, bound)
			sc.Ready(t, patience)
			for _, r := range svc.Requests() {
				if strings.HasPrefix(r.Head, "after-"+row.left) && row.left != "" {
					t.Errorf("%s is of a topic that the sidecar does not have any more.", r)
				}
			}
			sc.Shut(t, 10*time.Second)
			exactly(t, svc, 0, append(produced, after...))
			t.Logf("%s: %v.", row.name, took.Round(10*time.Millisecond))
		})
	}
}

func stops(t *testing.T, sc *rig.Sidecar) { sc.Shut(t, 10*time.Second) }
func kills(_ *testing.T, sc *rig.Sidecar) { sc.Kill() }
