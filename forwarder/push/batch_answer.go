package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kpush/kpush/forwarder/wire"
)

// batchFailed is the member of a 2xx that lists what failed of a batch.
const batchFailed = "batchItemFailures"

var errBatchAnswer = errors.New(`the response names batchItemFailures, but is not {"batchItemFailures": [{"itemIdentifier": "TOPIC/PARTITION/OFFSET"}, …]}`)

// batchFailures reads what a 2xx says of single messages: the offsets that failed. An identifier that is none of the sent
// ones, or what cannot be read, is an error: nobody knows what the service meant. Only a body with the name in it is parsed.
func batchFailures(body []byte, sent []*Item) ([]int64, error) {
	if len(body) >= wire.Limit {
		return nil, fmt.Errorf("the response is larger than %d bytes, and no more of it is read: it may name batchItemFailures", wire.Limit-1)
	}
	if !mentions(body, batchFailed) {
		return nil, nil
	}
	failures, err := listed(body)
	if len(failures) == 0 {
		return nil, err
	}
	known := make(map[string]int64, len(sent))
	for _, it := range sent {
		known[fmt.Sprintf("%s/%d", it.Partition, it.Offset)] = it.Offset
		known[it.ID()] = it.Offset
	}
	failed := make([]int64, 0, len(failures))
	for _, f := range failures {
		offset, ok := known[f.ID]
		if !ok {
			return nil, errors.New("batchItemFailures names a message that was not in the batch")
		}
		failed = append(failed, offset)
	}
	slices.Sort(failed)
	return slices.Compact(failed), nil
}

// itemFailure is one message that failed of a batch.
type itemFailure struct {
	ID string `json:"itemIdentifier"`
}

// listed is what the members batchItemFailures of a body hold together, however their names are capitalized.
func listed(body []byte) (all []itemFailure, err error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(bytes.TrimPrefix(body, []byte(bom)), &members) != nil {
		return nil, errBatchAnswer
	}
	err = errBatchAnswer
	for name, list := range members {
		if !strings.EqualFold(name, batchFailed) {
			continue
		}
		var some []itemFailure
		if json.Unmarshal(list, &some) != nil {
			return nil, errBatchAnswer
		}
		all, err = append(all, some...), nil
	}
	return all, err
}

// mentions tells whether name, which begins with a small letter, stands anywhere in body, however it is capitalized. It compares as
// many bytes as name has: with more, letters beyond ASCII would count as those of ASCII.
func mentions(body []byte, name string) bool {
	for i := range len(body) - len(name) + 1 {
		if body[i]|0x20 == name[0] && strings.EqualFold(string(body[i:i+len(name)]), name) {
			return true
		}
	}
	return false
}
