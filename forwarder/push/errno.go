package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kpush/kpush/forwarder/wire"
)

// agreed looks for errno in the 2xx of a, and changes the verdict where that is not 0.
func agreed(v *Verdict, a *wire.Answer) {
	if why := unreadable(a); why != "" {
		v.fault(true, "%s, so errno cannot be read (KPUSH_ACK=errno)", why)
		return
	}
	switch errno, found := errnoOf(bytes.TrimPrefix(a.Body, []byte(bom))); {
	case !found && len(a.Body) >= wire.Limit:
		v.fault(true, "a body of 1 MiB or more, of which no more is read, and no errno of a JSON object in it so far (KPUSH_ACK=errno): it has to come first")
	case !found:
		v.fault(false, "a body that is no JSON object with errno (KPUSH_ACK=errno)")
	case !isZero(errno):
		v.fault(false, "errno %.40s", errno)
	default:
		v.RetryAfter = 0
	}
}

// fault makes a message fault of a 2xx, for what is in its body.
func (v *Verdict) fault(doubt bool, format string, args ...any) {
	v.Class, v.InDoubt, v.Reason = MessageFault, doubt, fmt.Sprintf("the service answered %d with ", v.Status)+fmt.Sprintf(format, args...)
}

// isZero tells whether a number is 0, however it is written: some have no integers.
func isZero(errno string) bool {
	n, err := strconv.ParseFloat(errno, 64)
	return err == nil && n == 0 && strings.Trim(errno, "-+.0123456789eE") == ""
}

// errnoOf is the member errno of a JSON object, of which the end may be missing where it is too large to be read. It has just that name, for
// whoever wrote the service compares it so, too; of several it is the last, as PHP has it.
func errnoOf(body []byte) (errno string, found bool) {
	if len(body) < wire.Limit-len(bom) && !json.Valid(body) {
		return "", false
	}
	member := leading(body, func(name string) bool { return name == "errno" })
	return strings.Trim(string(member), `"`), member != nil
}

// leading is the last member that is so named in what there is of a JSON object; nil: there is none, or it is no JSON.
func leading(body []byte, is func(name string) bool) (member json.RawMessage) {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	for d.More() {
		var next json.RawMessage
		t, err := d.Token()
		if err == nil {
			err = d.Decode(&next)
		}
		switch called, ok := t.(string); {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF): // no more of it was read
			return member
		case err != nil || !ok:
			return nil
		case is(called):
			member = next
		}
	}
	if _, err := d.Token(); err == nil && len(bytes.TrimSpace(body[d.InputOffset():])) > 0 {
		return nil
	}
	return member
}

// unreadable says why a body that has to be read is not to be understood: it is encoded although identity was asked for, or is no
// text in UTF-8, of which a zero byte is no part either. "" where it can be read.
func unreadable(a *wire.Answer) string {
	switch {
	case len(a.Body) == 0:
		return ""
	case encoded(a):
		return fmt.Sprintf("a body in Content-Encoding %.20q, although identity was asked for", a.Encoding)
	case !utf8.Valid(letters(a.Body)) || bytes.IndexByte(a.Body, 0) >= 0:
		return "a body that is no text in UTF-8"
	}
	return ""
}

// encoded tells whether a body is in another form than it was written in. Some name what is no coding.
func encoded(a *wire.Answer) bool {
	for coding := range strings.SplitSeq(a.Encoding, ",") {
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "", "identity", "none", "utf-8", "utf8", "binary", "8bit":
		default:
			return true
		}
	}
	return false
}

// letters is a body without the letter that it was cut off in.
func letters(body []byte) []byte {
	for back := 1; len(body) >= wire.Limit && back < utf8.UTFMax; back++ {
		if tail := body[len(body)-back:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return body[:len(body)-back]
			}
			break
		}
	}
	return body
}
