package wire

import (
	"context"
	"crypto/tls"
	"time"
)

// Reach makes a connection as an exchange does, sends nothing, and says what it was. It is for people who ask before anything is sent.
func (w *Wire) Reach(ctx context.Context) (said string, err error) {
	c, err := w.dial(ctx, time.Time{})
	if err != nil {
		return "", err
	}
	defer c.cut()
	secure, ok := c.Conn.(*tls.Conn)
	if !ok {
		return "it connects", nil
	}
	state := secure.ConnectionState()
	return "it connects with " + tls.VersionName(state.Version) + ", its certificate is valid until " + state.PeerCertificates[0].NotAfter.UTC().Format(time.DateOnly), nil
}
