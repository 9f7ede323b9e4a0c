package rig

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Secured is a cluster of one node whose Link is for those only who have a certificate of its authority and a password.
type Secured struct {
	*Kafka
	Link           *Link
	CA, Cert, Key  string // PEM files: the authority, and a client's certificate
	StrangerCA     string // likewise: another authority
	User, Password string // for PLAIN and SCRAM-SHA-512
	Guest          string // who may do what Allow says, and no more; with PLAIN and the same password
}

// OwnSecured starts it.
func OwnSecured(t T) *Secured {
	t.Helper()
	s := &Secured{User: "kpush", Guest: "guest", Password: "p=ss;w\"rd"}
	authority, key := signed(t, nil, nil, "authority")
	broker, brokerKey := signed(t, authority, key, "broker")
	client, clientKey := signed(t, authority, key, "client")
	stranger, _ := signed(t, nil, nil, "stranger")
	dir := t.TempDir()
	s.CA, s.StrangerCA = pemFile(t, dir, "ca.pem", "CERTIFICATE", authority.Raw), pemFile(t, dir, "stranger.pem", "CERTIFICATE", stranger.Raw)
	s.Cert, s.Key = pemFile(t, dir, "client.pem", "CERTIFICATE", client.Raw), pemFile(t, dir, "client-key.pem", "PRIVATE KEY", pkcs8(t, clientKey))
	const link = "listener.name.link."
	login := "org.apache.kafka.common.security.%s required %s;"
	password := `="` + strings.ReplaceAll(s.Password, `"`, `\\"`) + `"`
	s.Kafka = Own(t, 1, "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LINK:SASL_SSL",
		link+"ssl.client.auth=required", link+"ssl.keystore.type=PEM", link+"ssl.truststore.type=PEM",
		link+"ssl.keystore.key="+line("PRIVATE KEY", pkcs8(t, brokerKey)), link+"ssl.keystore.certificate.chain="+line("CERTIFICATE", broker.Raw),
		link+"ssl.truststore.certificates="+line("CERTIFICATE", authority.Raw), link+"sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
		link+"plain.sasl.jaas.config="+fmt.Sprintf(login, "plain.PlainLoginModule", `user_`+s.User+password+` user_`+s.Guest+password),
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users=User:ANONYMOUS;User:"+s.User,
		link+"scram-sha-512.sasl.jaas.config="+fmt.Sprintf(login, "scram.ScramLoginModule", ""))
	ctx, cancel := limited()
	defer cancel()
	if err := s.admit(ctx); err != nil {
		t.Fatalf("The user %s cannot be made: %v", s.User, err)
	}
	s.Link = s.SealedLink(t)
	return s
}

// Change gives the user another password.
func (s *Secured) Change(t T, password string) {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	s.Password = password
	if err := s.admit(ctx); err != nil {
		t.Fatalf("The password cannot be changed: %v", err)
	}
}

// Allow lets the guest read a topic, or a group.
func (s *Secured) Allow(t T, topic, group string) { t.Helper(); s.acl(t, topic, group, true) }

// Forbid takes that back.
func (s *Secured) Forbid(t T, topic, group string) { t.Helper(); s.acl(t, topic, group, false) }

func (s *Secured) acl(t T, topic, group string, allow bool) {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	b := kadm.NewACLs().Allow("User:" + s.Guest).AllowHosts("*").ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpRead)
	if topic != "" {
		b.Topics(topic)
	}
	if group != "" {
		b.Groups(group)
	}
	var err error
	if allow {
		_, err = s.client.admin.CreateACLs(ctx, b)
	} else {
		_, err = s.client.admin.DeleteACLs(ctx, b)
	}
	if err != nil {
		t.Fatalf("The guest's rights cannot be changed: %v", err)
	}
}

func (s *Secured) admit(ctx context.Context) error {
	done, err := s.client.admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: s.User, Mechanism: kadm.ScramSha512, Iterations: 4096, Password: s.Password}})
	if err != nil {
		return err
	}
	return done[s.User].Err
}

// signed makes a key for loopback with a certificate; without an authority it is one.
func signed(t T, authority *x509.Certificate, by *ecdsa.PrivateKey, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("%v", err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if authority == nil {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
		authority, by = c, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, c, authority, &key.PublicKey, by)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if c, err = x509.ParseCertificate(raw); err != nil {
		t.Fatalf("%v", err)
	}
	return c, key
}

func pkcs8(t T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return raw
}

func inPEM(kind string, raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw})
}

func pemFile(t T, dir, name, kind string, raw []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, inPEM(kind, raw), 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	return path
}

// line is PEM in one line, as a property takes it.
func line(kind string, raw []byte) string {
	return strings.ReplaceAll(strings.TrimSpace(string(inPEM(kind, raw))), "\n", " ")
}
