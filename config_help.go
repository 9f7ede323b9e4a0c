package main

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"reflect"
	"regexp"
	"slices"
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
	for _, tag := range []string{"default", "else"} {
		if text := f.Tag.Get(tag); text != "" {
			return text
		}
	}
	return "–"
}

// meaning is the description, and what of it is still to come.
func (f field) meaning() string {
	text := f.Tag.Get("desc")
	if r := refusalOf(f.name); r != nil && r.match == nil {
		text += " (not yet)"
	} else if r != nil {
		text += " (not yet: " + r.values + ")"
	}
	return text
}

const helpIntro = `kpush is a sidecar: it reads a Kafka topic and posts every message to the service beside it.

  kpush               run, configured by the environment variables below
  kpush -help         print this
  kpush -check        look at the configuration, the topics and the group, change nothing
  kpush -version      print the version
  kpush -healthz      ask a running kpush at KPUSH_HEALTH_ADDR for its health; exit code 0 = well
  kpush -offsets DIR  print what the volume DIR remembers

`

const helpOutro = `
A variable with (_FILE) can hold a secret: NAME_FILE names a file to read it from. An empty variable counts as not set.
Durations have a unit (2s, 500ms), and so have sizes (512KiB, 16MiB). All errors of a start are reported together.
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

// markdown is README's table.
func markdown() string {
	var b strings.Builder
	b.WriteString("| variable | origin's option | default | meaning |\n|---|---|---|---|\n")
	escape := strings.NewReplacer("|", `\|`, "*", `\*`, "<", "&lt;").Replace
	for _, f := range fields {
		origin := f.Tag.Get("origin")
		if origin == "" {
			origin = "–"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", f.label(), escape(origin), escape(f.otherwise()), escape(f.meaning()))
	}
	return b.String()
}

const masked = "***"

// Effective is the configuration that applies, for one line of the log: every variable with a value, secrets masked.
func (c *Config) Effective() []slog.Attr {
	var attrs []slog.Attr
	values := reflect.ValueOf(c).Elem()
	for i, f := range fields {
		if r := refusalOf(f.name); r != nil && r.match == nil {
			continue
		}
		var text string
		switch v := values.Field(i).Interface().(type) {
		case []string:
			text = strings.Join(v, ",")
		case Properties:
			text = v.String()
		default:
			text = fmt.Sprint(v)
		}
		switch {
		case text == "":
			continue
		case f.secret == "value":
			text = masked
		case f.secret == "url":
			text = maskURL(text)
		}
		attrs = append(attrs, slog.String(f.name, text))
	}
	return attrs
}

// String lists the properties in the order of their names, secrets masked.
func (p Properties) String() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(p)) {
		value := p[name]
		if secretName.MatchString(name) || strings.Contains(value, "@") {
			value = masked
		} else if path, query, found := strings.Cut(value, "?"); found {
			value = path + "?" + maskQuery(query)
		}
		all = append(all, name+"="+value)
	}
	return strings.Join(all, ";")
}

// secretName matches properties whose values are nobody's business.
var secretName = regexp.MustCompile(`(?i)pass|secret|token|key|jaas|username|credential|oauthbearer\.(config|extensions)`)

// maskURL hides user and password, and the values in the query. The value is one that LoadConfig let through.
func maskURL(value string) string {
	u, err := url.Parse(value)
	if err != nil {
		return masked
	}
	if u.User != nil {
		u.User = nil
		value = strings.Replace(u.String(), "://", "://"+masked+"@", 1)
	}
	if path, query, found := strings.Cut(value, "?"); found {
		return path + "?" + maskQuery(query)
	}
	return value
}

// maskQuery hides every value: no list of names knows them all.
func maskQuery(query string) string {
	parameters := strings.Split(query, "&")
	for i, parameter := range parameters {
		if name, _, found := strings.Cut(parameter, "="); found {
			parameters[i] = name + "=" + masked
		}
	}
	return strings.Join(parameters, "&")
}
