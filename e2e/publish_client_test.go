package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// run runs a client of the door, and returns what it says.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	c := exec.CommandContext(t.Context(), name, args...)
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestPublishFromPHP: the origin's four calls, by the file that takes the place of its client.
func TestPublishFromPHP(t *testing.T) {
	t.Parallel()
	k := kafka(t)
	topic := k.Topic(t, 3)
	sc := publishOnly(t, k, "KPUSH_API_TOKEN=s3cr3t")
	script := filepath.Join(t.TempDir(), "send.php")
	text := fmt.Sprintf(`<?php
require '%s';
KafkaClient::init('http://%s', 's3cr3t');
KafkaClient::setTopic('%s');
for ($i = 0; $i < 5; $i++) { echo json_encode([KafkaClient::sendMsg("wait $i", "\x00k"), KafkaClient::sendMsgAsyn("go on $i", "\x00k"), KafkaClient::lastError()]); }
echo json_encode([KafkaClient::sendMsg(''), KafkaClient::sendMsgAsyn('no key')]);
KafkaClient::setTopic('no-such-topic');
echo json_encode([KafkaClient::sendMsg('x'), KafkaClient::sendMsgAsyn('x', ''), KafkaClient::lastError()['error_code']]);
KafkaClient::init('http://%[2]s', 'wrong');
echo json_encode([KafkaClient::sendMsg('x'), KafkaClient::lastError()['error_code']]);
KafkaClient::init('http://127.0.0.1:1', '', 1.0);
echo json_encode([KafkaClient::sendMsg('x'), KafkaClient::lastError()['retriable']]);
`, mustAbs(t, "../examples/php/KafkaClient.php"), sc.API(), topic)
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("[true,true,null]", 5) + "[true,true][false,false,40401][false,401][false,true]"
	if got := run(t, nil, "php", script); got != want {
		t.Errorf("PHP says\n%s, want\n%s", got, want)
	}
	sc.Shut(t, 10*time.Second)
	var keyed, others []string
	for _, records := range contents(t, k, topic) {
		for _, r := range records {
			if string(r.Key) == "\x00k" {
				keyed = append(keyed, string(r.Value))
			} else {
				others = append(others, string(r.Value))
			}
		}
	}
	if got := strings.Join(keyed, ","); got != "wait 0,go on 0,wait 1,go on 1,wait 2,go on 2,wait 3,go on 3,wait 4,go on 4" || len(others) != 2 {
		t.Errorf("The topic has %s, and %q.", got, others)
	}
}

// TestPublishFromExamples: what the documentation shows runs.
func TestPublishFromExamples(t *testing.T) {
	t.Parallel()
	k := kafka(t)
	sc := publishOnly(t, k)
	for command, says := range map[string]string{"node ../examples/node/publish.mjs": "%s/0/0", "go run ../examples/go": `{"topic":"%s","partition":0,"offset":0,`} {
		topic, words := k.Topic(t, 1), strings.Fields(command)
		got := run(t, []string{"KPUSH_API_ADDR=" + sc.API()}, words[0], append(words[1:], topic, "küche", "v")...)
		if !strings.HasPrefix(got, fmt.Sprintf(says, topic)) {
			t.Errorf("%s says %s", command, got)
		}
		if r := contents(t, k, topic)[0][0]; string(r.Key) != "küche" || string(r.Value) != "v" {
			t.Errorf("%s: %q=%q is there.", command, r.Key, r.Value)
		}
	}
}

func mustAbs(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}
