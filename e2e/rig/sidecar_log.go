package rig

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"time"
)

// Line is one line of the sidecar's log; what is not JSON is in Text alone.
type Line struct {
	Time    time.Time
	Level   string
	Message string
	Fields  map[string]any
	Text    string
}

// Log returns every line logged so far, over all starts.
func (sc *Sidecar) Log() []Line {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	file, err := os.Open(sc.logFile.Name())
	if err != nil {
		return sc.lines
	}
	defer file.Close()
	_, _ = file.Seek(sc.read, io.SeekStart) // within the file by construction
	more, _ := io.ReadAll(file)             // what cannot be read now is read next time
	sc.read += int64(len(more))
	more = append(sc.partial, more...)
	end := bytes.LastIndexByte(more, '\n') + 1
	sc.partial = bytes.Clone(more[end:])
	lines := bufio.NewScanner(bytes.NewReader(more[:end]))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		sc.lines = append(sc.lines, parseLine(lines.Text()))
	}
	return sc.lines
}

func parseLine(text string) Line {
	line := Line{Text: text}
	if json.Unmarshal([]byte(text), &line.Fields) == nil {
		line.Message, _ = line.Fields["msg"].(string)
		line.Level, _ = line.Fields["level"].(string)
		stamp, _ := line.Fields["time"].(string)
		line.Time, _ = time.Parse(time.RFC3339Nano, stamp)
	}
	return line
}

// Find returns the lines that contain the text, whatever their form, of the whole log.
func (sc *Sidecar) Find(text string) []Line {
	var found []Line
	for _, line := range sc.Log() {
		if strings.Contains(line.Text, text) {
			found = append(found, line)
		}
	}
	return found
}

// Tail is the end of the log, for failures.
func (sc *Sidecar) Tail(count int) string {
	lines := sc.Log()
	var text []string
	for _, line := range lines[max(0, len(lines)-count):] {
		text = append(text, line.Text)
	}
	return strings.Join(text, "\n")
}
