package e2e

import (
	"bytes"
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

// ledgers are the examples of services that keep ids, and how one reads what they have done: a line "customer total" each.
var ledgers = []struct{ language, service, read string }{
	{"python3", "../examples/python/service.py", `import sqlite3, sys
for order in sqlite3.connect(sys.argv[1]).execute("SELECT * FROM account"): print(*order)`},
	{"node", "../examples/node/service.mjs", ""},
	{"go", "../examples/go/service", ""},
	{"php", "../examples/php/service.php", ""},
}

// TestServicesThatActOnce: each order is added to its account once, over kill -9 of kpush and of the service, and an invoice of each is published.
func TestServicesThatActOnce(t *testing.T) {
	t.Parallel()
	const count = 200
	customers := []string{"customer-0", "customer-1", "customer-2", "k\u00fcnde-3", "\u0417", "-"} // "-": no key
	k := kafka(t)
	for _, example := range ledgers {
		t.Run(example.language, func(t *testing.T) {
			t.Parallel()
			command, err := exec.LookPath(example.language)
			if err != nil {
				t.Skipf("%s is not installed", example.language)
			}
			dir, port, api := t.TempDir(), rig.Port(t), fmt.Sprintf("127.0.0.1:%d", rig.Port(t))
			orders, invoices, ledger := k.Topic(t, 4), k.Topic(t, 1), filepath.Join(dir, "ledger")
			args := []string{command, example.service, fmt.Sprint(port), ledger, invoices}
			switch example.language {
			case "go":
				args = append([]string{filepath.Join(dir, "service")}, args[2:]...)
				run(t, nil, command, "build", "-o", args[0], example.service)
			case "php": // its server takes no arguments for the script
				args = []string{command, "-S", fmt.Sprint("127.0.0.1:", port), example.service}
			}
			var svc *exec.Cmd
			start := func() {
				svc = exec.CommandContext(t.Context(), args[0], args[1:]...)
				svc.Env = append(os.Environ(), "KPUSH_API_ADDR="+api, "LEDGER="+ledger, "TOPIC="+invoices)
				if err := svc.Start(); err != nil {
					t.Fatal(err)
				}
			}
			end := func() { _ = svc.Process.Kill(); _ = svc.Wait() }
			start()
			defer func() { end() }()
			records, want := make([]rig.Record, count), map[string]int{}
			for i := range records {
				customer := customers[i%len(customers)]
				records[i] = rig.Record{Partition: int32(i % 4), Key: []byte(customer), Value: fmt.Append(nil, i)}
				if customer == "-" {
					records[i].Key = nil
				}
				want[customer] += i
			}
			k.Produce(t, orders, records...)
			sc := rig.StartSidecar(t, "KPUSH_BROKERS="+k.Brokers, "KPUSH_TOPIC="+orders, "KPUSH_GROUP="+orders, fmt.Sprintf("KPUSH_PORT=%d", port), "KPUSH_API_ADDR="+api, "KPUSH_RETRY_INTERVAL=50ms")
			for kills := range int64(3) {
				rig.Within(t, patience, "more invoices", func() bool { return k.EndOffsets(t, invoices)[0] > 50*kills+30 })
				sc.Kill()
				if kills == 1 {
					end()
					start()
				}
				sc.Start(t)
			}
			noLag(t, k, orders)
			sc.Shut(t, 10*time.Second)
			once, twice := map[string]bool{}, 0
			for _, r := range contents(t, k, invoices)[0] {
				id := string(r.Headers[0].Value)
				var of int
				if _, err := fmt.Sscanf(string(r.Value), "invoice of %d", &of); err != nil || !bytes.Equal(r.Key, records[of].Key) || (r.Key == nil) != (records[of].Key == nil) {
					t.Errorf("The invoice %q has the key %q.", r.Value, r.Key)
				}
				if once[id] {
					twice++
				}
				once[id] = true
			}
			if len(once) != count || twice > 4*concurrency {
				t.Errorf("There are invoices of %d orders, and %d twice.", len(once), twice)
			}
			for customer, total := range accounts(t, example.language, example.read, ledger) {
				if want[customer] != total {
					t.Errorf("%s has %d, want %d.", customer, total, want[customer])
				}
				delete(want, customer)
			}
			if len(want) > 0 {
				t.Errorf("There are no accounts of %v.", want)
			}
			t.Logf("%d orders over kills: each once on its account, %d invoices twice.", count, twice)
		})
	}
}

// accounts are the sums of a ledger, which a script reads where it is no file of lines "id customer total".
func accounts(t *testing.T, language, read, ledger string) map[string]int {
	t.Helper()
	text := ""
	if read != "" {
		text = run(t, nil, language, "-c", read, ledger)
	} else if lines, err := os.ReadFile(ledger); err != nil {
		t.Fatal(err)
	} else {
		text = string(lines)
	}
	sums := map[string]int{}
	for line := range strings.Lines(text) {
		words, total := strings.Fields(line), 0
		if _, err := fmt.Sscan(words[len(words)-1], &total); err != nil || len(words) < 2 {
			t.Fatalf("%q: %v", line, err)
		}
		sums[words[len(words)-2]] += total
	}
	return sums
}

// TestReadmesTransaction: the second time it changes nothing.
func TestReadmesTransaction(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	sql := regexp.MustCompile("(?ms)^```sql\n(.*?)^```$").FindSubmatch(readme)
	if said := run(t, nil, "python3", "-c", `import sqlite3, sys
db = sqlite3.connect(":memory:", isolation_level=None)
db.executescript("CREATE TABLE done (id TEXT PRIMARY KEY); CREATE TABLE account (customer INTEGER, total INTEGER); INSERT INTO account VALUES (17, 0)")
for time in range(2):
    try: db.executescript(sys.argv[1])
    except sqlite3.IntegrityError: db.rollback(); print("again")
print(db.execute("SELECT total FROM account").fetchall())`, string(sql[1])); said != "again\n[(12,)]" {
		t.Errorf("It comes to %s.", said)
	}
}
