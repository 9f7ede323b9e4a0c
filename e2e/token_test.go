package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestTokensOfAProvider: OAUTHBEARER with an OpenID provider. The broker ends each connection with its token. The provider is away until no client
// has one that is good, and comes back with another secret, which is on disk: it is read, and the same process goes on.
func TestTokensOfAProvider(t *testing.T) {
	t.Parallel()
	const count, bound = 200, 30 * time.Second
	k := rig.OwnTokened(t)
	file := filepath.Join(t.TempDir(), "conf")
	conf := func(secret string) string {
		return strings.Join([]string{"sasl.oauthbearer.method=oidc", "sasl.oauthbearer.client.id=" + k.ID, "sasl.oauthbearer.client.secret=" + secret,
			"sasl.oauthbearer.token.endpoint.url=" + k.Endpoint, "sasl.oauthbearer.scope=kafka", "https.ca.location=" + k.CA}, "\n")
	}
	write := func() {
		if err := os.WriteFile(file, []byte(conf(k.Secret)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	env := []string{"KPUSH_BROKERS=" + k.Link.Brokers, "KPUSH_SECURITY_PROTOCOL=sasl_ssl", "KPUSH_SASL_MECHANISM=OAUTHBEARER", "KPUSH_SSL_CA_FILE=" + k.CA}
	svc, topic := service(t), k.Topic(t, 4)
	produced := k.ProduceEvenly(t, topic, 4, count, 100)
	sc := sidecar(t, k.Kafka, topic, svc, append(env, "KPUSH_CONSUMER_CONF_FILE="+file)...)
	svc.Await(t, count, patience)
	if code, said := sc.Run(t, "-check"); code != 0 || strings.Contains(said, k.Secret) {
		t.Errorf("-check: exit code %d, %s", code, said)
	}
	if code, answer, err := publish(sc, k.Topic(t, 1), "x"); code != 200 {
		t.Errorf("Published: %d, %v, %v", code, answer, err)
	}

	k.Provide(false)
	time.Sleep(rig.TokenLife)
	says(t, sc, "SASL OAUTHBEARER")
	said(t, sc, "Failed to retrieve OIDC token")
	produced = append(produced, k.ProduceEvenly(t, topic, 4, count, 100)...)
	time.Sleep(time.Second)
	if n := svc.Delivered(); n != count {
		t.Errorf("%d messages were delivered without a token.", n-count)
	}
	k.Secret = "another one"
	write()
	k.Provide(true)
	back := time.Now()
	svc.Await(t, len(produced), patience)
	took := time.Since(back)
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 0)
	committedIsEnd(t, k.Kafka, topic)
	said(t, sc, "invalid_client") // to the client that was made of the file before
	said(t, sc, file+" has changed since")
	below(t, "Flow after the provider came back with another secret", back, took, bound)
}
