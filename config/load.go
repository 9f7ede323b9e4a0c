package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kelseyhightower/envconfig"
)

// field is one variable as its struct field describes it.
type field struct {
	reflect.StructField
	name   string // KPUSH_…
	secret string // "", value, url or conf
}

// fields are the variables in the table's order.
var fields = func() []field {
	var all []field
	for f := range reflect.TypeFor[Config]().Fields() {
		if f.IsExported() {
			all = append(all, field{f, f.Tag.Get("envconfig"), f.Tag.Get("secret")})
		}
	}
	return all
}()

// loader turns an environment into a Config and collects everything that is wrong with it.
type loader struct {
	vars     map[string]string // what is set, read from files where asked; no empty values
	problems map[string][]error
	unknown  []error // problems of names that no field has, in their order
	config   Config
}

// Load reads environ (as os.Environ gives it). Its error holds everything that is wrong, a line each, which begins with the variable's
// name, in the table's order, and never a value that may be a secret. There is a Config all the same, for whoever looks for more that is wrong.
func Load(environ []string) (*Config, error) {
	l := &loader{vars: map[string]string{}, problems: map[string][]error{}}
	brokers := l.read(environ)
	l.checkForm()
	l.decode()
	l.checkAll(brokers)
	var all []error
	for _, f := range fields {
		all = append(all, l.problems[f.name]...)
	}
	if err := errors.Join(append(all, l.unknown...)...); err != nil {
		return &l.config, err
	}
	l.noteIdle()
	return &l.config, nil
}

// wrong notes a problem of a variable: its name, its value where that can be shown, and the sentence.
func (l *loader) wrong(name, format string, args ...any) {
	sentence := name
	if value, set := l.vars[name]; set && !isSecret(name) {
		sentence += "=" + shown(value)
	}
	l.problems[name] = append(l.problems[name], errors.New(sentence+": "+fmt.Sprintf(format, args...)))
}

// environment guards the process's environment while it is lent to envconfig.
var environment sync.Mutex

// decode lets envconfig fill the fields. It reads nothing but the process's environment and stops at the first wrong value:
// so the variables are put there for the length of this call, and each wrong one is noted and taken out before the next try.
func (l *loader) decode() {
	environment.Lock()
	defer environment.Unlock()
	for _, f := range fields {
		if was, set := os.LookupEnv(f.name); set {
			defer os.Setenv(f.name, was)
		} else {
			defer os.Unsetenv(f.name)
		}
		os.Unsetenv(f.name)
		if value, set := l.vars[f.name]; set && len(l.problems[f.name]) == 0 {
			os.Setenv(f.name, value)
		}
	}
	for range fields {
		var bad *envconfig.ParseError
		if !errors.As(envconfig.Process("", &l.config), &bad) {
			return
		}
		l.wrongForm(bad)
		os.Unsetenv(bad.KeyName)
	}
}

// wrongForm says what form the value should have. The ParseError's own text shows the value, and is never used.
func (l *loader) wrongForm(bad *envconfig.ParseError) {
	switch bad.TypeName {
	case "time.Duration":
		l.wrong(bad.KeyName, "is not a duration; write it as 5s, 500ms or 1m30s")
	case "bool":
		l.wrong(bad.KeyName, "must be true or false")
	default:
		for sentence := range strings.SplitSeq(bad.Err.Error(), "\n") {
			l.wrong(bad.KeyName, "%s", sentence)
		}
	}
}

// checkForm refuses what envconfig would read as something else: 010 as eight, 0x10 as 16, 0 as a duration.
// An enum's value gets the spelling of its list.
func (l *loader) checkForm() {
	for _, f := range fields {
		switch value, set := l.vars[f.name]; {
		case !set:
		case f.Tag.Get("oneof") != "":
			l.checkEnum(f, value)
		case f.Type == reflect.TypeFor[time.Duration]() && strings.Trim(value, "+-.0123456789") == "":
			if !slices.Contains(strings.Fields(f.Tag.Get("bare")), value) {
				l.wrong(f.name, "a duration needs a unit, such as 5s or 500ms")
			}
			l.vars[f.name] = value + "s"
		case f.Type == reflect.TypeFor[int]():
			if n, err := strconv.Atoi(value); err != nil || strconv.Itoa(n) != value {
				l.wrong(f.name, "must be a whole number, such as 10")
			}
		}
	}
}

func (l *loader) checkEnum(f field, value string) {
	values := strings.Fields(f.Tag.Get("oneof"))
	i := slices.IndexFunc(values, func(v string) bool { return strings.EqualFold(v, value) })
	switch {
	case i >= 0:
		l.vars[f.name] = values[i]
	case f.name == "KPUSH_SASL_MECHANISM" && unavailable(value) != "":
		l.wrong(f.name, "%s", unavailable(value))
	default:
		l.wrong(f.name, "must be one of %s", strings.Join(values, ", "))
	}
}

func isSecret(name string) bool {
	return !slices.ContainsFunc(fields, func(f field) bool { return f.name == name && f.secret == "" })
}

// shown is a value as it may stand in a sentence: on one line, and not endless.
func shown(value string) string {
	const most = 80
	if len(value) > most {
		value = strings.ToValidUTF8(value[:most], "") + "…"
	}
	if quoted := strconv.Quote(value); value == "" || quoted != `"`+value+`"` || strings.Contains(value, " ") {
		return quoted
	}
	return value
}
