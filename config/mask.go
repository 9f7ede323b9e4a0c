package config

import (
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

const masked = "***"

// Effective is the configuration that applies, for one line of the log: every variable with a value, secrets masked.
func (c *Config) Effective() []slog.Attr {
	var attrs []slog.Attr
	values := reflect.ValueOf(c).Elem()
	for i, f := range fields {
		value := values.Field(i).Interface()
		text := fmt.Sprint(value)
		if list, ok := value.([]string); ok {
			text = strings.Join(list, ",")
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
		}
		all = append(all, name+"="+maskQuery(value))
	}
	return strings.Join(all, ";")
}

// secretName matches properties whose values are nobody's business.
var secretName = regexp.MustCompile(`(?i)pass|secret|token|key|jaas|username|credential|oauthbearer\.(config|extensions)`)

// maskURL hides user and password, and the values in the query. The value is one that Load let through.
func maskURL(value string) string {
	u, err := url.Parse(value)
	if err != nil {
		return masked
	}
	if u.User != nil {
		u.User = nil
		value = strings.Replace(u.String(), "://", "://"+masked+"@", 1)
	}
	return maskQuery(value)
}

// maskQuery hides every value behind a question mark: no list of names knows them all.
func maskQuery(value string) string {
	path, query, found := strings.Cut(value, "?")
	if !found {
		return value
	}
	parameters := strings.Split(query, "&")
	for i, parameter := range parameters {
		if name, _, found := strings.Cut(parameter, "="); found {
			parameters[i] = name + "=" + masked
		}
	}
	return path + "?" + strings.Join(parameters, "&")
}
