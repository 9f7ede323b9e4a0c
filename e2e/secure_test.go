package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestASecuredBroker takes TLS with certificates of both ends and a password, and nothing less; whoever has less is told what.
func TestASecuredBroker(t *testing.T) {
	t.Parallel()
	k := rig.OwnSecured(t)
	const count = 200
	env := func(mechanism, password, ca, cert, key string) []string {
		return []string{"KPUSH_BROKERS=" + k.Link.Brokers, "KPUSH_SECURITY_PROTOCOL=sasl_ssl", "KPUSH_SASL_MECHANISM=" + mechanism,
			"KPUSH_SASL_USERNAME=" + k.User, "KPUSH_SASL_PASSWORD=" + password, "KPUSH_SSL_CA_FILE=" + ca, "KPUSH_SSL_CERT_FILE=" + cert, "KPUSH_SSL_KEY_FILE=" + key}
	}
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-512"} {
		svc, topic := service(t), k.Topic(t, 4)
		produced := k.ProduceEvenly(t, topic, 4, count, 100)
		sc := sidecar(t, k.Kafka, topic, svc, env(mechanism, k.Password, k.CA, k.Cert, k.Key)...)
		svc.Await(t, count, patience)
		if code, said := sc.Run(t, "-check"); code != 0 {
			t.Errorf("-check with %s: exit code %d, %s", mechanism, code, said)
		}
		sc.Shut(t, 10*time.Second)
		svc.Judge(produced).Kept(t, 0)
		committedIsEnd(t, k.Kafka, topic)
	}
	t.Run("rights", func(t *testing.T) {
		t.Parallel() // beside those below
		rights(t, k)
	})
	for name, c := range map[string]struct {
		env     []string
		said    string
		checked bool // by -check, too, which takes nine seconds
	}{
		"wrong password":    {env("PLAIN", "guessed", k.CA, k.Cert, k.Key), "uthentication failed", true},
		"wrong SCRAM":       {env("SCRAM-SHA-512", "guessed", k.CA, k.Cert, k.Key), "uthentication failed", false},
		"unknown authority": {env("PLAIN", k.Password, k.StrangerCA, k.Cert, k.Key), "certificate", false},
		"no certificate":    {env("PLAIN", k.Password, k.CA, "", ""), "certificate", false},
		"no TLS":            {[]string{"KPUSH_BROKERS=" + k.Link.Brokers}, "KPUSH_SECURITY_PROTOCOL", true},
	} {
		topic := k.Topic(t, 1)
		sc := sidecar(t, k.Kafka, topic, service(t), c.env...)
		var why string
		_, ok := rig.Until(20*time.Second, func() bool {
			why = strings.Join(sc.Ask("/readyz").Why, "; ")
			return strings.Contains(why, c.said)
		})
		t.Logf("%s: %s", name, why)
		if !ok || strings.Contains(why, k.Password) || strings.Contains(why, "guessed") {
			t.Errorf("%s: /readyz says %q, want %q and no password.", name, why, c.said)
		}
		if c.checked {
			if code, said := sc.Run(t, "-check"); code == 0 || !strings.Contains(said, c.said) {
				t.Errorf("%s: -check says %q with exit code %d, want %q.", name, said, code, c.said)
			}
		}
		sc.Shut(t, 10*time.Second)
	}
}

// says wants /readyz to say a sentence within the bound, and to go on saying it.
func says(t *testing.T, sc *rig.Sidecar, sentence string) {
	t.Helper()
	const bound, steady = 15 * time.Second, 3 * time.Second
	holds := func() bool { return strings.Contains(strings.Join(sc.Ask("/readyz").Why, "; "), sentence) }
	took := rig.Within(t, bound, fmt.Sprintf("the sentence %q", sentence), holds)
	rig.Throughout(t, steady, func() error {
		if !holds() {
			return fmt.Errorf("/readyz says %q, no longer %q", sc.Ask("/readyz").Why, sentence)
		}
		return nil
	})
	if n := len(sc.Find(sentence)); n > 1 {
		t.Errorf("The log says %q %d times within a minute.", sentence, n)
	}
	t.Logf("%q is named after %v (bound %v).", sentence, took.Round(10*time.Millisecond), bound)
}

// checked wants -check to end with the code, and to say all of it.
func checked(t *testing.T, sc *rig.Sidecar, code int, sentences ...string) {
	t.Helper()
	got, said := sc.Run(t, "-check")
	for _, s := range sentences {
		if !strings.Contains(said, s) {
			t.Errorf("-check does not say %q:\n%s", s, said)
		}
	}
	if got != code {
		t.Errorf("-check ends with exit code %d, not %d:\n%s", got, code, said)
	}
}

// rights tells of a user who lacks one: for one of two topics, for the group, and for the group from some moment on.
func rights(t *testing.T, k *rig.Secured) {
	const count = 100
	sc := func(t *testing.T, svc *rig.Service, topic, topics string) *rig.Sidecar {
		return sidecar(t, k.Kafka, topic, svc, "KPUSH_TOPIC="+topics, "KPUSH_BROKERS="+k.Link.Brokers, "KPUSH_SECURITY_PROTOCOL=sasl_ssl", "KPUSH_SASL_MECHANISM=PLAIN",
			"KPUSH_SASL_USERNAME="+k.Guest, "KPUSH_SASL_PASSWORD="+k.Password, "KPUSH_SSL_CA_FILE="+k.CA, "KPUSH_SSL_CERT_FILE="+k.Cert, "KPUSH_SSL_KEY_FILE="+k.Key)
	}
	t.Run("one of two topics", func(t *testing.T) {
		t.Parallel()
		svc, mine, other := service(t), k.Topic(t, 2), k.Topic(t, 2)
		k.Allow(t, mine, mine)
		produced := append(k.ProduceEvenly(t, mine, 2, count, 100), k.ProduceEvenly(t, other, 2, count, 100)...)
		sc := sc(t, svc, mine, mine+","+other)
		says(t, sc, "waiting for the topic: "+other+": Kafka's ACLs forbid it")
		svc.Await(t, count, patience)
		checked(t, sc, 1, mine+"/1 ", "the topic: "+other+": Kafka's ACLs forbid it")
		k.Allow(t, other, "")
		svc.Await(t, len(produced), patience)
		sc.Ready(t, patience)
		sc.Shut(t, 10*time.Second)
		svc.Judge(produced).Kept(t, 0)
	})
	t.Run("the group", func(t *testing.T) {
		t.Parallel()
		svc, topic := service(t), k.Topic(t, 2)
		k.Allow(t, topic, "")
		produced := k.ProduceEvenly(t, topic, 2, count, 100)
		sc := sc(t, svc, topic, topic)
		const sentence = "the group does not take this member: "
		says(t, sc, "waiting for a place in group "+topic+": "+sentence+"FindCoordinator response error: Group authorization failed")
		checked(t, sc, 1, "the group: "+topic+": Kafka's ACLs forbid it: READ is missing", topic+"/1 ")
		k.Allow(t, "", topic)
		svc.Await(t, len(produced), patience)
		k.Forbid(t, "", topic)
		produced = append(produced, k.ProduceEvenly(t, topic, 2, count, 100)...)
		says(t, sc, sentence+"Broker: Group authorization failed")
		k.Allow(t, "", topic)
		svc.Await(t, len(produced), patience)
		sc.Ready(t, patience)
		sc.Shut(t, 10*time.Second)
		svc.Judge(produced).Kept(t, 0)
	})
}

// TestARenewedPassword: it changes in Kafka and on disk, as a secret does that is rotated, and then the connections end. The new one is read,
// and the same partitions go on.
func TestARenewedPassword(t *testing.T) {
	t.Parallel()
	const count, bound = 200, 30 * time.Second
	k := rig.OwnSecured(t)
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(k.Password)
	svc, topic := service(t), k.Topic(t, 4)
	produced := k.ProduceEvenly(t, topic, 4, count, 100)
	sc := sidecar(t, k.Kafka, topic, svc, "KPUSH_BROKERS="+k.Link.Brokers, "KPUSH_SECURITY_PROTOCOL=sasl_ssl", "KPUSH_SASL_MECHANISM=SCRAM-SHA-512",
		"KPUSH_SASL_USERNAME="+k.User, "KPUSH_SASL_PASSWORD_FILE="+file, "KPUSH_SSL_CA_FILE="+k.CA, "KPUSH_SSL_CERT_FILE="+k.Cert, "KPUSH_SSL_KEY_FILE="+k.Key)
	svc.Await(t, count, patience)
	k.Change(t, "another one")
	write("another one")
	k.Link.Heal(true)
	cut := time.Now()
	produced = append(produced, k.ProduceEvenly(t, topic, 4, count, 100)...)
	svc.Await(t, len(produced), patience)
	took := time.Since(cut)
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 0)
	committedIsEnd(t, k.Kafka, topic)
	said(t, sc, file+" has changed since")
	below(t, "Flow after a renewed password", cut, took, bound)
	t.Logf("A password renewed in Kafka and on disk, connections cut: flow after %v (bound %v).", took.Round(time.Millisecond), bound)
}
