package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const brokersOf = "KPUSH_BROKERS_" // + the cluster's name

// read sorts the KPUSH_ variables of environ into known and unknown ones, reads files, and returns the brokers per cluster.
func (l *loader) read(environ []string) (brokers map[string]string) {
	set := map[string]string{}
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		if _, twice := set[name]; strings.HasPrefix(name, "KPUSH_") && !twice {
			set[name] = value
		}
	}
	maps.DeleteFunc(set, func(_, value string) bool { return value == "" })
	l.takeServiceLinks(set)
	for _, f := range fields {
		value, ok := set[f.name]
		delete(set, f.name)
		if f.secret == "" {
			value = strings.TrimSpace(value)
		} else if path, asked := set[f.name+"_FILE"]; asked {
			delete(set, f.name+"_FILE")
			if ok {
				l.wrong(f.name, "%s_FILE is set as well; set one of them", f.name)
				continue
			}
			value = l.readSecret(f.name, path)
		}
		if strings.ContainsRune(value, 0) {
			l.wrong(f.name, "holds a NUL byte; write it as plain text")
		} else if value != "" {
			l.vars[f.name] = value
		}
	}
	brokers = map[string]string{}
	for name, value := range set {
		if cluster, ok := strings.CutPrefix(name, brokersOf); ok && cluster != "" && l.vars["KPUSH_CLUSTER"] != "" {
			brokers[cluster] = value
			delete(set, name)
		}
	}
	l.refuseUnknown(set)
	return brokers
}

// maxSecret bounds what is read from a file that a NAME_FILE variable names.
const maxSecret = 1 << 20

// readSecret returns the content of the file at path without the newline at its end, or notes why there is none.
func (l *loader) readSecret(name, path string) string {
	said := name + "_FILE"
	if filepath.IsAbs(path) { // anything else may be the secret itself, put into the wrong variable
		said += "=" + shown(path)
	}
	content, err := readRegular(path)
	content = strings.TrimRight(content, "\r\n")
	switch {
	case err != nil:
		l.problems[name] = append(l.problems[name], fmt.Errorf("%s: cannot be read (%v); it takes the path of a file that holds %s", said, err, name))
	case content == "":
		l.problems[name] = append(l.problems[name], fmt.Errorf("%s: the file is empty; it has to hold %s", said, name))
	}
	return content
}

// readRegular reads a small file. Its errors do not name the path, and nothing that could block is opened.
func readRegular(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", reason(err)
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return "", reason(err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if len(content) > maxSecret {
		return "", errors.New("larger than 1 MiB")
	}
	return string(content), reason(err)
}

// reason is a file's error without its path.
func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// serviceLink matches the names that Kubernetes gives every container for a Service named kpush or kpush-….
var (
	serviceLink  = regexp.MustCompile(`^KPUSH_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)
	servicePort  = regexp.MustCompile(`^KPUSH_(\w+_)?PORT$`)
	serviceValue = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

// takeServiceLinks takes the variables out that no user wrote, and says once where they come from.
func (l *loader) takeServiceLinks(set map[string]string) {
	var links []string
	for name, value := range set {
		if serviceLink.MatchString(name) || servicePort.MatchString(name) && serviceValue.MatchString(value) {
			links = append(links, name)
			delete(set, name)
		}
	}
	if len(links) > 0 {
		slices.Sort(links)
		l.unknown = append(l.unknown, fmt.Errorf("%s: set by Kubernetes, because a Service's name begins with kpush; "+
			"put enableServiceLinks: false into the pod's spec", strings.Join(links, ", ")))
	}
}

func (l *loader) refuseUnknown(set map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(set)) {
		sentence := shown(name) + ": there is no such variable"
		if plain, ok := strings.CutSuffix(name, "_FILE"); ok && isKnown(plain) {
			sentence += "; only what can hold a secret is read from a file, set " + plain
		} else if strings.HasPrefix(name, brokersOf) {
			sentence += " unless KPUSH_CLUSTER names a cluster"
		} else if near := nearest(name); near != "" {
			sentence += "; did you mean " + near + "?"
		} else {
			sentence += "; kpush -help lists them all"
		}
		l.unknown = append(l.unknown, errors.New(sentence))
	}
}

func isKnown(name string) bool {
	return slices.ContainsFunc(fields, func(f field) bool { return f.name == name })
}

// nearest is the known name that name is probably a slip of, or "".
func nearest(name string) string {
	best, least := "", 2+(len(name)-len("KPUSH_"))/4
	for _, f := range fields {
		names := []string{f.name}
		if f.secret != "" {
			names = append(names, f.name+"_FILE")
		}
		for _, known := range names {
			if d := distance(name, known); d < least {
				best, least = known, d
			}
		}
	}
	return best
}

// distance counts the letters to insert, delete or replace to get from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
