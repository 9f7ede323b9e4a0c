package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/kafka/librdkafka"
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
		{[]string{"KPUSH_OFFSETS_SYNC=5ms"}, offsets.Sync{Window: 5 * time.Millisecond, Unsynced: offsets.DefaultSync.Unsynced}},
	} {
		if got := syncing(ready(t, row.set...)); got != row.want {
			t.Errorf("%v: %+v, want %+v", row.set, got, row.want)
		}
	}
}

func TestGuaranteeOneKeepsNothing(t *testing.T) {
	c := ready(t, "KPUSH_MESSAGE_DELIVERY_GUARANTEES=1", "KPUSH_OFFSETS_DIR=/nowhere")
	store, err := remember(c, nil)
	if err != nil || store.Keeps() || store.VolumeID() != "" {
		t.Fatalf("remembers in %v, %v", store, err)
	}
	if id := forwarding(c, client(c, store.VolumeID())).InstanceID; id != "" {
		t.Errorf("member %q: without a volume nothing makes two lives one member", id)
	}
}

// Each question has its own URL, and the Host header that goes with it.
func TestQuestionsReachTheService(t *testing.T) {
	c := service(ready(t, "KPUSH_DOMAIN=shop.example", "KPUSH_CONFIRM_URL=/has", "KPUSH_READY_URL=https://b/up"))
	if c.ConfirmURLs[0] != "http://127.0.0.1:80/has" || c.ConfirmDomain != "shop.example" || c.ReadyURLs[0] != "https://b/up" || c.ReadyDomain != "" {
		t.Errorf("asked are %q as %q and %q as %q", c.ConfirmURLs, c.ConfirmDomain, c.ReadyURLs, c.ReadyDomain)
	}
}

func TestConcurrencyIsTheForwarders(t *testing.T) {
	for value, want := range map[string]struct {
		first    int
		adaptive bool
	}{"": {16, false}, "1": {1, false}, "10000": {10000, false}, "auto": {16, true}, "Auto": {16, true}} {
		if got := forwarding(ready(t, "KPUSH_CONCURRENCY="+value), librdkafka.Config{}); got.Concurrency != want.first || got.Adaptive != want.adaptive {
			t.Errorf("KPUSH_CONCURRENCY=%s begins with %d, adaptive %v; want %v", value, got.Concurrency, got.Adaptive, want)
		}
	}
}

func TestSkipOn(t *testing.T) {
	for value, want := range map[string]bool{"": false, "message": false, "any": true} {
		if got := forwarding(ready(t, "KPUSH_SKIP_ON="+value), librdkafka.Config{}).SkipOnAny; got != want {
			t.Errorf("KPUSH_SKIP_ON=%s: faults of the service count: %v, want %v", value, got, want)
		}
	}
}

func TestBatch(t *testing.T) {
	for _, row := range []struct {
		set    []string
		size   int
		linger time.Duration
	}{
		{nil, 1, 5 * time.Millisecond},
		{[]string{"KPUSH_BATCH_SIZE=100"}, 100, 5 * time.Millisecond},
		{[]string{"KPUSH_BATCH_SIZE=10000", "KPUSH_BATCH_LINGER=1m", "KPUSH_CONFIRM_URL=/has"}, 10000, time.Minute},
		{[]string{"KPUSH_BATCH_SIZE=2", "KPUSH_BATCH_LINGER=0s", "KPUSH_ORDER=none"}, 2, 0},
	} {
		if got := forwarding(ready(t, row.set...), librdkafka.Config{}); got.BatchSize != row.size || got.BatchLinger != row.linger {
			t.Errorf("%q gives batches of %d after %v, want %d and %v", row.set, got.BatchSize, got.BatchLinger, row.size, row.linger)
		}
	}
}

func TestOrdersAreTheForwarders(t *testing.T) {
	for value, want := range map[string]string{"": pace.ByPartition, "partition": pace.ByPartition, "KEY": pace.ByKey, "none": pace.None} {
		if got := forwarding(ready(t, "KPUSH_ORDER="+value), librdkafka.Config{}).Order; got != want {
			t.Errorf("KPUSH_ORDER=%s becomes %q, want %q", value, got, want)
		}
	}
}

// What the pages for those who come from elsewhere tell to set is taken, and none of it idles.
func TestMovingOver(t *testing.T) {
	for _, page := range []string{"docs/from-dapr.md", "docs/from-knative.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		var set []string
		for line := range strings.Lines(string(text)) {
			if variable, ok := strings.CutPrefix(line, "    KPUSH_"); ok {
				value, _, _ := strings.Cut(variable, " ")
				set = append(set, "KPUSH_"+strings.TrimSpace(value))
			}
		}
		if idle := ready(t, set...).Idle(); len(set) < 6 || len(idle) > 0 {
			t.Errorf("%s: %q: %q", page, set, idle)
		}
	}
}

// Each option of the origin has its variable on the page for those who come from there, and what is written there is taken.
func TestMovingOverFromPHP(t *testing.T) {
	page, err := os.ReadFile("docs/from-php.md")
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	options := regexp.MustCompile(`(?m)^\| KPUSH_\S+ \| ([a-z_]+) \|`).FindAllStringSubmatch(string(table), -1)
	for _, option := range options {
		if !strings.Contains(string(page), "\n    '"+option[1]+"' ") {
			t.Errorf("the page has no %s", option[1])
		}
	}
	set := []string{"KPUSH_BROKERS="} // its cluster names them
	for _, said := range regexp.MustCompile(`(?m)^(?:    '|\];).*// (?:and )?(KPUSH_[^(\n]*)`).FindAllStringSubmatch(string(page), -1) {
		for _, variable := range strings.Split(strings.ReplaceAll(said[1], ", KPUSH_", "\nKPUSH_"), "\n") {
			if strings.Contains(variable, "=") {
				set = append(set, strings.TrimSpace(variable))
			}
		}
	}
	if idle := ready(t, set...).Idle(); len(set) < 20 || len(options) < 15 || len(idle) > 0 {
		t.Errorf("%d options, %q: %q", len(options), set, idle)
	}
}
