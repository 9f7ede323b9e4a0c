package config

import (
	"cmp"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "rewrite the table of variables in docs/configuration.md")

func TestDocumentedTableIsTheStructs(t *testing.T) {
	const begin, end = "<!-- config:begin -->\n", "<!-- config:end -->"
	content, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(content), begin)
	table, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("docs/configuration.md has no %s… %s", begin, end)
	}
	if table == markdown() {
		return
	}
	if !*update {
		t.Fatal("docs/configuration.md's table of variables is not the struct's any more; run go test -run Documented ./config -update")
	}
	if err := os.WriteFile("../docs/configuration.md", []byte(before+begin+markdown()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestMarkdownHasOneWholeRowPerVariable(t *testing.T) {
	rows := strings.Split(strings.TrimSpace(markdown()), "\n")
	if len(rows) != len(contract)+2 {
		t.Fatalf("%d rows for %d variables", len(rows), len(contract))
	}
	for i, row := range rows[2:] {
		cells := strings.Split(row, " | ")
		if len(cells) != 4 || !strings.HasPrefix(row, "| "+contract[i][0]) || !strings.HasSuffix(row, " |") {
			t.Errorf("row %d: %s", i, row)
		}
	}
}

func TestHelp(t *testing.T) {
	var b strings.Builder
	(*Config)(nil).Help(&b)
	help := b.String()
	for _, want := range []string{"-help", "-check", "-version", "-healthz", "-offsets DIR", "-status", "-skip", "-pause", "-resume", "-seek", "-skipped", "-resend", "-audit", "kpush is a sidecar"} {
		if !strings.Contains(help, want) {
			t.Errorf("help does not say %q", want)
		}
	}
	lines := strings.Split(help, "\n")
	for _, line := range lines {
		if utf8.RuneCountInString(line) > 120 || strings.TrimRight(line, " ") != line {
			t.Errorf("wider than 120 columns, or with spaces at its end: %q", line)
		}
	}
	at := 0
	for _, row := range contract {
		for ; at < len(lines) && !strings.HasPrefix(lines[at], row[0]+" ") && !strings.HasPrefix(lines[at], row[0]+"(_FILE) "); at++ {
		}
		if at == len(lines) {
			t.Fatalf("%s is missing or out of order", row[0])
		}
		if !strings.Contains(lines[at], "  "+row[2]+"  ") {
			t.Errorf("%s lacks its default %q: %s", row[0], row[2], lines[at])
		}
	}
}

func TestTableHasEachVariable(t *testing.T) {
	for _, f := range fields {
		if !strings.Contains(markdown(), f.label()+" |") {
			t.Errorf("docs/configuration.md lacks %s", f.label())
		}
	}
}

func TestEffectiveShowsWhatAppliesAndNoSecret(t *testing.T) {
	c := load(t, "KPUSH_URL=https://user:"+secret+"@app:81/in?a="+secret+"&token="+secret+"&b", "KPUSH_SECURITY_PROTOCOL=sasl_ssl", "KPUSH_SASL_MECHANISM=PLAIN",
		"KPUSH_SASL_USERNAME="+secret, "KPUSH_SASL_PASSWORD="+secret, "KPUSH_TOPIC=a,b", "KPUSH_CONCURRENCY=auto", "KPUSH_READY_URL=/up?x="+secret+"&auth="+secret, "KPUSH_CONFIRM_URL=http://app/has?code="+secret, "KPUSH_SSL_CA_FILE=config.go", "KPUSH_CONSUMER_CONF="+strings.Join([]string{
			"ssl.key.password=" + secret, "sasl.oauthbearer.client.secret=" + secret, "sasl.oauthbearer.token.endpoint.url=https://u:" + secret + "@x",
			"ssl.key.pem=" + secret, "sasl.jaas.config=" + secret, "sasl.oauthbearer.config=" + secret, "ssl.keystore.password=" + secret,
			"sasl.oauthbearer.assertion.private.key.passphrase=" + secret, "https.proxy=http://u:" + secret + "@x", "client.rack=http://x/?c=" + secret, "client.id=shop", "debug=cgrp"}, ";"))
	got := map[string]string{}
	for _, attr := range c.Effective() {
		if attr.Value.Kind() != slog.KindString {
			t.Errorf("%s is no string", attr.Key)
		}
		got[attr.Key] = attr.Value.String()
		if strings.Contains(attr.Value.String(), secret) {
			t.Errorf("%s shows the secret: %s", attr.Key, attr.Value)
		}
	}
	for name, want := range map[string]string{
		"KPUSH_BROKERS": "kafka:9092", "KPUSH_TOPIC": "a,b", "KPUSH_HOST": "app", "KPUSH_PORT": "81", "KPUSH_URL": "https://***@app:81/in?a=***&token=***&b",
		"KPUSH_SASL_USERNAME": "***", "KPUSH_SASL_PASSWORD": "***", "KPUSH_SASL_MECHANISM": "PLAIN", "KPUSH_RETRY_MAX_INTERVAL": "2s",
		"KPUSH_CONCURRENCY": "auto", "KPUSH_READY_URL": "/up?x=***&auth=***", "KPUSH_CONFIRM_URL": "http://app/has?code=***", "KPUSH_CAN_SKIP": "false", "KPUSH_BUFFER": "16MiB", "KPUSH_SSL_CA_FILE": "config.go",
	} {
		if got[name] != want {
			t.Errorf("%s is shown as %q, want %q", name, got[name], want)
		}
	}
	if conf := got["KPUSH_CONSUMER_CONF"]; !strings.Contains(conf, "client.id=shop;client.rack=http://x/?c=***;debug=cgrp;") || strings.Count(conf, "=***") != 10 {
		t.Errorf("KPUSH_CONSUMER_CONF is shown as %s", conf)
	}
	for _, absent := range []string{"KPUSH_DOMAIN", "KPUSH_API_TOKEN", "KPUSH_INSTANCE_ID"} {
		if _, there := got[absent]; there {
			t.Errorf("%s is shown, and nothing heeds it", absent)
		}
	}
}

func TestEffectiveKeepsAPlainURLAsItIs(t *testing.T) {
	for _, url := range []string{"/", "/in?", "/in?y", "//a", "https://app/in%2F?y&z"} {
		if got := maskURL(url); got != url {
			t.Errorf("%s is shown as %s", url, got)
		}
	}
}

// markdown is the table of docs/configuration.md.
func markdown() string {
	var b strings.Builder
	b.WriteString("| variable | origin's option | default | meaning |\n|---|---|---|---|\n")
	escape := strings.NewReplacer("|", `\|`, "*", `\*`, "<", "&lt;").Replace
	for _, f := range fields {
		origin := cmp.Or(f.Tag.Get("origin"), "–")
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", f.label(), escape(origin), escape(f.otherwise()), escape(f.meaning()))
	}
	return b.String()
}
