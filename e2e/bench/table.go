package bench

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one contender in one scenario.
type row struct {
	scene, name string
	figures
	remark string
}

// verdict is one figure with its bound.
type verdict struct {
	scene, what string
	value       float64
	bound       bound
}

// bound is what a figure must not leave.
type bound struct {
	limit float64
	above bool // the limit is the least, not the most
	unit  string
}

func atLeast(limit float64, unit string) bound { return bound{limit, true, unit} }
func atMost(limit float64, unit string) bound  { return bound{limit, false, unit} }

func (b bound) kept(value float64) bool {
	if b.above {
		return value >= b.limit
	}
	return value <= b.limit
}

func (b bound) String() string {
	sign := "≤"
	if b.above {
		sign = "≥"
	}
	return fmt.Sprintf("%s %g%s", sign, b.limit, b.unit)
}

// book is the whole table, filled by one scenario after the other.
var book table

type table struct {
	machine  string // on which, and how busy it was with other work before
	rows     []row
	verdicts []verdict
}

// heading says when and on what it was measured.
func (t *table) heading(now time.Time) string {
	return fmt.Sprintf("%s; %s; medians of %d rounds.\n\n", now.Format("2 January 2006"), t.machine, *rounds)
}

func (t *table) row(r row) { t.rows = append(t.rows, r) }

func (t *table) has(scene string) bool {
	return slices.ContainsFunc(t.rows, func(r row) bool { return r.scene == scene })
}

// holds puts a figure into the table, and says so where it is out of its bound.
func (s *scene) holds(what string, value float64, b bound) {
	s.Helper()
	book.verdicts = append(book.verdicts, verdict{s.name, what, value, b})
	if !b.kept(value) {
		s.Errorf("%s: %s is %.3g%s; the bound is %s", s.name, what, value, b.unit, b)
	}
}

func rate(f figures) float64 { return f.rate }
func cpu(f figures) float64  { return f.cpu }
func p50(f figures) float64  { return f.p50 }

// compare is holds of the ratio of two contenders; nothing is compared with what could not run.
func (s *scene) compare(what string, of func(figures) float64, one, other string, b bound) {
	s.Helper()
	f, ran := s.medians[one]
	g, both := s.medians[other]
	if ran && both {
		s.holds(fmt.Sprintf("%s, %s : %s", what, one, other), of(f)/of(g), b)
	}
}

// median takes each figure's median by itself; of an even number, the mean of the middle two.
func median(runs []figures) figures {
	middle := func(of func(figures) float64) float64 {
		var values []float64
		for _, f := range runs {
			values = append(values, of(f))
		}
		slices.Sort(values)
		n := len(values)
		return (values[(n-1)/2] + values[n/2]) / 2
	}
	return figures{rate: middle(rate), cpu: middle(cpu), rss: middle(func(f figures) float64 { return f.rss }),
		p50: middle(p50), p99: middle(func(f figures) float64 { return f.p99 })}
}

// spread is how far the runs' messages/s lie apart: what the machine's other work did to them.
func spread(runs []figures) string {
	slow := slices.MinFunc(runs, func(a, b figures) int { return cmp.Compare(a.rate, b.rate) }).rate
	fast := slices.MaxFunc(runs, func(a, b figures) int { return cmp.Compare(a.rate, b.rate) }).rate
	return fmt.Sprintf("± %.0f %%", 100*(fast-slow)/(fast+slow))
}

// cells are the two parts of the table, heads first.
func (t *table) cells() (runs, bounds [][]string) {
	runs = [][]string{{"scenario", "contender", "messages/s", "CPU-s per 100k", "peak MiB", ""}}
	for _, r := range t.rows {
		runs = append(runs, []string{r.scene, r.name, thousands(r.rate), figure("%.2f", r.cpu), figure("%.0f", r.rss), r.remark})
	}
	bounds = [][]string{{"scenario", "figure", "value", "bound", ""}}
	for _, v := range t.verdicts {
		result := "kept"
		if !v.bound.kept(v.value) {
			result = "BROKEN"
		}
		bounds = append(bounds, []string{v.scene, v.what, fmt.Sprintf("%.2f%s", v.value, v.bound.unit), v.bound.String(), result})
	}
	return runs, bounds
}

func figure(format string, value float64) string {
	if value == 0 {
		return "–"
	}
	return fmt.Sprintf(format, value)
}

// thousands is the number with a comma, as 41,250.
func thousands(value float64) string {
	text := figure("%.0f", value)
	for at := len(text) - 3; at > 0 && value >= 1000; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

func (t *table) print(to io.Writer) {
	runs, bounds := t.cells()
	for _, part := range [][][]string{runs, bounds} {
		fmt.Fprintln(to)
		w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
		for _, cells := range part {
			fmt.Fprintln(w, strings.Join(cells, "\t"))
		}
		_ = w.Flush() // to stdout, or into memory
	}
}

func (t *table) markdown() string {
	var text strings.Builder
	runs, bounds := t.cells()
	for _, part := range [][][]string{runs, bounds} {
		for i, cells := range part {
			fmt.Fprintf(&text, "| %s |\n", strings.Join(cells, " | "))
			if i == 0 {
				fmt.Fprintf(&text, "|%s\n", strings.Repeat("---|", len(cells)))
			}
		}
		text.WriteString("\n")
	}
	return text.String()
}

const (
	opening = "<!-- make bench writes from here -->\n"
	closing = "<!-- to here -->\n"
)

// write puts the text between the marks in a file.
func write(file, text string) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, opened := bytes.Cut(page, []byte(opening))
	_, after, closed := bytes.Cut(rest, []byte(closing))
	if !opened || !closed {
		return fmt.Errorf("%s has no place for the table: the lines %q and %q are missing", file, opening, closing)
	}
	return os.WriteFile(file, slices.Concat(before, []byte(opening), []byte(text), []byte(closing), after), 0o644)
}
