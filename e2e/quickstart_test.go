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

// TestTheQuickStart is README's: its service, and kpush with its variables. Only addresses and names are the test's own.
func TestTheQuickStart(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(language string) string {
		found := regexp.MustCompile("(?ms)^```" + language + "\n(.*?)^```$").FindSubmatch(text)
		if found == nil {
			t.Fatalf("README has no block of %s.", language)
		}
		return string(found[1])
	}
	k, port, dir := kafka(t), rig.Port(t), t.TempDir()
	topic := k.Topic(t, 2)
	script := strings.ReplaceAll(block("python"), "8080", fmt.Sprint(port))
	if err := os.WriteFile(filepath.Join(dir, "service.py"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	said, err := os.Create(filepath.Join(dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	svc := exec.CommandContext(t.Context(), python, filepath.Join(dir, "service.py"))
	svc.Stdout, svc.Stderr = said, said
	if err := svc.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = svc.Process.Kill(); _ = svc.Wait() }()
	own := map[string]string{"KPUSH_BROKERS": k.Brokers, "KPUSH_TOPIC": topic, "KPUSH_GROUP": topic, "KPUSH_PORT": fmt.Sprint(port), "KPUSH_OFFSETS_DIR": dir}
	var env []string
	for _, name := range regexp.MustCompile(`(KPUSH_[A-Z_]+)=`).FindAllStringSubmatch(block("sh"), -1) {
		if own[name[1]] == "" {
			t.Fatalf("README sets %s, of which this story knows nothing.", name[1])
		}
		env = append(env, name[1]+"="+own[name[1]])
	}
	k.Produce(t, topic, rig.Record{Partition: 1, Key: []byte("customer-17"), Value: []byte("Grüße")})
	sc := rig.StartSidecar(t, env...)
	prints := func(want, words string) {
		rig.Within(t, patience, "the service's line", func() bool {
			text, _ := os.ReadFile(said.Name())
			return strings.Contains(string(text), want) && strings.Contains(string(text), words)
		})
	}
	prints(topic+"/1/0/", " customer-17 Grüße\n")
	curl := regexp.MustCompile(`curl -d '(.*)' '127.0.0.1:9401/topics/orders(\?.*)'`).FindSubmatch(text)
	if code, answer, err := publish(sc, topic+string(curl[2]), string(curl[1])); code != 200 {
		t.Errorf("What README publishes is answered %d %v %v", code, answer, err)
	}
	prints(topic+"/", " customer-17 "+string(curl[1])+"\n")
	if code, out := sc.Run(t, "-check"); code != 0 {
		t.Errorf("-check ends with %d: %s", code, out)
	}
	for _, line := range []string{"kpush starts", "partition starts"} {
		if !strings.Contains(sc.Tail(50), line) {
			t.Errorf("The log does not say %q:\n%s", line, sc.Tail(50))
		}
	}
	sc.Shut(t, 10*time.Second)
}

// TestAServiceThatActsOnce: the example of a service that keeps ids adds each order to its account once, over kill -9 of kpush, and publishes an
// invoice of each.
func TestAServiceThatActsOnce(t *testing.T) {
	t.Parallel()
	const count, customers = 200, 7
	k, dir, port, api := kafka(t), t.TempDir(), rig.Port(t), fmt.Sprintf("127.0.0.1:%d", rig.Port(t))
	orders, invoices, database := k.Topic(t, 4), k.Topic(t, 1), filepath.Join(dir, "shop.db")
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	svc := exec.CommandContext(t.Context(), python, "../examples/python/service.py", fmt.Sprint(port), database, invoices)
	svc.Env = append(os.Environ(), "KPUSH_API_ADDR="+api)
	if err := svc.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = svc.Process.Kill(); _ = svc.Wait() }()
	records, want := make([]rig.Record, count), map[string]int{}
	for i := range records {
		customer := fmt.Sprintf("customer-%d", i%customers)
		records[i] = rig.Record{Partition: int32(i % 4), Key: []byte(customer), Value: fmt.Append(nil, i)}
		want[customer] += i
	}
	k.Produce(t, orders, records...)
	published := func() (n int64) { return k.EndOffsets(t, invoices)[0] }
	sc := rig.StartSidecar(t, "KPUSH_BROKERS="+k.Brokers, "KPUSH_TOPIC="+orders, "KPUSH_GROUP="+orders, fmt.Sprintf("KPUSH_PORT=%d", port), "KPUSH_API_ADDR="+api, "KPUSH_RETRY_INTERVAL=50ms")
	for kills := range int64(3) {
		rig.Within(t, patience, "more invoices", func() bool { return published() > 50*kills+30 })
		sc.Kill()
		sc.Start(t)
	}
	noLag(t, k, orders)
	sc.Shut(t, 10*time.Second)
	once, twice := map[string]bool{}, 0
	for _, r := range contents(t, k, invoices)[0] {
		id := string(r.Headers[0].Value)
		if once[id] {
			twice++
		}
		once[id] = true
	}
	if len(once) != count || twice > 3*concurrency {
		t.Errorf("There are invoices of %d orders, and %d twice.", len(once), twice)
	}
	accounts := strings.Fields(run(t, nil, python, "-c", `import sqlite3, sys
for customer, total in sqlite3.connect(sys.argv[1]).execute("SELECT * FROM account"): print(customer, total)`, database))
	for i := 0; i < len(accounts); i += 2 {
		if accounts[i+1] != fmt.Sprint(want[accounts[i]]) {
			t.Errorf("%s has %s, want %d.", accounts[i], accounts[i+1], want[accounts[i]])
		}
	}
	if len(accounts) != 2*customers {
		t.Errorf("There are the accounts %q.", accounts)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if sql := regexp.MustCompile("(?ms)^```sql\n(.*?)^```$").FindSubmatch(readme); run(t, nil, python, "-c", `import sqlite3, sys
db = sqlite3.connect(":memory:", isolation_level=None)
db.executescript("CREATE TABLE done (id TEXT PRIMARY KEY); CREATE TABLE account (customer INTEGER, total INTEGER); INSERT INTO account VALUES (17, 0)")
for time in range(2):
    try: db.executescript(sys.argv[1])
    except sqlite3.IntegrityError: db.rollback(); print("again")
print(db.execute("SELECT total FROM account").fetchall())`, string(sql[1])) != "again\n[(12,)]" {
		t.Error("README's transaction is not one that acts once.")
	}
	t.Logf("%d orders over 3 kills: each once on its account, %d invoices twice.", count, twice)
}
