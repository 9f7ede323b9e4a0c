package rig

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// post sends what a sidecar would send for the record.
func post(s *Service, r Record, attempt int, doubt bool) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/", s.Port), strings.NewReader(string(r.Value)))
	if err != nil {
		return 0, err
	}
	set := map[string]string{"Kafka-Topic": r.Topic, "Kafka-Partition": fmt.Sprint(r.Partition), "Kafka-Offset": fmt.Sprint(r.Offset),
		"Kafka-Attempt": fmt.Sprint(attempt), "Kafka-Timestamp": "1", "Kafka-Key": string(r.Key)}
	if doubt {
		set["Kafka-In-Doubt"] = "true"
	}
	for _, h := range r.Headers {
		set["Kafka-Header-"+h.Name] = string(h.Value)
	}
	for name, value := range set {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if _, err := io.ReadAll(response.Body); err != nil {
		return response.StatusCode, err
	}
	return response.StatusCode, nil
}

func records(count int) []Record {
	var all []Record
	for i := range count {
		all = append(all, Record{Topic: "t", Offset: int64(i), Key: []byte("k"), Value: fmt.Appendf(nil, "v%d", i), Headers: []Header{{"A", []byte("b")}}})
	}
	return all
}

// TestVerdictSees lets a broken sidecar do each wrong thing once; the verdict must name exactly that.
func TestVerdictSees(t *testing.T) {
	type step struct {
		record  int
		attempt int
		doubt   bool
		action  Action
	}
	fail, lostAnswer := Action{Status: 500}, Action{Break: AfterHeader}
	for name, c := range map[string]struct {
		steps []step
		alter func(*Record)
		want  string
	}{
		"nothing wrong":           {steps: []step{{0, 1, false, fail}, {0, 2, false, Action{}}, {1, 1, false, Action{}}}, want: "0 lost, 0 repeats, 0 unflagged, 0 needlessly flagged, 0 out of order, 0 overlaps, 0 altered"},
		"doubt flagged":           {steps: []step{{0, 1, false, lostAnswer}, {0, 2, true, Action{}}, {1, 1, false, Action{}}}, want: "0 lost, 0 repeats, 0 unflagged, 0 needlessly flagged, 0 out of order, 0 overlaps, 0 altered"},
		"doubt stays":             {steps: []step{{0, 1, false, lostAnswer}, {0, 2, true, fail}, {0, 3, false, Action{}}, {1, 1, false, Action{}}}, want: "0 lost, 0 repeats, 1 unflagged"},
		"lost":                    {steps: []step{{0, 1, false, Action{}}, {1, 1, false, fail}}, want: "1 lost"},
		"truncated answer":        {steps: []step{{0, 1, false, Action{}}, {1, 1, false, Action{Break: Truncate}}}, want: "1 lost"},
		"repeated":                {steps: []step{{0, 1, false, Action{}}, {0, 2, true, Action{}}, {1, 1, false, Action{}}}, want: "0 lost, 1 repeats, 0 unflagged"},
		"repeated without flag":   {steps: []step{{0, 1, false, Action{}}, {0, 2, false, Action{}}, {1, 1, false, Action{}}}, want: "0 lost, 1 repeats, 1 unflagged"},
		"reset without flag":      {steps: []step{{0, 1, false, Action{Break: AfterRead}}, {0, 2, false, Action{}}, {1, 1, false, Action{}}}, want: "1 unflagged"},
		"reset before reading":    {steps: []step{{0, 1, false, Action{Break: BeforeRead}}, {0, 2, false, Action{}}, {1, 1, false, Action{}}}, want: "1 unflagged"},
		"hang without flag":       {steps: []step{{0, 1, false, Action{Break: Hang}}, {0, 2, false, Action{}}, {1, 1, false, Action{}}}, want: "1 unflagged"},
		"flagged for no reason":   {steps: []step{{0, 1, true, Action{}}, {1, 1, false, Action{}}}, want: "0 unflagged, 1 needlessly flagged"},
		"disorder":                {steps: []step{{1, 1, false, Action{}}, {0, 1, false, Action{}}}, want: "1 out of order"},
		"value altered":           {steps: []step{{0, 1, false, Action{}}, {1, 1, false, Action{}}}, alter: func(r *Record) { r.Value = []byte("w") }, want: "1 altered"},
		"key altered":             {steps: []step{{0, 1, false, Action{}}, {1, 1, false, Action{}}}, alter: func(r *Record) { r.Key = []byte("w") }, want: "1 altered"},
		"header value altered":    {steps: []step{{0, 1, false, Action{}}, {1, 1, false, Action{}}}, alter: func(r *Record) { r.Headers = []Header{{"A", []byte("c")}} }, want: "1 altered"},
		"header dropped":          {steps: []step{{0, 1, false, Action{}}, {1, 1, false, Action{}}}, alter: func(r *Record) { r.Headers = nil }, want: "1 altered"},
		"tombstone not a flag":    {steps: []step{{0, 1, false, Action{}}, {1, 1, false, Action{}}}, alter: func(r *Record) { r.Value = []byte{} }, want: "1 altered"},
		"what nobody produced":    {steps: []step{{0, 1, false, Action{}}, {1, 1, false, Action{}}, {2, 1, false, Action{}}}, want: "2 produced, 2 delivered in 3 requests"},
		"a header's case is lost": {steps: []step{{0, 1, false, Action{}}, {1, 1, false, Action{}}}, alter: func(r *Record) { r.Headers = []Header{{"a", []byte("b")}} }, want: "0 altered"},
	} {
		t.Run(name, func(t *testing.T) {
			s := StartService(t)
			send := records(3)
			if c.alter != nil {
				c.alter(&send[0])
			}
			for i, do := range c.steps {
				s.Rule(func(*Request) Action { return do.action })
				if status, err := post(s, send[do.record], do.attempt, do.doubt); err == nil && do.action.Break == Respond && status != max(200, do.action.Status) {
					t.Fatalf("step %d answered %d", i, status)
				}
				Within(t, 10*time.Second, "the end of the request", s.idle)
			}
			v := s.Judge(records(2))
			if !strings.Contains(v.String(), c.want) {
				t.Errorf("the verdict is %q, want %q", v, c.want)
			}
			if stray := len(v.Stray) > 0; stray != (name == "what nobody produced") {
				t.Errorf("stray: %q", v.Stray)
			}
		})
	}
}

func TestVerdictSeesOverlap(t *testing.T) {
	s := StartService(t)
	s.Rule(Slow(50 * time.Millisecond))
	ended := make(chan error)
	for _, r := range records(2) {
		go func() { _, err := post(s, r, 1, false); ended <- err }()
	}
	for range 2 {
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	if v := s.Judge(records(2)); len(v.Overlap) != 1 {
		t.Errorf("two requests at once in one partition: %q", v.Overlap)
	}
	if average, most := s.Load(); most != 2 || average <= 0 || average > 2 {
		t.Errorf("load is %.2f on average, %d at most, want 2 at most", average, most)
	}
	if average, most := s.Load(); most != 0 || average != 0 {
		t.Errorf("load of an idle service is %.2f on average, %d at most", average, most)
	}
}

func TestRequestReadsExactHeaders(t *testing.T) {
	text := func(s string) *string { return &s }
	encoded := func(s string) *string { return text(base64.StdEncoding.EncodeToString([]byte(s))) }
	list, err := json.Marshal([][2]*string{{text("B"), encoded("\x00\n")}, {text("b"), nil}, {text(""), encoded("")}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := http.NewRequest(http.MethodPost, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	h.Header.Set("Kafka-Headers", base64.StdEncoding.EncodeToString(list))
	h.Header.Set("Kafka-Key", base64.StdEncoding.EncodeToString([]byte{0, 1}))
	h.Header.Set("Kafka-Key-Encoding", "base64")
	r := parse(h)
	r.Wrong = "" // the other headers are not this test's
	produced := Record{Key: []byte{0, 1}, Value: []byte{}, Headers: []Header{{"B", []byte("\x00\n")}, {"b", nil}, {"", []byte{}}}}
	if what := r.differs(&produced); what != "" {
		t.Error(what)
	}
	produced.Headers[1].Value = []byte{}
	if r.differs(&produced) == "" {
		t.Error("null and an empty value are taken for the same")
	}
}

func TestServiceDownAndUp(t *testing.T) {
	s := StartService(t, "127.0.0.1", "127.0.0.2")
	port := s.Port
	s.Down()
	if _, err := post(s, records(1)[0], 1, false); err == nil {
		t.Error("a service that is down answers")
	}
	s.Up(t)
	if _, err := post(s, records(1)[0], 1, false); err != nil || s.Port != port {
		t.Errorf("after Up on port %d (was %d): %v", s.Port, port, err)
	}
	Within(t, 10*time.Second, "the end of the request", s.idle)
	if s.Delivered() != 1 || s.Attempts() != 1 || s.Requests()[0].Target != fmt.Sprintf("127.0.0.1:%d", port) {
		t.Errorf("delivered %d, attempts %d, target %s", s.Delivered(), s.Attempts(), s.Requests()[0].Target)
	}
}

func TestServiceOnASocketAndEachHostByItself(t *testing.T) {
	socket := "unix:" + t.TempDir() + "/s"
	s := StartService(t, "127.0.0.1", socket)
	s.Door("/up", func() int { return http.StatusTeapot })
	over := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Dial: func(string, string) (net.Conn, error) {
		return net.Dial("unix", strings.TrimPrefix(socket, "unix:"))
	}}}
	reach := func() (port, file bool) {
		_, err := post(s, records(1)[0], 1, false)
		response, fileErr := over.Get("http://localhost/up")
		if fileErr == nil {
			file = response.StatusCode == http.StatusTeapot
			_ = response.Body.Close() // nothing is in it
		}
		return err == nil, file
	}
	for _, step := range []struct {
		do         func()
		port, file bool
	}{
		{func() {}, true, true},
		{func() { s.Down("127.0.0.1") }, false, true},
		{func() { s.Down() }, false, false},
		{func() { s.Up(t, socket) }, false, true},
		{func() { s.Up(t) }, true, true},
	} {
		step.do()
		if port, file := reach(); port != step.port || file != step.file {
			t.Fatalf("port %t, socket %t, want %t and %t", port, file, step.port, step.file)
		}
	}
	if _, err := over.Post("http://localhost/", "", nil); err != nil {
		t.Fatal(err)
	}
	Within(t, 10*time.Second, "the end of the requests", s.idle)
	for i, r := range s.Requests() {
		if last := i == len(s.Requests())-1; r.To(socket) != last || r.To("127.0.0.1") == last || r.To("127.0.0.") {
			t.Errorf("the request number %d came to %s", i, r.Target)
		}
	}
}

func TestHasty(t *testing.T) {
	begin := time.Now()
	at := func(from, to int) *Request {
		return &Request{Target: "h:1", Start: begin.Add(time.Duration(from) * time.Second), End: begin.Add(time.Duration(to) * time.Second), complete: true}
	}
	s := &Service{requests: []*Request{at(0, 2), at(1, 3), at(2, 4), at(3, 4), at(5, 6), at(8, 8), at(10, 11)}}
	when := func(second int) time.Time { return begin.Add(time.Duration(second) * time.Second) }
	if came := s.Between(when(3), when(10)); len(came) != 3 {
		t.Errorf("%d requests between 3 s and 10 s, want 3", len(came))
	}
	for interval, want := range map[time.Duration]int{time.Second: 0, 2 * time.Second: 0, 3 * time.Second: 2} {
		if hasty, probes := s.Hasty("h", when(4), when(11), interval); len(hasty) != want || probes != 3 {
			t.Errorf("%v: %d of %d probes came too early, want %d of 3: %q", interval, len(hasty), probes, want, hasty)
		}
	}
}

func TestSilence(t *testing.T) {
	begin := time.Now()
	at := func(ms int, partition int32, path string) *Request {
		end := begin.Add(time.Duration(ms) * time.Millisecond)
		return &Request{Topic: "t", Partition: partition, Path: path, Start: end, End: end, Done: true, complete: true}
	}
	s := &Service{requests: []*Request{at(0, 0, "/a"), at(0, 1, "/a"), at(300, 0, "/a"), at(900, 1, "/b"), at(1100, 0, "/a"), at(1000, 1, "/b"), at(9000, 1, "/b")}}
	stayed, moved := s.Silence(begin, begin.Add(2*time.Second))
	if stayed.Length != 800*time.Millisecond || stayed.Partition != 0 || moved.Length != 900*time.Millisecond || moved.Partition != 1 {
		t.Errorf("%v, %v", stayed, moved)
	}
}

func BenchmarkService(b *testing.B) {
	s := StartService(b)
	all := records(1)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := post(s, all[0], 1, false); err != nil {
				b.Error(err)
			}
		}
	})
}

// TestVerdictKnowsLanes holds the same deliveries, one after the other and all at once, against each order.
func TestVerdictKnowsLanes(t *testing.T) {
	a, b, none := []byte("a"), []byte("b"), []byte(nil)
	for name, c := range map[string]struct {
		offsets          []int64
		keys             [][]byte
		atOnce           bool
		partition, byKey string
	}{
		"in order":               {[]int64{0, 1, 2}, [][]byte{a, b, a}, false, "0 0", "0 0"},
		"keys apart":             {[]int64{1, 2, 0}, [][]byte{b, b, a}, false, "1 0", "0 0"},
		"a key out of order":     {[]int64{2, 1, 0}, [][]byte{a, b, a}, false, "2 0", "1 0"},
		"two keys at once":       {[]int64{0, 1}, [][]byte{a, b}, true, "0 1", "0 0"},
		"a key twice at once":    {[]int64{0, 1}, [][]byte{a, a}, true, "0 1", "0 1"},
		"without a key":          {[]int64{1, 0}, [][]byte{none, none}, true, "1 1", "0 0"},
		"the empty key is a key": {[]int64{1, 0}, [][]byte{{}, {}}, true, "1 1", "1 1"},
	} {
		var requests []*Request
		begin := time.Now()
		for i, offset := range c.offsets {
			r := &Request{Offset: offset, Key: c.keys[i], Status: 200, Done: true, Start: begin, End: begin.Add(time.Duration(i) * time.Second)}
			if !c.atOnce && i > 0 {
				r.Start = requests[i-1].End
			} else if c.atOnce {
				r.End = begin.Add(time.Duration(i+1) * time.Second)
			}
			requests = append(requests, r)
		}
		for order, want := range map[string]string{"": c.partition, "partition": c.partition, "key": c.byKey, "none": "0 0"} {
			v := &Verdict{}
			v.order(lanes(requests, order))
			if got := fmt.Sprint(len(v.Disorder), " ", len(v.Overlap)); got != want {
				t.Errorf("%s, order %q: %s out of order and overlapping, want %s", name, order, got, want)
			}
		}
	}
}
