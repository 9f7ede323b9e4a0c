package wire

import (
	"bufio"
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"github.com/kpush/kpush/forwarder/wire/wiretest"
)

// Who asks before anything is sent hears which TLS it is, and how long the certificate lasts.
func TestReachOverTLS(t *testing.T) {
	target, roots := wiretest.BareTLS(t, func(_ int, _ net.Conn, r *bufio.Reader) { _, _ = r.ReadByte() })
	w := wireTo(t, target)
	trusts(w, &tls.Config{RootCAs: roots})
	if said, err := w.Reach(t.Context()); err != nil || !strings.HasPrefix(said, "it connects with TLS 1.3, its certificate is valid until 2") {
		t.Errorf("%q, %v", said, err)
	}
	trusts(w, &tls.Config{})
	if said, err := w.Reach(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("of a stranger: %q, %v", said, err)
	}
}
