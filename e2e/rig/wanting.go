package rig

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// wanting are the stories that were left out, by what this machine lacks for them.
var wanting = struct {
	sync.Mutex
	stories map[string][]string
}{stories: map[string][]string{}}

// without leaves a story out for want of a tool, and notes that.
func without(t T, tool string, err error) {
	t.Helper()
	skipper, can := t.(interface{ Skipf(string, ...any) })
	if !can {
		t.Fatalf("%v", err)
	}
	wanting.Lock()
	wanting.stories[tool] = append(wanting.stories[tool], t.Name())
	wanting.Unlock()
	skipper.Skipf("%v", err)
}

// leftWanting names them.
func leftWanting() string {
	wanting.Lock()
	defer wanting.Unlock()
	var lines []string
	for _, tool := range slices.Sorted(maps.Keys(wanting.stories)) {
		lines = append(lines, "NOT RUN for want of "+tool+": "+strings.Join(wanting.stories[tool], ", "))
	}
	return strings.Join(lines, "\n")
}
