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

func TestConfirmTargetAndReadyTarget(t *testing.T) {
	const domain = "shop.example"
	for _, row := range []struct{ service, set, want, domain string }{
		{"KPUSH_HOST=10.0.0.1,10.0.0.2", "", "", ""},
		{"KPUSH_HOST=10.0.0.1,10.0.0.2", "/has?x=1", "http://10.0.0.1:80/has?x=1", domain},
		{"KPUSH_HOST=10.0.0.1,unix:/run/app.sock", "https://b/has", "https://b/has", ""},
		{"KPUSH_HOST=10.0.0.1", "http://10.0.0.1:80/has", "http://10.0.0.1:80/has", ""},
		{"KPUSH_HOST=unix:/run/app.sock,10.0.0.1", "/has?x=1", "http+unix://%2Frun%2Fapp.sock/has?x=1", domain},
		{"KPUSH_URL=https://u:p@app:8443/in?a=1", "/has", "https://u:p@app:8443/has", domain},
		{"KPUSH_URL=https://app?to=http://x/", "/has", "https://app/has", domain},
		{"KPUSH_URL=http://app", "//has", "http://app//has", domain},
		{"KPUSH_URL=/in?to=http://x/", "/has", "http://127.0.0.1:80/has", domain},
	} {
		c := forwarding(load(t, row.service, "KPUSH_DOMAIN="+domain, "KPUSH_CONFIRM_URL="+row.set, "KPUSH_READY_URL="+row.set), "")
		if c.ConfirmURL != row.want || c.ReadyURL != row.want {
			t.Errorf("%s, %s: asked are %q and %q, want %q", row.service, row.set, c.ConfirmURL, c.ReadyURL, row.want)
		}
		if c.ConfirmDomain != row.domain || c.ReadyDomain != row.domain {
			t.Errorf("%s, %s: the Host headers are %q and %q, want %q", row.service, row.set, c.ConfirmDomain, c.ReadyDomain, row.domain)
		}
	}
	if c := load(t, "KPUSH_MESSAGE_DELIVERY_GUARANTEES=1", "KPUSH_READY_URL=/up"); c.ReadyTarget() == "" {
		t.Error("guarantee 1 knows nothing of a service's readiness")
	}
}
