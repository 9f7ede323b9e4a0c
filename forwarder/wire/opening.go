package wire

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
)

// Opening is how each request to u begins: the request line, Host (of the URL where host is ""), User-Agent, Authorization, and that the
// answer is to be read as it comes. net/http writes it, once.
func Opening(method string, u *url.URL, host string) ([]byte, error) {
	req := &http.Request{Method: method, URL: u, Host: host, Header: http.Header{"User-Agent": {"kpush"}, "Accept-Encoding": {"identity"}}}
	if u.User != nil {
		password, _ := u.User.Password()
		req.SetBasicAuth(u.User.Username(), password)
	}
	var b bytes.Buffer
	if err := req.Write(&b); err != nil {
		return nil, fmt.Errorf("cannot make a request to %s: %w", u.Redacted(), err)
	}
	head := bytes.Replace(b.Bytes(), []byte("Content-Length: 0\r\n"), nil, 1)
	return bytes.TrimSuffix(head, []byte("\r\n")), nil
}
