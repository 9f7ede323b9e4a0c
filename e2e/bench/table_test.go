package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	a, b, c, d := figures{1, 40, 100, 5, 9}, figures{3, 10, 200, 7, 8}, figures{2, 20, 400, 6, 7}, figures{9, 30, 300, 8, 6}
	for _, row := range []struct {
		runs []figures
		want figures
	}{
		{[]figures{a}, a},
		{[]figures{a, b}, figures{2, 25, 150, 6, 8.5}},
		{[]figures{a, b, c}, figures{2, 20, 200, 6, 8}},
		{[]figures{a, b, c, d}, figures{2.5, 25, 250, 6.5, 7.5}},
	} {
		if got := median(row.runs); got != row.want {
			t.Errorf("the median of %v is %v, want %v", row.runs, got, row.want)
		}
	}
}

func TestSpread(t *testing.T) {
	for want, rates := range map[string][]float64{"± 0 %": {7}, "± 25 %": {60, 100, 70}} {
		var runs []figures
		for _, r := range rates {
			runs = append(runs, figures{rate: r})
		}
		if got := spread(runs); got != want {
			t.Errorf("the spread of %v is %s, want %s", rates, got, want)
		}
	}
}

func TestBound(t *testing.T) {
	for _, row := range []struct {
		bound bound
		value float64
		kept  bool
		text  string
	}{
		{atLeast(3.5, ""), 3.5, true, "≥ 3.5"},
		{atLeast(3.5, ""), 3.49, false, "≥ 3.5"},
		{atMost(48, " MiB"), 48, true, "≤ 48 MiB"},
		{atMost(48, " MiB"), 48.1, false, "≤ 48 MiB"},
	} {
		if row.bound.kept(row.value) != row.kept || row.bound.String() != row.text {
			t.Errorf("%v keeps %s: %t, want %t and %q", row.value, row.bound, row.bound.kept(row.value), row.kept, row.text)
		}
	}
}

func TestFigures(t *testing.T) {
	got := figuresOf(count{Messages: 50_000, First: 1e9, Last: 3e9}, 2*time.Second, 30)
	if want := (figures{rate: 25_000, cpu: 4, rss: 30}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := figuresOf(count{Messages: 1, First: 1e9, Last: 1e9}, time.Second, 30); got.rate != 0 {
		t.Errorf("one message has the rate %v, want none", got.rate)
	}
}

func TestCPU(t *testing.T) {
	got, err := cpuOf("17 (a (b) c) S 1 17 17 0 -1 4194560 9 0 0 0 150 25 0 0 20 0 9 0 100 1 2\n")
	if err != nil || got != 1750*time.Millisecond {
		t.Errorf("got %v, %v, want 1.75s", got, err)
	}
	for _, bad := range []string{"", "17 (a) S 1", "17 (a) S 1 17 17 0 -1 4194560 9 0 0 0 x 25 0"} {
		if got, err := cpuOf(bad); err == nil {
			t.Errorf("%q has the CPU time %v", bad, got)
		}
	}
}

func TestThousands(t *testing.T) {
	for value, want := range map[float64]string{0: "–", 7: "7", 999: "999", 123_456: "123,456", 1000: "1,000", 41_250.4: "41,250", 1e6: "1,000,000"} {
		if got := thousands(value); got != want {
			t.Errorf("%v is %q, want %q", value, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	var sheet table
	sheet.row(row{scene: "a", name: "kpush", figures: figures{rate: 41_250, cpu: 1.987, rss: 43}})
	sheet.row(row{scene: "b", name: "order=key", remark: "not supported yet"})
	sheet.verdicts = []verdict{{"a", "messages/s, kpush : loop", 3.4, atLeast(3.5, "")}, {"a", "peak RSS", 43, atMost(48, " MiB")}}
	if !sheet.has("b") || sheet.has("c") {
		t.Error("the table does not know its scenarios")
	}
	want := `| scenario | contender | messages/s | CPU-s per 100k | peak MiB |  |
|---|---|---|---|---|---|
| a | kpush | 41,250 | 1.99 | 43 |  |
| b | order=key | – | – | – | not supported yet |

| scenario | figure | value | bound |  |
|---|---|---|---|---|
| a | messages/s, kpush : loop | 3.40 | ≥ 3.5 | BROKEN |
| a | peak RSS | 43.00 MiB | ≤ 48 MiB | kept |

`
	if got := sheet.markdown(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var printed strings.Builder
	sheet.print(&printed)
	if text := printed.String(); strings.Count(text, "\n") != 8 || !strings.Contains(text, "BROKEN") {
		t.Errorf("got\n%s", text)
	}
}

func TestWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("before\n" + opening + "old\n" + closing + "after\n")
	for _, text := range []string{"new\n", "newer\n"} { // it can be written again
		if err := write(file, text); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if want := "before\n" + opening + text + closing + "after\n"; err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	for _, bad := range []string{"", opening, closing, closing + opening} {
		put(bad)
		if err := write(file, "new\n"); err == nil {
			t.Errorf("a page with %q was written", bad)
		}
	}
}
