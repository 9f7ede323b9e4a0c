package api

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

var metricName = regexp.MustCompile(`\bkpush_\w+`)

// An alert or a panel on a name that nobody tells is one that never says anything. Beyond the names: that brackets and quotes close.
func TestDeployFilesUseMetricsThatThereAre(t *testing.T) {
	there := series(scrape(t, counted()))
	used := map[string]bool{}
	for file, queries := range map[string][]string{"prometheus-rules.yml": alerts(t), "grafana-dashboard.json": panels(t)} {
		if len(queries) < 10 {
			t.Errorf("%s has %d queries", file, len(queries))
		}
		for _, query := range queries {
			names := metricName.FindAllString(query, -1)
			if len(names) == 0 {
				t.Errorf("%s: %s is about nothing", file, query)
			}
			for _, name := range names {
				used[name] = true
				if _, ok := there[name]; !ok {
					t.Errorf("%s: there is no %s", file, name)
				}
			}
			if !balanced(query) {
				t.Errorf("%s: a bracket or a quote is open in %s", file, query)
			}
		}
	}
	for name := range there {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_count"), "_sum"), "_bucket")
		if !used[name] && !used[base+"_bucket"] && name != "kpush_build_info" {
			t.Errorf("nobody looks at %s", name)
		}
	}
}

// alerts are the expressions of the rules.
func alerts(t *testing.T) (queries []string) {
	t.Helper()
	text, err := os.ReadFile("../deploy/prometheus-rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || r.Annotations["summary"] == "" || !slices.Contains([]string{"warning", "critical"}, r.Labels["severity"]) || slices.Contains(names, r.Alert) {
				t.Errorf("an alert without a name of its own, a summary or a severity: %+v", r)
			}
			names, queries = append(names, r.Alert), append(queries, r.Expr)
		}
	}
	return queries
}

// panels are the expressions of the dashboard; it has the rows that operators look for.
func panels(t *testing.T) (queries []string) {
	t.Helper()
	text, err := os.ReadFile("../deploy/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID          int
			Type, Title string
			Targets     []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Query string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	var rows []string
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if p.Type == "row" {
			rows = append(rows, p.Title)
		} else if len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		for _, q := range p.Targets {
			queries = append(queries, q.Expr)
		}
	}
	if want := []string{"Flow", "Lag", "Service", "File", "Group", "Publish"}; !slices.Equal(rows, want) {
		t.Errorf("rows %q, want %q", rows, want)
	}
	for _, v := range board.Templating.List {
		if strings.HasPrefix(v.Query, "label_values(") {
			queries = append(queries, v.Query)
		}
	}
	return queries
}

// balanced tells whether each bracket and quote of a query closes.
func balanced(query string) bool {
	var open []rune
	closes := map[rune]rune{')': '(', '}': '{', ']': '['}
	quoted := false
	for _, r := range query {
		switch {
		case r == '"':
			quoted = !quoted
		case quoted:
		case r == '(' || r == '{' || r == '[':
			open = append(open, r)
		case closes[r] != 0:
			if len(open) == 0 || open[len(open)-1] != closes[r] {
				return false
			}
			open = open[:len(open)-1]
		}
	}
	return len(open) == 0 && !quoted
}

func TestBalanced(t *testing.T) {
	for query, want := range map[string]bool{`sum(rate(a{b=~"(x"}[5m])) > 0`: true, `sum(a`: false, `a)`: false, `a{b="c}`: false, `a[5m)`: false, "": true} {
		if balanced(query) != want {
			t.Errorf("%s: %t", query, !want)
		}
	}
}
