package rig

import (
	"context"
	_ "embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// oidcVersion is of oidc-provider, the last that runs on Node.js 18 and 20, too.
const oidcVersion = "8.8.1"

//go:embed oidc.mjs
var oidcProgram string

// Tokened is a cluster of one node whose Link is for those only who show a token of its provider. A connection is good for as long as its token.
type Tokened struct {
	*Kafka
	Link       *Link
	CA         string // PEM file: the authority of broker and provider
	ID, Secret string // a client of the provider's
	Endpoint   string // where that gets tokens

	t       T
	argv    []string
	modules string
	log     *os.File
	process *process
}

// TokenLife is for how long a token is good.
const TokenLife = 4 * time.Second

// OwnTokened starts both.
func OwnTokened(t T) *Tokened {
	t.Helper()
	modules, err := fetchOIDC()
	if err != nil {
		without(t, "an OpenID provider (Node.js and npm, for oidc-provider)", err)
	}
	ports, err := freePorts(2)
	if err != nil {
		t.Fatalf("%v", err)
	}
	dir := t.TempDir()
	authority, by := signed(t, nil, nil, "authority")
	server, key := signed(t, authority, by, "server")
	k := &Tokened{t: t, ID: "kpush", Secret: "s3cret", CA: pemFile(t, dir, "ca.pem", "CERTIFICATE", authority.Raw), modules: modules,
		Endpoint: fmt.Sprintf("https://127.0.0.1:%d/token", ports[0])}
	program := filepath.Join(dir, "oidc.mjs")
	if err := os.WriteFile(program, []byte(oidcProgram), 0o644); err != nil {
		t.Fatalf("%v", err)
	}
	if k.log, err = os.Create(filepath.Join(dir, "oidc.log")); err != nil {
		t.Fatalf("%v", err)
	}
	k.argv = []string{"node", program, k.ID, "", pemFile(t, dir, "server.pem", "CERTIFICATE", server.Raw), pemFile(t, dir, "server-key.pem", "PRIVATE KEY", pkcs8(t, key)),
		strconv.Itoa(ports[0]), strconv.Itoa(ports[1]), strconv.Itoa(int(TokenLife.Seconds()))}
	k.Provide(true)
	t.Cleanup(func() { k.Provide(false) })

	const link = "listener.name.link."
	keys := fmt.Sprintf("http://127.0.0.1:%d/jwks", ports[1])
	const oauth = "org.apache.kafka.common.security.oauthbearer."
	k.Kafka = Own(t, 1, "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LINK:SASL_SSL", link+"sasl.enabled.mechanisms=OAUTHBEARER",
		link+"ssl.keystore.type=PEM", link+"ssl.keystore.key="+line("PRIVATE KEY", pkcs8(t, key)), link+"ssl.keystore.certificate.chain="+line("CERTIFICATE", server.Raw),
		link+"oauthbearer.sasl.jaas.config="+oauth+"OAuthBearerLoginModule required;", link+"oauthbearer.sasl.server.callback.handler.class="+oauth+"OAuthBearerValidatorCallbackHandler",
		link+"oauthbearer.connections.max.reauth.ms="+strconv.Itoa(int(TokenLife.Milliseconds())),
		"sasl.oauthbearer.jwks.endpoint.url="+keys, "sasl.oauthbearer.expected.audience=kafka", "sasl.oauthbearer.expected.issuer=https://oidc.test",
		"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls="+keys)
	k.Link = k.SealedLink(t)
	return k
}

// Provide starts the provider, with the secret of now, or ends it.
func (k *Tokened) Provide(yes bool) {
	k.t.Helper()
	if !yes {
		k.process.kill()
		return
	}
	k.argv[3] = k.Secret
	var err error
	if k.process, err = spawn(k.argv, append(os.Environ(), "MODULES="+k.modules), filepath.Dir(k.argv[1]), k.log, syscall.SIGKILL); err != nil {
		k.t.Fatalf("%v", err)
	}
	at := strings.TrimSuffix(strings.TrimPrefix(k.Endpoint, "https://"), "/token")
	Within(k.t, 20*time.Second, "the provider at "+at, func() bool {
		c, err := net.Dial("tcp", at)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// fetchOIDC takes oidc-provider from npm, once, and keeps it.
func fetchOIDC() (modules string, err error) {
	if _, err := exec.LookPath("node"); err != nil {
		return "", err
	}
	dir, err := cache()
	if err != nil {
		return "", err
	}
	modules = filepath.Join(dir, "oidc-provider-"+oidcVersion)
	if _, err := os.Stat(modules); err == nil {
		return modules, nil
	}
	work, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", work, "oidc-provider@"+oidcVersion)
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("oidc-provider could not be fetched: %w\n%s", err, out)
	}
	if err := os.Rename(work, modules); err != nil { // another test process may have been first
		if _, there := os.Stat(modules); there != nil {
			return "", err
		}
	}
	return modules, nil
}
