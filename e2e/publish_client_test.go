package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
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

// TestPublishFromPHP: the origin's four calls, by the file that takes the place of its client, to two topics in turn.
func TestPublishFromPHP(t *testing.T) {
	t.Parallel()
	k := kafka(t)
	topic, other := k.Topic(t, 3), k.Topic(t, 1)
	sc := publishOnly(t, k, "KPUSH_API_TOKEN=s3cr3t")
	script := filepath.Join(t.TempDir(), "send.php")
	text := fmt.Sprintf(`<?php
require '%[1]s';
KafkaClient::init('http://%[2]s', 's3cr3t');
for ($i = 0; $i < 5; $i++) {
    KafkaClient::setTopic('%[3]s');
    echo json_encode([KafkaClient::sendMsg("wait $i", "\x00k"), KafkaClient::sendMsgAsyn("go on $i", "\x00k"), KafkaClient::lastError()]);
    KafkaClient::setTopic('%[4]s');
    echo json_encode(KafkaClient::sendMsg("other $i", "k"));
}
KafkaClient::setTopic('%[3]s');
echo json_encode([KafkaClient::sendMsg(''), KafkaClient::sendMsgAsyn('no key')]);
KafkaClient::setTopic('no-such-topic');
echo json_encode([KafkaClient::sendMsg('x'), KafkaClient::sendMsgAsyn('x', ''), KafkaClient::lastError()['error_code']]);
KafkaClient::init('http://%[2]s', 'wrong');
echo json_encode([KafkaClient::sendMsg('x'), KafkaClient::lastError()['error_code']]);
KafkaClient::init('http://127.0.0.1:1', '', 1.0);
echo json_encode([KafkaClient::sendMsg('x'), KafkaClient::lastError()['retriable']]);
`, mustAbs(t, "../examples/php/KafkaClient.php"), sc.API(), topic, other)
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("[true,true,null]true", 5) + "[true,true][false,false,40401][false,401][false,true]"
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
	var between []string
	for _, r := range contents(t, k, other)[0] {
		between = append(between, string(r.Value))
	}
	if got := strings.Join(between, ","); got != "other 0,other 1,other 2,other 3,other 4" {
		t.Errorf("The other topic has %s.", got)
	}
}

// TestAServiceOfTheOriginIsServed: the page for those who come from there has a service as it was, and it runs as it is, by PHP's own server.
func TestAServiceOfTheOriginIsServed(t *testing.T) {
	t.Parallel()
	const partitions, count = 2, 20
	page, err := os.ReadFile("../docs/from-php.md")
	if err != nil {
		t.Fatal(err)
	}
	script := regexp.MustCompile("(?ms)^```php\n(<\\?php\n.*?)^```$").FindSubmatch(page)
	php, err := exec.LookPath("php")
	if err != nil {
		t.Skip("php is not installed")
	}
	dir, port, k := t.TempDir(), rig.Port(t), kafka(t)
	if err := os.WriteFile(filepath.Join(dir, "service.php"), script[1], 0o600); err != nil {
		t.Fatal(err)
	}
	svc := exec.CommandContext(t.Context(), php, "-S", fmt.Sprintf("127.0.0.1:%d", port), "service.php")
	svc.Dir = dir
	if err := svc.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = svc.Process.Kill(); _ = svc.Wait() }()
	topic := k.Topic(t, partitions)
	records := make([]rig.Record, count)
	for i := range records {
		records[i] = rig.Record{Partition: int32(i % partitions), Value: fmt.Appendf(nil, `{"total":"%d & %% +ö"}`, i)}
	}
	records[7].Value = []byte("no order")
	k.Produce(t, topic, records...)
	sc := rig.StartSidecar(t, "KPUSH_BROKERS="+k.Brokers, "KPUSH_TOPIC="+topic, "KPUSH_GROUP="+topic, fmt.Sprintf("KPUSH_PORT=%d", port), "KPUSH_URL=/kafka/orders?from=kpush",
		"KPUSH_FORMAT=form", "KPUSH_ACK=errno", "KPUSH_CAN_SKIP=true", "KPUSH_RETRY_NUMS=2", "KPUSH_RETRY_INTERVAL=50ms")
	noLag(t, k, topic)
	sc.Shut(t, 10*time.Second)
	done, err := os.ReadFile(filepath.Join(dir, "orders.log"))
	if err != nil {
		t.Fatal(err)
	}
	next := [partitions]int{}
	for line := range strings.Lines(string(done)) {
		var partition, offset, total int
		if _, err := fmt.Sscanf(line, "%d/%d %d & %% +ö\n", &partition, &offset, &total); err != nil || offset*partitions+partition != total {
			t.Fatalf("The service has written %q: %v", line, err)
		}
		if partition == 1 && next[1] == 3 {
			next[1]++ // the one that is no order
		}
		if offset != next[partition] {
			t.Errorf("In partition %d came %d where %d was due.", partition, offset, next[partition])
		}
		next[partition]++
	}
	if log := skipped(t, sc); next != [partitions]int{10, 10} || len(log) != 1 || log[0]["offset"] != 3.0 || !strings.Contains(fmt.Sprint(log[0]), "errno 1") {
		t.Errorf("%v came, and %v was skipped.", next, log)
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
