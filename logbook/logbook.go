// Package logbook keeps what was logged, for tests.
package logbook

import (
	"bytes"
	"strings"
	"sync"
)

// Book has a line a record. Its zero value is empty; it is safe for concurrent use.
type Book struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

// Write adds to it, as a log's handler does. It never fails.
func (b *Book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.Write(p)
}

// With is every line that holds text.
func (b *Book) With(text string) (lines []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := range strings.Lines(b.lines.String()) {
		if strings.Contains(l, text) {
			lines = append(lines, l)
		}
	}
	return lines
}
