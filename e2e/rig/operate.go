package rig

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

var caller = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// Try asks the sidecar's API, and returns the code and the JSON of its answer.
func (sc *Sidecar) Try(t T, method, path, body string) (code int, answer map[string]any) {
	t.Helper()
	Within(t, 10*time.Second, "an address of the API", func() bool { return sc.API() != "" })
	request, err := http.NewRequest(method, "http://"+sc.API()+path, strings.NewReader(body))
	if err != nil {
		t.Fatalf("%v", err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := caller.Do(request)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", method, path, err, sc.Tail(10))
	}
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, 16<<20)).Decode(&answer); err != nil {
		t.Fatalf("%s %s: the answer is not JSON: %v", method, path, err)
	}
	return response.StatusCode, answer
}

// Call is Try that wants a code.
func (sc *Sidecar) Call(t T, code int, method, path, body string) map[string]any {
	t.Helper()
	got, answer := sc.Try(t, method, path, body)
	if got != code {
		t.Fatalf("%s %s %s is answered %d %v, want %d.\n%s", method, path, body, got, answer, code, sc.Tail(10))
	}
	return answer
}
