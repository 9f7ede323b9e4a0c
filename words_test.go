package main

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/kpush/kpush/config"
)

// pages are README and what it leads to, by their paths.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == ".git" || path == "bin"):
			return fs.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			text, err := os.ReadFile(path)
			all[filepath.ToSlash(path)] = string(text)
			return err
		}
		return nil
	})
	if err != nil || len(all) < 20 {
		t.Fatalf("%d pages: %v", len(all), err)
	}
	return all
}

// README is what a newcomer reads in one go.
func TestReadmeIsShort(t *testing.T) {
	if n := strings.Count(pages(t)["README.md"], "\n"); n > 200 {
		t.Errorf("README.md has %d lines, want 200 at the most: what is about details belongs into docs", n)
	}
}

// What README says was measured stands in docs/benchmarks.md, in its tables or in its text.
func TestReadmeSaysWhatWasMeasured(t *testing.T) {
	all := pages(t)
	_, said, _ := strings.Cut(all["README.md"], "**Measured**")
	said, _, _ = strings.Cut(said, "**Broken")
	ratio := regexp.MustCompile(`([\d.,]+\d)\s(?:times\s)?(?:the\smessages/s\s)?of\s(the\sloop|a\stuned\sone)`)
	ratios := ratio.FindAllStringSubmatch(said, -1)
	if len(ratios) != 2 {
		t.Errorf("%d figures are compared with the loop and a tuned one: %q", len(ratios), said)
	}
	for _, r := range ratios {
		of := map[byte]string{'t': "loop", 'a': "floor"}[r[2][0]]
		figure := regexp.MustCompile(`\b` + regexp.QuoteMeta(r[1]) + ` (times the|of the) ` + of + `\b|messages/s, kpush : ` + of + `\b[^\n]* ` + regexp.QuoteMeta(r[1]) + ` \|`)
		if !figure.MatchString(all["docs/benchmarks.md"]) {
			t.Errorf("docs/benchmarks.md does not say %s of the %s", r[1], of)
		}
	}
	if rest := regexp.MustCompile(`(?i)\d\S*|\b(half|twice|two|three|four|five|six|eight|ten)\b`).FindAllString(ratio.ReplaceAllString(said, ""), -1); len(rest) > 0 {
		t.Errorf("nothing holds these figures: %q", rest)
	}
}

// The changelog is by version, as `make release` and the forge's notes look for it, each with something to say.
func TestChangelogIsByVersion(t *testing.T) {
	text, seen := pages(t)["CHANGELOG.md"], map[string]bool{}
	for i, part := range strings.Split("\n"+text, "\n## ")[1:] {
		version, said, _ := strings.Cut(part, "\n")
		if unreleased := version == "Unreleased" && i == 0; seen[version] || !unreleased && !regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?$`).MatchString(version) {
			t.Errorf("a version called %q", version)
		} else if !unreleased && strings.TrimSpace(said) == "" {
			t.Errorf("nothing is said of %s", version)
		}
		seen[version] = true
	}
	if len(seen) == 0 {
		t.Error("there is no version")
	}
}

// elsewhere are variables that are none of the binary's.
var elsewhere = []string{"KPUSH_TEST_BROKERS", "KPUSH_E2E_KAFKA", "KPUSH_E2E_NOTE"}

// What the pages name exists: variables, and flags of the command line.
func TestPagesNameWhatThereIs(t *testing.T) {
	all := pages(t)
	var help strings.Builder
	new(config.Config).Help(&help)
	variables := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| (KPUSH_[A-Z_]+)(\(_FILE\))? \|`).FindAllStringSubmatch(all["docs/configuration.md"], -1) {
		variables[row[1]] = true
		if row[2] != "" {
			variables[row[1]+"_FILE"] = true
		}
	}
	flags := map[string]bool{"json": true}
	for _, f := range regexp.MustCompile(`kpush -([a-z]+)`).FindAllStringSubmatch(help.String(), -1) {
		flags[f[1]] = true
	}
	if len(variables) < 50 || len(flags) < 15 {
		t.Fatalf("%d variables, %d flags", len(variables), len(flags))
	}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if path == "CHANGELOG.md" || strings.HasPrefix(path, "docs/decisions/") {
			continue // what was once
		}
		for _, name := range regexp.MustCompile(`\bKPUSH_[A-Z][A-Z_]*[A-Z]\b`).FindAllString(all[path], -1) {
			if !variables[name] && !slices.Contains(elsewhere, name) && !strings.HasPrefix(name, "KPUSH_BROKERS_") {
				t.Errorf("%s names %s, which is no variable", path, name)
			}
		}
		for _, f := range regexp.MustCompile(`kpush -([a-z]+)`).FindAllStringSubmatch(all[path], -1) {
			if !flags[f[1]] {
				t.Errorf("%s names kpush -%s, which is no command", path, f[1])
			}
		}
	}
}

// Each link of a page leads to a file that is there, and to a heading that it has.
func TestPagesLinkToWhatThereIs(t *testing.T) {
	all := pages(t)
	for path, text := range all {
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			file, heading, _ := strings.Cut(link[1], "#")
			target := path
			if file != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(path), file))
				if _, err := os.Stat(target); err != nil {
					t.Errorf("%s: %v", path, err)
				}
			}
			if heading != "" && !slices.Contains(headings(all[target]), heading) {
				t.Errorf("%s: %s has no heading #%s", path, target, heading)
			}
		}
	}
}

// Each test that a page names is there, and each scenario of the origin's authors has one.
func TestPagesNameTestsThatThereAre(t *testing.T) {
	all, known := pages(t), map[string][]string{} // directory → tests
	named := regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`")
	for path, text := range all {
		for _, name := range named.FindAllStringSubmatch(text, -1) {
			dir := name[1]
			if dir == "main" {
				dir = "."
			}
			if known[dir] == nil {
				known[dir] = tests(t, dir)
			}
			if !slices.Contains(known[dir], name[2]) {
				t.Errorf("%s names %s.%s, which is no test", path, name[1], name[2])
			}
		}
	}
	_, list, _ := strings.Cut(all["docs/from-php.md"], "| scenario |")
	rows := strings.Split(strings.TrimSpace(list), "\n")[2:]
	for _, row := range rows {
		if !named.MatchString(row) {
			t.Errorf("no test is named in %q", row)
		}
	}
	if len(rows) != 32 {
		t.Errorf("docs/from-php.md has %d scenarios; the origin's authors had 32", len(rows))
	}
}

// tests are those of the package in a directory.
func tests(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s: %v", dir, err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range regexp.MustCompile(`(?m)^func (\w+)\(\w+ \*testing\.`).FindAllStringSubmatch(string(text), -1) {
			names = append(names, f[1])
		}
	}
	return names
}

// headings are those of a page as a link names them.
func headings(text string) (all []string) {
	for _, h := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		slug := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(h[1]), "")
		all = append(all, strings.ReplaceAll(slug, " ", "-"))
	}
	return all
}

// blocks are the fenced ones of a page, by language.
var blocks = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// Each block of code says its language, and what can be read here is sound. The others are run: those of README by the stories of
// e2e/quickstart_test.go, PHP's configuration by TestMovingOverFromPHP, and its service by the story of that one.
func TestPagesCodeIsSound(t *testing.T) {
	run := map[string]string{"python": "README.md", "sh": "README.md", "sql": "README.md", "php": "docs/from-php.md"}
	for path, text := range pages(t) {
		for _, b := range blocks.FindAllStringSubmatch(text, -1) {
			var err error
			switch language := b[1]; language {
			case "json":
				err = json.Unmarshal([]byte(b[2]), new(any))
			case "yaml":
				var environ []string
				for _, v := range regexp.MustCompile(`(KPUSH_[A-Z_]+)(?:: |, value: )"?([^",}\s]+)`).FindAllStringSubmatch(b[2], -1) {
					environ = append(environ, v[1]+"="+v[2])
				}
				if err = yaml.Unmarshal([]byte(b[2]), new(any)); err == nil && len(environ) > 0 {
					_, err = config.Load(environ)
				}
			case "properties":
				_, err = config.Load([]string{"KPUSH_BROKERS=kafka:9092", "KPUSH_TOPIC=orders", "KPUSH_GROUP=shop", "KPUSH_SECURITY_PROTOCOL=sasl_ssl",
					"KPUSH_SASL_MECHANISM=OAUTHBEARER", "KPUSH_CONSUMER_CONF=" + b[2]})
			case "go":
				source := b[2]
				if !strings.HasPrefix(source, "package ") {
					source = "package p\n" + source
				}
				_, err = parser.ParseFile(token.NewFileSet(), path, source, 0)
			default:
				if run[language] != path {
					t.Errorf("%s: a block of code in %q, which nothing reads", path, language)
				}
			}
			if err != nil {
				t.Errorf("%s: %v in\n%s", path, err, b[2])
			}
		}
	}
}
