package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// verbs are what a format fills in: between them its text is always the same.
var verbs = regexp.MustCompile(`%[-+#0-9.]*[a-zA-Z]`)

// waits are the files whose sentences /readyz, /healthz and their notes are made of.
var waits = []string{"api/network.go", "forwarder/contact.go", "forwarder/flow.go", "forwarder/health.go", "forwarder/notes.go", "forwarder/unread.go", "forwarder/watch.go", "forwarder/start/decide.go", "publisher/spool/spool.go"}

// unsaid are sentences that are no symptom, pieces of one that has a row, and what librdkafka says itself.
var unsaid = []string{"partitions assigned", " and ", ", and ", " since ", "librdkafka: "}

// docs/operate.md has a row for each sentence with which the log warns, or a process says what it waits for.
func TestRunbookKnowsWhatIsSaid(t *testing.T) {
	text, err := os.ReadFile("docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	_, runbook, _ := strings.Cut(string(text), "## Runbook")
	var said strings.Builder // the first column
	for line := range strings.Lines(runbook) {
		if row, ok := strings.CutPrefix(line, "|"); ok {
			first, _, _ := strings.Cut(row, "|")
			said.WriteString(first + "\n")
		}
	}
	quoted := regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(said.String(), -1)
	for _, s := range sentences(t) {
		parts := verbs.Split(s.text, -1)
		known := slices.ContainsFunc(quoted, func(q []string) bool {
			return len(q[1]) > 7 && slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(part, q[1]) })
		})
		if !known && !slices.ContainsFunc(unsaid, func(u string) bool { return slices.Contains(parts, u) || slices.Contains(parts, " "+u) }) {
			t.Errorf("%s: the runbook has no row for %q", s.at, s.text)
		}
	}
}

type sentence struct{ at, text string }

// sentences are the literals that the binary warns with, or says as a reason to wait.
func sentences(t *testing.T) (all []sentence) {
	files := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "e2e") || strings.HasPrefix(path, "examples") {
			return err
		}
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		reason := slices.Contains(waits, filepath.ToSlash(path))
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			said := call.Args[0]
			if ok && f.Sel.Name == "Log" && len(call.Args) > 2 {
				said = call.Args[2]
			} else if !ok || !slices.Contains([]string{"Warn", "Error"}, f.Sel.Name) && !(reason && slices.Contains([]string{"Errorf", "Sprintf", "New"}, f.Sel.Name)) {
				return true
			}
			if s := text(said); strings.Contains(s, " ") {
				all = append(all, sentence{files.Position(call.Pos()).String(), s})
			}
			return true
		})
		return nil
	})
	if err != nil || len(all) < 50 {
		t.Fatalf("%d sentences found, %v", len(all), err)
	}
	return all
}

// text is a literal, or how an expression begins that is put together of one and more.
func text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, _ := strconv.Unquote(e.Value)
		return s
	case *ast.BinaryExpr:
		return text(e.X)
	}
	return ""
}
