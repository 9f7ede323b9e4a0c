package push

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/kpush/kpush/forwarder/wire/wiretest"
	"github.com/kpush/kpush/kafka"
)

// guarded is a service at an address, with a certificate of an authority, that wants one of the same.
func guarded(t *testing.T, address string, a *wiretest.Authority, version uint16) (s *httptest.Server, requests *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	requests = new(atomic.Int64)
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	s.Listener.Close()
	_, _, own := a.Issue(t, "service")
	s.Listener, s.TLS = l, &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool, MaxVersion: version}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, requests
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Authority, certificate and key are what the files hold when a connection is made: renewed, they need no restart. While one of them
// is half written those before stay. A certificate that the service does not take puts nothing in doubt.
func TestCredentialsAreReadAgain(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		dir := t.TempDir()
		from := Credentials{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
		first, second := wiretest.NewAuthority(t, "first"), wiretest.NewAuthority(t, "second")
		issue := func(a *wiretest.Authority) {
			cert, key, _ := a.Issue(t, "kpush")
			put(t, from.CA, a.PEM)
			put(t, from.Cert, cert)
			put(t, from.Key, key)
		}
		issue(first)
		far, _ := guarded(t, "127.0.0.1:0", first, version)
		cfg := hasty(far.URL)
		cfg.Credentials = from
		s, it := service(t, cfg), item(kafka.Message{Value: []byte("v")})
		want := func(when string, class Class, reason string) {
			t.Helper()
			v := try(s, it)
			if v.Class != class || v.InDoubt || !strings.Contains(v.Reason, reason) || class == ServiceFault && !strings.HasPrefix(v.Reason, "no connection to the service: ") {
				t.Errorf("%s: %s, in doubt %t: %s", when, v.Class, v.InDoubt, v.Reason)
			}
		}
		want("as it began", Delivered, "")
		if got := s.Reach(t.Context()); got[0].Err != nil {
			t.Errorf("reached: %v", got[0].Err)
		}
		far.Close()
		far, requests := guarded(t, far.Listener.Addr().String(), second, version)
		for range 20 { // however early the service says so
			_ = try(s, it) // the connection that was kept has ended
			want("another authority", ServiceFault, "unknown authority; KPUSH_SERVICE_CA_FILE names the authorities")
			put(t, from.CA, second.PEM)
			want("a stranger's certificate", ServiceFault, "remote error: tls: unknown certificate authority")
			put(t, from.CA, first.PEM)
		}
		cert, key, _ := second.Issue(t, "kpush")
		put(t, from.CA, second.PEM)
		put(t, from.Cert, cert)
		want("half of a pair", ServiceFault, "KPUSH_SERVICE_CERT_FILE and KPUSH_SERVICE_KEY_FILE: tls: private key does not match public key")
		put(t, from.CA, nil)
		want("nothing yet", ServiceFault, "KPUSH_SERVICE_CA_FILE holds no certificate")
		if n := requests.Load(); n > 0 {
			t.Errorf("the service has taken %d requests", n)
		}
		put(t, from.CA, second.PEM)
		put(t, from.Key, key)
		want("renewed", Delivered, "")
		_ = os.Remove(from.Cert)
		_ = os.Remove(from.CA)
		far.CloseClientConnections()
		_ = try(s, it)
		want("gone, and what was read before stays", Delivered, "")
	}
}

// A service that is given no certificate says so, and nothing is in doubt.
func TestNoCertificateIsNoDoubt(t *testing.T) {
	a, dir := wiretest.NewAuthority(t, "authority"), t.TempDir()
	put(t, filepath.Join(dir, "ca.pem"), a.PEM)
	far, _ := guarded(t, "127.0.0.1:0", a, tls.VersionTLS13)
	cfg := hasty(far.URL)
	cfg.Credentials.CA = filepath.Join(dir, "ca.pem")
	s := service(t, cfg)
	for range 20 {
		if v := try(s, item(kafka.Message{})); v.Class != ServiceFault || v.InDoubt || v.Reason != "no connection to the service: remote error: tls: certificate required" {
			t.Fatalf("%s, in doubt %t: %s", v.Class, v.InDoubt, v.Reason)
		}
	}
}

// What cannot be used at the start is refused by its variable's name.
func TestCredentialsAreRefused(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "x"), []byte("x"))
	for want, c := range map[string]Credentials{
		"KPUSH_SERVICE_CA_FILE: open ":                              {CA: filepath.Join(dir, "none")},
		"KPUSH_SERVICE_CA_FILE holds no certificate in PEM":         {CA: filepath.Join(dir, "x")},
		"KPUSH_SERVICE_CERT_FILE and KPUSH_SERVICE_KEY_FILE: tls: ": {Cert: filepath.Join(dir, "x"), Key: filepath.Join(dir, "x")},
	} {
		cfg := hasty("https://app/")
		cfg.Credentials = c
		if _, err := New(cfg); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// The token is shown to the service in each request and question, as its file holds it, and to nobody else.
func TestToken(t *testing.T) {
	shown := make(chan string, 1)
	take := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown <- strings.Join(r.Header["Authorization"], "|")
		if r.Header.Get("Authorization") == "Bearer old" {
			w.WriteHeader(401)
		}
	})
	far, elsewhere := httptest.NewServer(take), httptest.NewServer(take)
	defer far.Close()
	defer elsewhere.Close()
	file := filepath.Join(t.TempDir(), "token")
	put(t, file, []byte("first\n"))
	cfg := hasty(far.URL + "/orders")
	cfg.ConfirmURLs, cfg.ReadyURLs = []string{far.URL + "/has"}, []string{elsewhere.URL + "/up"}
	cfg.Credentials = Credentials{Token: "first", TokenFile: file}
	s := service(t, cfg)
	want := func(when, token string) Verdict {
		t.Helper()
		v := try(s, item(kafka.Message{Value: []byte("v")}))
		if got := <-shown; got != token {
			t.Errorf("%s: %q is shown, want %q", when, got, token)
		}
		return v
	}
	want("as it began", "Bearer first")
	if r := s.Has(t.Context(), 0, "id"); !r.Has || <-shown != "Bearer first" {
		t.Errorf("to a question on the service: %+v", r)
	}
	if err := s.Ready(t.Context()); err != nil || <-shown != "" {
		t.Errorf("to a question elsewhere: %v", err)
	}
	for content, row := range map[string]struct{ token, excuse string }{
		"second.-_~+/=\r\n": {"Bearer second.-_~+/=", ""}, "": {"Bearer old", "visible ASCII"}, "two words": {"Bearer old", "visible ASCII"},
		"a\r\nX-Evil: 1": {"Bearer old", "visible ASCII"}, "\xff": {"Bearer old", "visible ASCII"}, "-": {"Bearer old", "no such file"},
	} {
		put(t, file, []byte("old"))
		s.bearer.looked.Store(nil) // a second later
		if v := want("old", "Bearer old"); v.Status != 401 || v.Reason != "the service answered 401" {
			t.Errorf("%d: %s", v.Status, v.Reason)
		}
		put(t, file, []byte(content))
		want("within the second", "Bearer old")
		then := time.Now().Add(-2 * rereadTime)
		*(*uint64)(unsafe.Pointer(&then)) += uint64(time.Hour/time.Second) << 30 // the wall clock, in seconds: it was set back by an hour since
		if s.bearer.looked.Store(&then); content == "-" {
			_ = os.Remove(file)
		}
		if v := want(content, row.token); strings.Contains(v.Reason, "; KPUSH_SERVICE_TOKEN_FILE: ") != (row.excuse != "") || !strings.Contains(v.Reason, row.excuse) {
			t.Errorf("%q: %s", content, v.Reason)
		}
	}
	batch := hasty(far.URL)
	batch.Batch, batch.Credentials.Token = true, "fixed"
	s = service(t, batch)
	want("in a batch", "Bearer fixed")
}
