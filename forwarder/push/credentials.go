package push

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Credentials are what the service is shown, and what it has to show. The files may change at any time: a new connection has what they
// hold then.
type Credentials struct {
	CA        string // PEM file: the authorities that may sign the service's certificate; "": the system's
	Cert, Key string // PEM files: kpush's own certificate and its private key; "": none
	Token     string // shown in each request; "": none
	TokenFile string // where Token is from; "": it does not change
}

// read makes of the files what a connection needs.
func (c *Credentials) read() (*tls.Config, error) {
	config := &tls.Config{}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("KPUSH_SERVICE_CA_FILE: %w", err)
		}
		if config.RootCAs = x509.NewCertPool(); !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("KPUSH_SERVICE_CA_FILE holds no certificate in PEM")
		}
	}
	if c.Cert != "" {
		own, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("KPUSH_SERVICE_CERT_FILE and KPUSH_SERVICE_KEY_FILE: %w", err)
		}
		// whatever authorities the service names as its own: it may know ours by another one, and can say so itself if not
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	}
	return config, nil
}

// keys are the credentials of TLS.
type keys struct {
	from *Credentials
	mu   sync.Mutex
	last *tls.Config // what could be read last
	err  error       // why that is not what the files hold now; nil: it is
}

// config reads the files. While one of them is being written, or is wrong, what was read before stays.
func (k *keys) config() *tls.Config {
	config, err := k.from.read()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err = err; err == nil {
		k.last = config
	}
	return k.last
}

// wrong is what may be why there is no connection; nil: nothing is.
func (k *keys) wrong() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err
}

// bearer is the line of each request that shows the token. nil shows none.
type bearer struct {
	file   string
	looked atomic.Pointer[time.Time] // when the file was read
	shown  atomic.Pointer[[]byte]
	err    atomic.Pointer[error] // why that is not what the file holds now; nil: it is
}

// rereadTime is how often the token's file is read again while there are requests.
const rereadTime = time.Second

func newBearer(c *Credentials) *bearer {
	if c.Token == "" {
		return nil
	}
	b := &bearer{file: c.TokenFile}
	b.show([]byte(c.Token))
	return b
}

func (b *bearer) show(token []byte) {
	line := appendLine(nil, "Authorization: Bearer ", token)
	b.shown.Store(&line)
}

// line is what the head of a request has to hold, nil where that is nothing.
func (b *bearer) line() []byte {
	if b == nil {
		return nil
	}
	if last := b.looked.Load(); b.file != "" && (last == nil || time.Since(*last) > rereadTime) {
		if now := time.Now(); b.looked.CompareAndSwap(last, &now) {
			b.read()
		}
	}
	return *b.shown.Load()
}

// read takes over what the file holds. While that is no token, the one before stays.
func (b *bearer) read() {
	content, err := os.ReadFile(b.file)
	token := bytes.TrimRight(content, "\r\n")
	why := "holds no token of visible ASCII"
	switch {
	case err != nil:
		why = err.Error()
	case visible(token):
		b.show(token)
		b.err.Store(nil)
		return
	}
	err = errors.New("KPUSH_SERVICE_TOKEN_FILE: " + why)
	b.err.Store(&err)
}

// wrong is what may be why the service does not take the token; nil: nothing is.
func (b *bearer) wrong() error {
	if b == nil || b.err.Load() == nil {
		return nil
	}
	return *b.err.Load()
}
