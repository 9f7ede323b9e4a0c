package rig

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// postBatch sends the text as a sidecar would send a batch of so many messages.
func postBatch(s *Service, text string, count int) (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/", s.Port), strings.NewReader(text))
	if err != nil {
		return 0, "", err
	}
	for name, value := range map[string]string{"Kafka-Batch": fmt.Sprint(count), "Kafka-Topic": "t", "Kafka-Partition": "0", "Kafka-Group": "g"} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// TestVerdictSeesBatches lets a broken sidecar do each wrong thing once; the verdict must name exactly that.
func TestVerdictSeesBatches(t *testing.T) {
	item := func(offset int64, attempt int, more string) string {
		if more == "" {
			more = fmt.Sprintf(`"value":"v%d","encoding":"text"`, offset)
		}
		return fmt.Sprintf(`{"id":"t/0/%d","topic":"t","partition":0,"offset":%d,"timestamp":1,"attempt":%d,"key":"k","headers":[["A","Yg=="]],%s}`, offset, offset, attempt, more)
	}
	doubt := `"inDoubt":true,"value":"v0","encoding":"text"`
	first := func(a Action) func(*Request) Action {
		return func(r *Request) Action {
			if r.Offset == 0 && r.Attempt == 1 {
				return a
			}
			return Action{}
		}
	}
	for name, c := range map[string]struct {
		rule    func(*Request) Action
		batches [][]string
		want    string
	}{
		"nothing wrong":       {nil, [][]string{{item(0, 1, ""), item(1, 1, "")}}, "0 lost, 0 repeats, 0 unflagged, 0 needlessly flagged, 0 out of order, 0 overlaps, 0 altered"},
		"base64":              {nil, [][]string{{item(0, 1, `"value":"djA=","encoding":"base64"`), item(1, 1, "")}}, "0 overlaps, 0 altered"},
		"one named":           {first(Action{Named: true}), [][]string{{item(0, 1, ""), item(1, 1, "")}, {item(0, 2, "")}}, "0 lost, 0 repeats, 0 unflagged, 0 needlessly flagged, 0 out of order, 0 overlaps, 0 altered"},
		"one named, dropped":  {first(Action{Named: true}), [][]string{{item(0, 1, ""), item(1, 1, "")}}, "1 lost, 0 repeats"},
		"overtaken":           {first(Action{Named: true}), [][]string{{item(0, 1, "")}, {item(1, 1, "")}, {item(0, 2, "")}}, "1 out of order"},
		"a repeat":            {first(Action{Named: true}), [][]string{{item(0, 1, ""), item(1, 1, "")}, {item(0, 2, ""), item(1, 2, "")}}, "0 lost, 1 repeats, 1 unflagged"},
		"all fail":            {first(Action{Status: 500}), [][]string{{item(0, 1, ""), item(1, 1, "")}}, "2 lost"},
		"broken, unflagged":   {first(Action{Break: AfterRead}), [][]string{{item(0, 1, "")}, {item(0, 2, ""), item(1, 1, "")}}, "0 lost, 0 repeats, 1 unflagged"},
		"broken, flagged":     {first(Action{Break: AfterRead}), [][]string{{item(0, 1, "")}, {item(0, 2, doubt), item(1, 1, "")}}, "0 lost, 0 repeats, 0 unflagged, 0 needlessly"},
		"the wrong order":     {nil, [][]string{{item(1, 1, ""), item(0, 1, "")}}, "1 out of order"},
		"another value":       {nil, [][]string{{item(0, 1, `"value":"w0","encoding":"text"`), item(1, 1, "")}}, "1 altered"},
		"a tombstone instead": {nil, [][]string{{item(0, 1, `"value":null`), item(1, 1, "")}}, "1 altered"},
		"an encoding unheard": {nil, [][]string{{item(0, 1, `"value":"v0","encoding":"rot13"`), item(1, 1, "")}}, "1 altered"},
		"a field unheard":     {nil, [][]string{{item(0, 1, `"value":"v0","encoding":"text","x":1`), item(1, 1, "")}}, "altered"},
	} {
		s := StartService(t)
		s.Rule(c.rule)
		for _, batch := range c.batches {
			_, _, _ = postBatch(s, "["+strings.Join(batch, ",")+"]", len(batch)) // what comes of it is the service's to say
		}
		if got := s.Judge(records(2)).String(); !strings.Contains(got, c.want) || name == "a field unheard" && strings.Contains(got, " 0 altered") {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	s := StartService(t)
	s.Rule(func(r *Request) Action { return Action{Named: r.Offset == 1} })
	if status, body, err := postBatch(s, "["+item(0, 1, "")+","+item(1, 1, "")+"]", 2); status != 200 || body != `{"batchItemFailures":[{"itemIdentifier":"t/0/1"}]}` {
		t.Errorf("answered %d %s (%v)", status, body, err)
	}
}
