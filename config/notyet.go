package config

import (
	"slices"
	"strings"
)

// refusal is a row of notYet.
type refusal struct {
	name   string
	values string                  // the refused ones, in words
	match  func(value string) bool // nil: all of them, nothing heeds the variable
}

// notYet lists what the table promises and this version does not do: a variable, or with a match some of its values.
// It is refused when set, never silently ignored. A row goes when its feature comes.
var notYet = []refusal{
	{"KPUSH_TOPIC", "publish only", is("")},
	{"KPUSH_FORMAT", "json, cloudevents, cloudevents-structured", is("json", "cloudevents", "cloudevents-structured")},
	{"KPUSH_ACK", "dapr", is("dapr")},
	{"KPUSH_DEAD_LETTER_TOPIC", "", nil},
	{"KPUSH_REDRIVE_MAX", "", nil},
	{"KPUSH_PRODUCER_CONF", "", nil},
	{"KPUSH_API_ADDR", "", nil},
	{"KPUSH_API_TOKEN", "", nil},
	{"KPUSH_PUBLISH_TOPICS", "", nil},
	{"KPUSH_PUBLISH_SPOOL", "", nil},
}

// refuseNotYet refuses them, and keeps a refused variable from being looked at any further.
func (l *loader) refuseNotYet() {
	for _, row := range notYet {
		value := l.vars[row.name]
		var sentence string
		switch {
		case row.match == nil && l.given(row.name):
			sentence = row.name + " is not supported yet; leave it unset"
		case row.match == nil || l.given(row.name) && value == "" || !row.match(value):
			continue
		case value == "":
			sentence = row.name + " is required: " + row.values + " is not supported yet"
		default:
			sentence = row.name + "=" + shown(value) + " is not supported yet; leave it unset or use another value"
		}
		l.problems[row.name] = []string{sentence}
		delete(l.vars, row.name)
	}
}

// refusalOf is the row of a variable, or nil.
func refusalOf(name string) *refusal {
	if i := slices.IndexFunc(notYet, func(r refusal) bool { return r.name == name }); i >= 0 {
		return &notYet[i]
	}
	return nil
}

func is(values ...string) func(string) bool {
	return func(v string) bool {
		return slices.ContainsFunc(values, func(w string) bool { return strings.EqualFold(v, w) })
	}
}
