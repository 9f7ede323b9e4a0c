package config

import (
	"errors"
	"slices"
	"strings"
)

// refusal is what of a variable is refused.
type refusal struct {
	words  string
	values []string // nil: all of them, nothing heeds the variable; empty: none, only what the words say is to come
}

// notYet lists what the table promises and this version does not do: a variable, or some of its values. It is refused when
// set, never silently ignored. A row goes when its feature comes.
var notYet = map[string]refusal{
	"KPUSH_FORMAT": {"json, cloudevents, cloudevents-structured", []string{"json", "cloudevents", "cloudevents-structured"}},
	"KPUSH_ACK":    {"dapr", []string{"dapr"}},
}

// refuseNotYet refuses them, and keeps a refused variable from being looked at any further.
func (l *loader) refuseNotYet() {
	for name, row := range notYet {
		value := l.vars[name]
		refused := slices.ContainsFunc(row.values, func(v string) bool { return strings.EqualFold(v, value) })
		var sentence string
		switch {
		case row.values == nil && l.given(name):
			sentence = name + " is not supported yet; leave it unset"
		case !refused || value == "" && l.given(name):
			continue
		case value == "":
			sentence = name + " is required: " + row.words + " is not supported yet"
		default:
			sentence = name + "=" + shown(value) + " is not supported yet; leave it unset or use another value"
		}
		l.problems[name] = []error{errors.New(sentence)}
		delete(l.vars, name)
	}
}
