package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/kpush/kpush/forwarder/wire"
)

// obeyed looks for the status that Dapr's subscribers answer with in the 2xx of a, and changes the verdict where that is not SUCCESS. As in
// Dapr, nothing, an empty status and what is no JSON object with one count as SUCCESS, and an unknown status as RETRY.
func obeyed(v *Verdict, a *wire.Answer) {
	if why := unreadable(a); why != "" {
		v.fault(true, "%s, so its status cannot be read (KPUSH_ACK=dapr)", why)
		return
	}
	switch status, known := statusOf(bytes.TrimPrefix(a.Body, []byte(bom))); {
	case !known:
		v.fault(true, "a body of 1 MiB or more, of which no more is read, and no status of a JSON object in it so far (KPUSH_ACK=dapr): it has to come first")
	case status == "DROP":
		v.Class, v.Reason = Drop, "the service answered status DROP"
	case status == "RETRY":
		v.fault(false, "status RETRY")
	case status != "" && status != "SUCCESS":
		v.fault(false, "status %.20q, which KPUSH_ACK=dapr does not know", status)
	default:
		v.RetryAfter = 0
	}
}

// statusOf is the member status of the JSON object that a body begins with, "" where there is none. known: what was read of it is enough.
func statusOf(body []byte) (status string, known bool) {
	var answer struct {
		Status string `json:"status"`
	}
	err := json.NewDecoder(bytes.NewReader(body)).Decode(&answer)
	if errors.Is(err, io.ErrUnexpectedEOF) && len(body) >= wire.Limit-len(bom) {
		named := func(name string) bool { return strings.EqualFold(name, "status") } // as encoding/json, and so Dapr, takes it
		return answer.Status, json.Unmarshal(leading(body, named), &answer.Status) == nil
	}
	return answer.Status, true
}
