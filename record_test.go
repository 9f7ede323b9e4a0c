package main

import (
	"testing"
	"time"

	"github.com/kpush/kpush/offsets"
)

func TestSyncRule(t *testing.T) {
	for _, row := range []struct {
		set  []string
		want offsets.Sync
	}{
		{nil, offsets.DefaultSync},
		{[]string{"KPUSH_MESSAGE_DELIVERY_GUARANTEES=3"}, offsets.Sync{}},
		{[]string{"KPUSH_MESSAGE_DELIVERY_GUARANTEES=3", "KPUSH_OFFSETS_SYNC=Always"}, offsets.Sync{}},
		{[]string{"KPUSH_OFFSETS_SYNC=always"}, offsets.Sync{}},
		{[]string{"KPUSH_OFFSETS_SYNC=never"}, offsets.Sync{Window: -1}},
		{[]string{"KPUSH_OFFSETS_SYNC=50ms"}, offsets.Sync{Window: 50 * time.Millisecond, Unsynced: offsets.DefaultSync.Unsynced}},
	} {
		if got := load(t, row.set...).Sync(); got != row.want {
			t.Errorf("%v: %+v, want %+v", row.set, got, row.want)
		}
	}
}

func TestGuaranteeOneCommitsSeldomAndKeepsNothing(t *testing.T) {
	if c := load(t, "KPUSH_MESSAGE_DELIVERY_GUARANTEES=1"); c.CommitInterval != 5*time.Second {
		t.Errorf("commit interval %s, want 5s", c.CommitInterval)
	}
	c := load(t, "KPUSH_MESSAGE_DELIVERY_GUARANTEES=1", "KPUSH_COMMIT_INTERVAL=1s", "KPUSH_OFFSETS_DIR=/nowhere")
	if c.CommitInterval != time.Second {
		t.Errorf("commit interval %s, want what was set", c.CommitInterval)
	}
	store, volume, err := remember(c, nil)
	if store != nil || volume != "" || err != nil {
		t.Errorf("remembers in %v, volume %q, %v", store, volume, err)
	}
	if id, _ := c.Member(volume); id != "" {
		t.Errorf("member %q: without a volume nothing makes two lives one member", id)
	}
}

func TestConfirmTarget(t *testing.T) {
	for set, want := range map[string]string{
		"":              "",
		"/has?x=1":      "http://10.0.0.1:81/has?x=1",
		"https://b/has": "https://b/has",
	} {
		if got := load(t, "KPUSH_HOST=10.0.0.1,10.0.0.2", "KPUSH_PORT=81", "KPUSH_CONFIRM_URL="+set).ConfirmTarget(); got != want {
			t.Errorf("KPUSH_CONFIRM_URL=%s: %q, want %q", set, got, want)
		}
	}
}
