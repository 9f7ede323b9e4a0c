package push

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kpush/kpush/forwarder/wire"
)

// saidMost is how many bytes of an answer's body are kept for people.
const saidMost = 200

// said is the beginning of an answer's body, for whoever has to find out why the service refuses a message. Where KPUSH_ACK=errno asks for
// an errmsg that the beginning does not show, it is the errmsg: it may be escaped, or stand behind much else.
func said(a *wire.Answer, ack string) string {
	if encoded(a) {
		return printable(fmt.Appendf(nil, "%d bytes in Content-Encoding %q", len(a.Body), a.Encoding))
	}
	text := printable(a.Body)
	if ack == "errno" {
		var body struct {
			Errmsg string `json:"errmsg"`
		}
		_ = json.Unmarshal(bytes.TrimPrefix(a.Body, []byte(bom)), &body) // what is no errno answer has no errmsg
		if message := printable([]byte(body.Errmsg)); !strings.Contains(text, message) {
			return message
		}
	}
	return text
}

// printable is the first saidMost bytes of text, and never more, on one line: what could move a terminal's cursor, and what is no
// UTF-8, becomes a question mark.
func printable(text []byte) string {
	cut := text[:min(len(text), saidMost)]
	if len(cut) < len(text) {
		for back := 1; back < utf8.UTFMax && back <= len(cut); back++ { // not half of a letter
			if tail := cut[len(cut)-back:]; utf8.RuneStart(tail[0]) {
				if !utf8.FullRune(tail) {
					cut = cut[:len(cut)-back]
				}
				break
			}
		}
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.ToValidUTF8(string(cut), "?")))
}
