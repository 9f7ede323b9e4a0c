package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// bodyMost bounds a call's body.
const bodyMost = 64 << 10

// door decides who may call at all. A name that an attacker's DNS points at loopback, another site's page in an operator's browser,
// and whoever has no token are refused before anything is read.
type door struct {
	host  string // of KPUSH_API_ADDR; "": a wildcard, which has a token, and no name that could be held against a Host
	token [sha256.Size]byte
	asked bool
	cross *http.CrossOriginProtection
}

func newDoor(addr, token string) *door {
	host, _, _ := net.SplitHostPort(addr) // an address that is none is not listened on
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = ""
	}
	return &door{host: strings.ToLower(host), token: sha256.Sum256([]byte(token)), asked: token != "", cross: http.NewCrossOriginProtection()}
}

func (d *door) check(w http.ResponseWriter, r *http.Request) error {
	if !d.knows(r.Host) {
		return refuse(http.StatusForbidden, "the Host %s is not kpush's: write 127.0.0.1, localhost, or the host of KPUSH_API_ADDR", shown(r.Host))
	}
	if d.asked && !d.admits(r) {
		w.Header().Add("WWW-Authenticate", `Bearer realm="kpush"`)
		w.Header().Add("WWW-Authenticate", `Basic realm="kpush: KPUSH_API_TOKEN is the password"`) // for browsers
		return refuse(http.StatusUnauthorized, "KPUSH_API_TOKEN is asked for: send Authorization: Bearer TOKEN")
	}
	// A page's own requests, its forms and a link to it pass; what another site's page sends does not, not even to read.
	if r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" {
		return nil
	}
	as := r
	if r.Method != http.MethodPost {
		as = r.WithContext(r.Context())
		as.Method = http.MethodPost
	}
	if err := d.cross.Check(as); err != nil {
		return refuse(http.StatusForbidden, "it comes from another site's page (%s)", oneLine(err))
	}
	return nil
}

// knows tells whether a Host is one that kpush can have.
func (d *door) knows(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), "."))
	return host != "" && (loopbackHost(host) || d.host == host || d.host == "" && d.asked)
}

// admits tells whether the request shows the token. What is compared has the same length always, and takes the same time.
func (d *door) admits(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if _, password, basic := r.BasicAuth(); basic {
		token = password
	} else if !strings.EqualFold(scheme, "Bearer") {
		token = ""
	}
	shown := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return subtle.ConstantTimeCompare(shown[:], d.token[:]) == 1
}

// readBody is the body of a call as JSON; form: it came from a form of the page, which wants to see the page again.
// An object is JSON whatever Content-Type says: curl -d calls all that it sends a form. It is safe not to insist on a Content-Type for
// which a browser would ask first: check has refused what another site's page sends, since a browser says with each POST where it
// comes from (Sec-Fetch-Site, or Origin), and what comes under another name than kpush's. Who says neither is no browser.
func readBody(w http.ResponseWriter, r *http.Request) (body []byte, form bool, err error) {
	if r.ContentLength > bodyMost {
		return nil, false, refuse(http.StatusRequestEntityTooLarge, "the body has %d bytes, and may have %d", r.ContentLength, bodyMost)
	}
	body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMost))
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return nil, false, refuse(http.StatusRequestEntityTooLarge, "the body may have %d bytes", bodyMost)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, false, refuse(http.StatusRequestTimeout, "the body has not come within %v", requestTime)
	case err != nil:
		return nil, false, refuse(http.StatusBadRequest, "the body broke off")
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "application/x-www-form-urlencoded" || strings.HasPrefix(strings.TrimLeft(string(body), " \t\r\n"), "{") {
		return body, false, nil
	}
	if !ofThePage(r) {
		return nil, false, refuse(http.StatusBadRequest, "the body has to be a JSON object, such as {}; a form is taken from the status page only")
	}
	body, err = formBody(r.URL.Path, body)
	return body, true, err
}

// ofThePage tells whether a browser says that the request comes from a page of this very origin. Where it may not say so (plain HTTP
// off loopback), its Origin does.
func ofThePage(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	origin, err := url.Parse(r.Header.Get("Origin"))
	return err == nil && r.Host != "" && origin.Host == r.Host
}

// who names the caller for the audit: its address, and what it says that it is.
func who(r *http.Request, form bool) string {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	name := r.UserAgent()
	if form {
		name = "status page"
	}
	name = strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f {
			return -1
		}
		return c
	}, name[:min(len(name), 80)])
	return strings.TrimSpace(fmt.Sprintf("%s %s", host, name))
}

// shown is a stranger's text within a sentence: on one line, and not endless.
func shown(text string) string {
	return strconv.Quote(strings.ToValidUTF8(text[:min(len(text), 80)], ""))
}
