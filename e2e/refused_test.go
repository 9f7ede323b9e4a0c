package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kpush/kpush/e2e/rig"
)

// TestAGroupThatRefuses: for each of Kafka's reasons it is named until it is gone, and then the member is taken.
func TestAGroupThatRefuses(t *testing.T) {
	t.Parallel() // it mostly waits
	k := rig.Own(t, 1, "group.max.size=2", "group.min.session.timeout.ms=8000", "group.coordinator.rebalance.protocols=classic,consumer,share",
		"share.coordinator.state.topic.replication.factor=1", "share.coordinator.state.topic.min.isr=1")
	join := func(t *testing.T, topic string, how kgo.GroupBalancer) (leave func()) {
		other, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers), kgo.ConsumerGroup(topic), kgo.ConsumeTopics(topic), kgo.Balancers(how))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(other.Close)
		members := len(k.Describe(t, topic).Members)
		rig.Within(t, patience, "a member", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			other.PollFetches(ctx)
			g := k.Describe(t, topic)
			given := 0 // a cooperative group is stable before it has given what it took
			for _, partitions := range g.Members {
				given += partitions
			}
			return len(g.Members) > members && g.State == "Stable" && given == 2
		})
		return other.Close
	}
	for name, row := range map[string]struct {
		begin func(t *testing.T, topic string) (mend func())
		why   string
		noted string // by -check, without a process that runs
		env   []string
	}{
		"another assignor": {func(t *testing.T, topic string) func() { return join(t, topic, kgo.RangeBalancer()) }, "Inconsistent group protocol", "1 members that use the assignor range", nil},
		"no room": {func(t *testing.T, topic string) func() {
			leave := join(t, topic, kgo.CooperativeStickyBalancer())
			join(t, topic, kgo.CooperativeStickyBalancer())
			return leave
		}, "Consumer group has reached maximum size", "", nil},
		"a short session": {func(*testing.T, string) func() { return nil }, "Invalid session timeout", "", []string{"KPUSH_CONSUMER_CONF=session.timeout.ms=6000"}},
		"a share group":   {func(t *testing.T, topic string) func() { share(t, k, topic); return nil }, "Inconsistent group protocol", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			svc, topic := service(t), k.Topic(t, 2)
			produced := k.ProduceEvenly(t, topic, 2, 20, 100)
			mend := row.begin(t, topic)
			sc := sidecar(t, k, topic, svc, append(row.env, fmt.Sprintf("KPUSH_HEALTH_ADDR=127.0.0.1:%d", rig.Port(t)))...)
			sentence := "waiting for a place in group " + topic + ": the group does not take this member: JoinGroup failed: Broker: " + row.why
			says(t, sc, sentence)
			checked(t, sc, 0, "the kpush that runs: healthy", sentence, row.noted)
			if mend == nil {
				return
			}
			mend()
			if name == "no room" {
				sc.Ready(t, patience) // the other one may have them all
				return
			}
			svc.Await(t, len(produced), patience)
			sc.Ready(t, patience)
		})
	}
}

// share makes a share group: one member is enough, for as long as its session lasts.
func share(t *testing.T, k *rig.Kafka, topic string) {
	one, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers))
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	q := kmsg.NewPtrShareGroupHeartbeatRequest()
	q.GroupID, q.MemberID, q.SubscribedTopicNames = topic, strings.Repeat("A", 22), []string{topic}
	rig.Within(t, patience, "a share group", func() bool {
		a, err := q.RequestWith(t.Context(), one)
		return err == nil && a.ErrorCode == 0
	})
}

// TestBrokersBeforeStaticMembers: that nothing comes back at once is a note, and with guarantee 3 the end.
func TestBrokersBeforeStaticMembers(t *testing.T) {
	t.Parallel() // it mostly waits
	k := rig.Own(t, 1)
	link := k.Link(t)
	before := map[kmsg.Key]int16{kmsg.JoinGroup: 4, kmsg.SyncGroup: 2, kmsg.Heartbeat: 2, kmsg.LeaveGroup: 2, kmsg.OffsetCommit: 6, kmsg.DescribeGroups: 3} // as Kafka 2.2 has them
	link.Change(func(r kmsg.Response) {
		if v, ok := r.(*kmsg.ApiVersionsResponse); ok {
			for i, api := range v.ApiKeys {
				if most, ok := before[kmsg.Key(api.ApiKey)]; ok {
					v.ApiKeys[i].MaxVersion = most
				}
			}
		}
	})
	const noted, ended = "is older than Kafka 2.3 and knows no static members", "KPUSH_MESSAGE_DELIVERY_GUARANTEES=3 needs a static member"
	svc, topic := service(t), k.Topic(t, 2)
	produced := k.ProduceEvenly(t, topic, 2, 20, 100)
	three := sidecar(t, k, topic, svc, "KPUSH_BROKERS="+link.Brokers, "KPUSH_MESSAGE_DELIVERY_GUARANTEES=3")
	three.Wait(t, 2, 15*time.Second)
	said(t, three, ended)
	checked(t, three, 2, ended)
	if n := svc.Delivered(); n > 0 {
		t.Errorf("%d delivered by a sidecar that may not.", n)
	}
	two := sidecar(t, k, topic, svc, "KPUSH_BROKERS="+link.Brokers)
	svc.Await(t, len(produced), patience)
	two.Ready(t, patience)
	if notes := fmt.Sprint(two.Ask("/readyz").Notes); !strings.Contains(notes, noted) {
		t.Errorf("It notes %s.", notes)
	}
	checked(t, two, 0, noted)
	two.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 0)
}
