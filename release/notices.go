package main

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

//go:embed licenses
var licenses embed.FS

// tags are the image's, and otel, whose modules only some builds link.
const tags = "netgo,osusergo,nethttpomithttp2,otel"

const rdkafka = "github.com/confluentinc/confluent-kafka-go/v2"

// linked are the modules of the binary as PATH VERSION FOLDER, sorted.
func linked(root string) (modules [][3]string, err error) {
	list := exec.Command("go", "list", "-deps", "-tags", tags, "-f", "{{with .Module}}{{if .Version}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}", ".")
	list.Dir, list.Env = root, append(os.Environ(), "GOOS=linux", "CGO_ENABLED=1")
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	lines := slices.Sorted(strings.Lines(string(out)))
	for _, line := range slices.Compact(lines) {
		if f := strings.Fields(line); len(f) == 3 {
			modules = append(modules, [3]string(f))
		}
	}
	return modules, nil
}

var licenseFile = regexp.MustCompile(`(?i)^(LICEN[SC]E|COPYING|NOTICE|PATENTS)(\.txt|\.md)?$`)

// notices is THIRD_PARTY.txt: each text once, below the names of those it is of.
func notices(root string) ([]byte, error) {
	modules, err := linked(root)
	if err != nil {
		return nil, err
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	modules = slices.Insert(modules, 0, [3]string{"Go, its runtime and standard library", "", strings.TrimSpace(string(goroot))})
	var texts []string
	of := map[string][]string{} // text → what it is of
	add := func(text []byte, name string) {
		t := strings.Trim(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
		if of[t] == nil {
			texts = append(texts, t)
		}
		of[t] = append(of[t], name)
	}
	apache, err := os.ReadFile(filepath.Join(root, "LICENSE"))
	if err != nil {
		return nil, err
	}
	for _, m := range modules {
		name := strings.TrimSpace(m[0] + " " + m[1])
		found, err := folderNotices(m[2])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, text := range found {
			add(text, name)
		}
		if m[0] != rdkafka {
			continue
		}
		bundle, err := os.ReadFile(filepath.Join(m[2], "kafka", "librdkafka_vendor", "LICENSES.txt"))
		if err != nil {
			return nil, err
		}
		add(bundle, "librdkafka, and the sources that it holds")
		for _, p := range parts {
			switch name := strings.TrimSpace(p.name + " " + p.version); {
			case p.notice != "":
				text, err := licenses.ReadFile("licenses/" + p.notice)
				if err != nil {
					return nil, err
				}
				add(text, name)
			case p.license == "Apache-2.0":
				add(apache, name)
			}
		}
	}
	var b bytes.Buffer
	b.WriteString("What kpush's binary links, and under which terms. Made by go run ./release notices: do not edit.\n" +
		"glibc is linked statically; whoever wants another one builds the binary anew from kpush's sources (make static).\n")
	rule := strings.Repeat("=", 100)
	for _, t := range texts {
		fmt.Fprintf(&b, "\n%s\n%s\n%s\n\n%s\n", rule, strings.Join(of[t], "\n"), rule, t)
	}
	return b.Bytes(), nil
}

// folderNotices are the license, and what goes with it, of a module.
func folderNotices(dir string) (texts [][]byte, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if !licenseFile.MatchString(f.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("no license in %s", dir)
	}
	return texts, nil
}
