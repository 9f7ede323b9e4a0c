package rig

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
)

// Row is what one fault story came to.
type Row struct {
	Story   string
	Runs    string // how often the fault happened
	Lost    int
	Repeats string // with the bound
	Flagged string // how much of what had to be flagged was, and how much more
	Remark  string
}

var table struct {
	sync.Mutex
	rows []string
}

// Tell puts a row into the table at the end; a story that failed is called so.
func Tell(t T, r Row) {
	t.Helper()
	result := "kept"
	if t.Failed() {
		result = "FAILED"
	}
	t.Logf("%+v", r)
	note(r.Story, result, r.Runs, fmt.Sprint(r.Lost), r.Repeats, r.Flagged, r.Remark)
}

// Broken notes a story that fails before it can tell, once it is over.
func Broken(t T, story string) {
	t.Cleanup(func() {
		table.Lock()
		told := strings.Contains(strings.Join(table.rows, ""), "\n"+story+"\t")
		table.Unlock()
		if t.Failed() && !told {
			note(story, "FAILED", "-", "-", "-", "-", "it broke off: see the log")
		}
	})
}

// NotRun skips a story by name and says why: it never counts as kept.
func NotRun(t T, story, why string) {
	t.Helper()
	note(story, "NOT RUN", "-", "-", "-", "-", why)
	if skipper, ok := t.(interface{ Skip(...any) }); ok {
		skipper.Skip(story + ": " + why)
	}
	t.Fatalf("%s: %s", story, why)
}

func note(cells ...string) {
	table.Lock()
	defer table.Unlock()
	table.rows = append(table.rows, "\n"+strings.Join(cells, "\t"))
}

// Summary is the table of all rows, "" where there are none. It goes to the file named by KPUSH_E2E_NOTE, too.
func Summary() (string, error) {
	table.Lock()
	defer table.Unlock()
	if len(table.rows) == 0 {
		return "", nil
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "FAULT\t\tRUNS\tLOST\tREPEATS (BOUND)\tFLAGGED\tREMARK", strings.Join(table.rows, ""), "\n")
	_ = w.Flush() // into memory
	if file := os.Getenv("KPUSH_E2E_NOTE"); file != "" {
		return text.String(), appendTo(file, text.String())
	}
	return text.String(), nil
}
