package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Client calls a running kpush, for containers without a shell.
type Client struct{ Addr, Token, Name string }

// answerMost bounds an answer: a skip log of a million messages is read elsewhere.
const answerMost = 256 << 20

// Get asks for what there is to read.
func (c Client) Get(path string) ([]byte, error) { return c.call(http.MethodGet, path, nil) }

// Post does what a call says. Its error is kpush's own sentence, where kpush answers.
func (c Client) Post(path string, call any) ([]byte, error) {
	body, err := json.Marshal(call)
	if err != nil {
		return nil, err
	}
	return c.call(http.MethodPost, path, body)
}

func (c Client) call(method, path string, body []byte) ([]byte, error) {
	at, err := reach(c.Addr)
	if err != nil {
		return nil, fmt.Errorf("KPUSH_API_ADDR=%s: %w", c.Addr, err)
	}
	r, err := http.NewRequest(method, "http://"+at+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", c.Name)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.Token)
	}
	h := http.Client{Timeout: cmp.Or(calls[path].most, commandTime) + 10*time.Second, Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := h.Do(r)
	if err != nil {
		return nil, fmt.Errorf("no kpush answers at KPUSH_API_ADDR=%s: %w", c.Addr, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, answerMost))
	if err != nil {
		return nil, fmt.Errorf("kpush's answer broke off: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return answer, nil
	}
	var said struct{ Error string }
	if json.Unmarshal(answer, &said) != nil || said.Error == "" {
		return nil, fmt.Errorf("what answers at KPUSH_API_ADDR=%s is no kpush: %s", c.Addr, resp.Status)
	}
	return nil, errors.New(said.Error)
}
