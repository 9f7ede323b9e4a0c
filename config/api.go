package config

import (
	"errors"
	"net"
	"net/netip"
	"strings"
)

// checkAPI holds the API's address against the token: only loopback goes without one.
func (l *loader) checkAPI() {
	c := &l.config
	switch {
	case !isListening(c.APIAddr):
		l.wrong("KPUSH_API_ADDR", "is not an address to listen on; write 127.0.0.1:9401")
	case !isLoopback(c.APIAddr) && !l.given("KPUSH_API_TOKEN"):
		l.wrong("KPUSH_API_ADDR", "is not on loopback, where anybody could skip messages; set KPUSH_API_TOKEN or KPUSH_API_TOKEN_FILE, or write 127.0.0.1:9401")
	}
	l.checkToken("KPUSH_API_TOKEN", c.APIToken)
}

func (l *loader) checkToken(name, token string) {
	if !isVisible(token) {
		l.wrong(name, "travels in a header: it takes visible ASCII, and no spaces")
	}
}

// isListening tells whether s is host:port or :port, 0 for any.
func isListening(s string) bool {
	port, all := strings.CutPrefix(s, ":")
	return isHostPort(s, 0) || all && isPort(port, 0)
}

// sharePort tells whether two addresses cannot both be listened on.
func sharePort(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	covers := func(host, other string) bool {
		return host == "" || host == "::" || host == "0.0.0.0" && !strings.Contains(other, ":")
	}
	return portA == portB && portA != "0" && portA != "" && (hostA == hostB || covers(hostA, hostB) || covers(hostB, hostA))
}

// isLoopback tells whether host:port is on this machine by its very name.
func isLoopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr) // isListening has looked
	if a, err := netip.ParseAddr(host); err == nil {
		return a.IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

// Caller is what a command has to know that speaks to a running kpush.
type Caller struct {
	Addr, Token string
	Topics      []string
}

// LoadCaller reads that from the environment of the sidecar, and looks at nothing else of it.
func LoadCaller(environ []string) (*Caller, error) {
	l := &loader{vars: map[string]string{}, problems: map[string][]error{}}
	l.read(environ)
	l.config.APIAddr, l.config.APIToken = "127.0.0.1:9401", l.vars["KPUSH_API_TOKEN"]
	if addr := l.vars["KPUSH_API_ADDR"]; addr != "" {
		l.config.APIAddr = addr
	}
	l.checkAPI()
	if err := errors.Join(append(l.problems["KPUSH_API_ADDR"], l.problems["KPUSH_API_TOKEN"]...)...); err != nil {
		return nil, err
	}
	c := &Caller{Addr: l.config.APIAddr, Token: l.config.APIToken}
	for topic := range strings.SplitSeq(l.vars["KPUSH_TOPIC"], ",") {
		if topic = strings.TrimSpace(topic); topic != "" {
			c.Topics = append(c.Topics, topic)
		}
	}
	return c, nil
}
