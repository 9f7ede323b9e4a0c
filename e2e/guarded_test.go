package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestAGuardedService has https, and takes a certificate and a token, nothing less. kpush does not know its authority at first; and while messages
// flow the service wants a certificate of another authority, and another token. What is wrong is said each time, the files are read again, and each
// message arrives once: none is given up, although one fault of its own would do for that.
func TestAGuardedService(t *testing.T) {
	t.Parallel()
	const count, bound = 1_000, 20 * time.Second
	k, dir := kafka(t), t.TempDir()
	svc, guard := rig.StartGuarded(t)
	svc.Rule(rig.Slow(4 * time.Millisecond))
	first, second := guard.Issue(t, "first"), guard.Issue(t, "second")
	guard.Demand(first)
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	shown := func(p rig.Pass) {
		write("cert.pem", p.Cert)
		write("key.pem", p.Key)
	}
	write("ca.pem", guard.StrangerCA)
	shown(first)
	write("token", []byte(first.Token+"\n"))
	topic := k.Topic(t, 4)
	records := keyed(count)
	produced := k.Produce(t, topic, records[:count/2]...)
	sc := sidecar(t, k, topic, svc, "KPUSH_PORT=", fmt.Sprintf("KPUSH_URL=https://127.0.0.1:%d/in", svc.Port), "KPUSH_CAN_SKIP=true", "KPUSH_RETRY_NUMS=1",
		"KPUSH_SERVICE_CA_FILE="+filepath.Join(dir, "ca.pem"), "KPUSH_SERVICE_CERT_FILE="+filepath.Join(dir, "cert.pem"),
		"KPUSH_SERVICE_KEY_FILE="+filepath.Join(dir, "key.pem"), "KPUSH_SERVICE_TOKEN_FILE="+filepath.Join(dir, "token"))
	down := func(why string) {
		t.Helper()
		rig.Within(t, bound, "a note that the service is down: "+why, func() bool {
			return strings.Contains(strings.Join(sc.Ask("/readyz").Notes, "\n"), "the service is down ("+why)
		})
	}
	const unknown = "no connection to the service: TLS handshake: tls: failed to verify certificate: x509: certificate signed by unknown authority; KPUSH_SERVICE_CA_FILE names"
	down(unknown)
	checked(t, sc, 0, "warning: service 127.0.0.1:", "certificate signed by unknown authority; KPUSH_SERVICE_CA_FILE")
	if n := len(svc.Requests()); n > 0 {
		t.Errorf("%d requests came to a service of an authority that nobody knows.", n)
	}
	write("ca.pem", guard.CA)
	svc.Await(t, count/4, bound)

	guard.Demand(second)
	produced = append(produced, k.Produce(t, topic, records[count/2:]...)...)
	down("no connection to the service: remote error: tls: unknown certificate authority")
	shown(second)
	down("the service answered 401")
	before := svc.Delivered()
	write("token", []byte(second.Token+"\n"))
	renewed := time.Now()
	svc.Await(t, count, bound)
	took := time.Since(renewed)
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 0)
	committedIsEnd(t, k, topic)
	if guard.Refused(http.StatusForbidden) == 0 || guard.Refused(http.StatusUnauthorized) == 0 {
		t.Error("No request was refused.")
	}
	t.Logf("%d of %d delivered before certificate and token were renewed, the rest %v after it; %d requests refused for the certificate, %d for the token.",
		before, count, took.Round(time.Millisecond), guard.Refused(http.StatusForbidden), guard.Refused(http.StatusUnauthorized))
}
