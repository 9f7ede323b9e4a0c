package config

import (
	"cmp"
	"fmt"
	"io"
	"strings"
)

// label is the variable's name in tables, with the file that can stand in for it.
func (f field) label() string {
	if f.secret != "" {
		return f.name + "(_FILE)"
	}
	return f.name
}

// otherwise is what holds where the variable is not set.
func (f field) otherwise() string {
	return cmp.Or(f.Tag.Get("default"), f.Tag.Get("else"), "–")
}

// meaning is the description.
func (f field) meaning() string { return f.Tag.Get("desc") }

const helpIntro = `kpush is a sidecar: it reads a Kafka topic and posts every message to the service beside it.

  kpush               run, configured by the environment variables below
  kpush -help         print this
  kpush -check        look at the configuration, the volume, the service, the topics and the group, change nothing
  kpush -version      print the version
  kpush -healthz      ask a running kpush at KPUSH_HEALTH_ADDR for its health, in one line; exit code 0 = well
  kpush -offsets DIR  print what the volume DIR remembers, and what the words mean

These speak to a running kpush at KPUSH_API_ADDR, with KPUSH_API_TOKEN(_FILE) where it is set. Exit codes: 0 done,
1 refused or no answer, 2 wrong usage.

  kpush -status       partitions, lag, what is blocked and why, dead letters, what was published; -status -json: as JSON
  kpush -skip TOPIC/PARTITION/OFFSET | blocked | key=KEY | TOPIC key=KEY
                      give failing messages up, as skipped; key=KEY alone where KPUSH_TOPIC is one topic; KEY is as
                      -status shows it, base64:… too
  kpush -pause [TOPIC[/PARTITION]], kpush -resume [TOPIC[/PARTITION]]
                      no new attempts, until -resume; it survives a restart; each replica for its own partitions
  kpush -seek TOPIC[/PARTITION]@OFFSET | TIME | beginning | end
                      go on elsewhere; TIME is such as 2026-01-31T08:00:00Z; each replica for its own partitions
  kpush -skipped      what was skipped; -skipped -json: as JSON
  kpush -resend TOPIC/PARTITION/OFFSET | all
                      send what was skipped to the service again
  kpush -redrive N    send dead letters back to the topic they came from, N at the most
  kpush -audit        who moved what, and when; -audit -json: as JSON

`

const helpOutro = `
A variable with (_FILE) can hold a secret: NAME_FILE names a file to read it from. An empty variable counts as not set.
Durations have a unit (2s, 500ms), and so have sizes (512KiB, 16MiB, 1GiB). All errors of a start are reported together.
The origin is the PHP proxy that kpush replaces.
`

// helpWidth is the longest line that Help prints, in columns.
const helpWidth = 120

// Help prints what kpush is, its flags, and the table of variables. It needs no configuration: a nil one will do.
func (c *Config) Help(w io.Writer) {
	name, otherwise := len("variable"), len("default")
	for _, f := range fields {
		name = max(name, len(f.label()))
		otherwise = max(otherwise, len([]rune(f.otherwise())))
	}
	var b strings.Builder
	b.WriteString(helpIntro)
	row := func(cells ...string) {
		lines := wrap(cells[2], helpWidth-name-otherwise-4)
		fmt.Fprintf(&b, "%-*s  %-*s  %s\n", name, cells[0], otherwise, cells[1], lines[0])
		for _, line := range lines[1:] {
			fmt.Fprintf(&b, "%*s%s\n", name+otherwise+4, "", line)
		}
	}
	row("variable", "default", "meaning")
	for _, f := range fields {
		row(f.label(), f.otherwise(), f.meaning())
	}
	b.WriteString(helpOutro)
	fmt.Fprint(w, b.String())
}

// wrap breaks text between words into lines of at most width runes, longer words excepted.
func wrap(text string, width int) []string {
	lines := []string{""}
	for word := range strings.FieldsSeq(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case len([]rune(*last))+1+len([]rune(word)) <= width:
			*last += " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}
