package rig

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"sync"
)

// Guard stands before a service: it takes TLS with a certificate, and a token, and nothing less.
type Guard struct {
	CA, StrangerCA []byte // PEM: the authority of the service's own certificate, and another one
	service        *Service
	own            tls.Certificate

	mu      sync.Mutex
	wants   Pass
	refused map[int]int // by status
}

// Pass is what a client has to show.
type Pass struct {
	Cert, Key []byte // PEM
	Token     string
	authority *x509.CertPool // of Cert
}

// StartGuarded starts a service on 127.0.0.1 that is behind a guard.
func StartGuarded(t T) (*Service, *Guard) {
	t.Helper()
	authority, key := signed(t, nil, nil, "authority")
	stranger, _ := signed(t, nil, nil, "stranger")
	own, ownKey := signed(t, authority, key, "service")
	g := &Guard{CA: inPEM("CERTIFICATE", authority.Raw), StrangerCA: inPEM("CERTIFICATE", stranger.Raw), refused: map[int]int{},
		own: tls.Certificate{Certificate: [][]byte{own.Raw}, PrivateKey: ownKey}}
	g.service = startService(t, g)
	return g.service, g
}

// Issue makes a pass of an authority of its own.
func (g *Guard) Issue(t T, token string) Pass {
	t.Helper()
	authority, by := signed(t, nil, nil, "authority of "+token)
	c, key := signed(t, authority, by, token)
	p := Pass{Cert: inPEM("CERTIFICATE", c.Raw), Key: inPEM("PRIVATE KEY", pkcs8(t, key)), Token: token, authority: x509.NewCertPool()}
	p.authority.AddCert(authority)
	return p
}

// Demand lets in whoever has the pass, and nobody else from now on: also on connections that are there.
func (g *Guard) Demand(p Pass) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wants = p
}

// Refused is how many requests were answered with the status, and not shown to the service.
func (g *Guard) Refused(status int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refused[status]
}

func (g *Guard) config(*tls.ClientHelloInfo) (*tls.Config, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return &tls.Config{Certificates: []tls.Certificate{g.own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: g.wants.authority}, nil
}

// ServeHTTP refuses, or lets in.
func (g *Guard) ServeHTTP(w http.ResponseWriter, h *http.Request) {
	g.mu.Lock()
	wants := g.wants
	g.mu.Unlock()
	_, err := h.TLS.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: wants.authority, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	switch {
	case err != nil: // the connection was made before the demand
		w.Header().Set("Connection", "close")
		g.refuse(w, http.StatusForbidden)
	case h.Header.Get("Authorization") != "Bearer "+wants.Token:
		g.refuse(w, http.StatusUnauthorized)
	default:
		g.service.ServeHTTP(w, h)
	}
}

func (g *Guard) refuse(w http.ResponseWriter, status int) {
	g.mu.Lock()
	g.refused[status]++
	g.mu.Unlock()
	w.WriteHeader(status)
}
