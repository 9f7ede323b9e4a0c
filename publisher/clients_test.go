package publisher

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// Requests of clients as they sent them to this door, recorded byte for byte between the client and the port, but for the name of a topic
// that there is not. npm's kafka-rest 0.0.5 speaks v1, and sends its bodies in chunks; PyPI's kafka-bridge-client 0.7.1 is Strimzi's, and
// speaks v2.
var recorded = []struct{ name, request, want, answer string }{
	{"kafka-rest: topic.produce('msg1')",
		"POST /topics/orders HTTP/1.1\r\nUser-Agent: kafka-rest-node/undefined\r\nAccept: application/vnd.kafka.v1+json, application/vnd.kafka+json; q=0.9, application/json; q=0.8\r\n" +
			"Content-Type: application/vnd.kafka.v1+json\r\nHost: 127.0.0.1:27499\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"3e\r\n{\"records\":[{\"value\":\"bXNnMQ==\",\"key\":null,\"partition\":null}]}\r\n0\r\n\r\n",
		`orders/-1@0 null="msg1"`, `200 {"offsets":[{"offset":0,"partition":0}]}`},
	{"kafka-rest: several, with a key, a partition and a tombstone",
		"POST /topics/orders HTTP/1.1\r\nUser-Agent: kafka-rest-node/undefined\r\nAccept: application/vnd.kafka.v1+json, application/vnd.kafka+json; q=0.9, application/json; q=0.8\r\n" +
			"Content-Type: application/vnd.kafka.v1+json\r\nHost: 127.0.0.1:27499\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"9f\r\n{\"records\":[{\"value\":\"bXNnMg==\",\"key\":\"a2V5MQ==\",\"partition\":null},{\"value\":\"AP8=\",\"key\":null,\"partition\":0},{\"value\":null,\"key\":\"Z29uZQ==\",\"partition\":null}]}\r\n0\r\n\r\n",
		`orders/-1@0 "key1"="msg2" | orders/0@0 null="\x00\xff" | orders/-1@0 "gone"=null`, `200 {"offsets":[{"offset":0,"partition":0},{"offset":1,"partition":0},{"offset":2,"partition":0}]}`},
	{"kafka-rest: topic.partition(1).produce('to 1')",
		"POST /topics/orders/partitions/1 HTTP/1.1\r\nUser-Agent: kafka-rest-node/undefined\r\nAccept: application/vnd.kafka.v1+json, application/vnd.kafka+json; q=0.9, application/json; q=0.8\r\n" +
			"Content-Type: application/vnd.kafka.v1+json\r\nHost: 127.0.0.1:27499\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"2d\r\n{\"records\":[{\"value\":\"dG8gMQ==\",\"key\":null}]}\r\n0\r\n\r\n",
		`orders/1@0 null="to 1"`, `200 {"offsets":[{"offset":0,"partition":1}]}`},
	{"kafka-rest: topic.get()",
		"GET /topics/orders HTTP/1.1\r\nUser-Agent: kafka-rest-node/undefined\r\nAccept: application/vnd.kafka.v1+json, application/vnd.kafka+json; q=0.9, application/json; q=0.8\r\n" +
			"Host: 127.0.0.1:27499\r\nConnection: keep-alive\r\n\r\n",
		"", `200 {"name":"orders","partitions":[{"partition":0},{"partition":1},{"partition":2}]}`},
	{"kafka-rest: a topic that there is not",
		"POST /topics/nothing HTTP/1.1\r\nUser-Agent: kafka-rest-node/undefined\r\nAccept: application/vnd.kafka.v1+json, application/vnd.kafka+json; q=0.9, application/json; q=0.8\r\n" +
			"Content-Type: application/vnd.kafka.v1+json\r\nHost: 127.0.0.1:27499\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"3a\r\n{\"records\":[{\"value\":\"eA==\",\"key\":null,\"partition\":null}]}\r\n0\r\n\r\n",
		"", `404 {"error_code":40401,"message":"nothing: topic does not exist","retriable":false}`},
	{"kafka-rest: Avro, of which kpush knows nothing",
		"POST /topics/orders HTTP/1.1\r\nUser-Agent: kafka-rest-node/undefined\r\nAccept: application/vnd.kafka.v1+json, application/vnd.kafka+json; q=0.9, application/json; q=0.8\r\n" +
			"Content-Type: application/vnd.kafka.avro.v1+json\r\nHost: 127.0.0.1:27499\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"a7\r\n{\"records\":[{\"value\":{\"id\":\"a\"},\"key\":null,\"partition\":null}],\"value_schema\":\"{\\\"name\\\":\\\"T\\\",\\\"type\\\":\\\"record\\\",\\\"fields\\\":[{\\\"name\\\":\\\"id\\\",\\\"type\\\":\\\"string\\\"}]}\"}\r\n0\r\n\r\n",
		"", `415 {"error_code":415,"message":"\"application/vnd.kafka.avro.v1+json\" is not taken: there are application/vnd.kafka.json.v2+json, .binary. and .text.; anything else is a value, whole","retriable":false}`},
	{"kafka-bridge-client: JSON",
		"POST /topics/orders HTTP/1.1\r\nHost: 127.0.0.1:27499\r\nUser-Agent: python-requests/2.34.2\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n" +
			"Content-Type: application/vnd.kafka.json.v2+json\r\nContent-Length: 98\r\n\r\n" +
			`{"records": [{"key": "customer-17", "value": {"total": 12}}, {"key": null, "value": "caf\u00e9"}]}`,
		`orders/-1@0 "\"customer-17\""="{\"total\":12}" | orders/-1@0 null="\"caf\\u00e9\""`, `200 {"offsets":[{"offset":0,"partition":0},{"offset":1,"partition":0}]}`},
	{"kafka-bridge-client: binary",
		"POST /topics/orders HTTP/1.1\r\nHost: 127.0.0.1:27499\r\nUser-Agent: python-requests/2.34.2\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n" +
			"Content-Type: application/vnd.kafka.binary.v2+json\r\nContent-Length: 75\r\n\r\n" +
			`{"records": [{"key": "aw==", "value": "AP8="}, {"key": null, "value": ""}]}`,
		`orders/-1@0 "k"="\x00\xff" | orders/-1@0 null=""`, `200 {"offsets":[{"offset":0,"partition":0},{"offset":1,"partition":0}]}`},
}

// Clients of Confluent's REST API and of the Strimzi bridge work unchanged.
func TestRecordedClients(t *testing.T) {
	for _, row := range recorded {
		f := &fake{}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: newTest(f), ConnContext: ConnContext}
		go s.Serve(Listen(l))
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, row.request)
		w, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(row.name, err)
		}
		body, err := io.ReadAll(w.Body)
		if got := strings.TrimSpace(fmt.Sprint(w.StatusCode, " ", string(body))); err != nil || got != row.answer || w.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s is answered %s, want %s", row.name, got, row.answer)
		}
		var got []string
		for _, r := range f.got {
			got = append(got, shown(r))
		}
		if strings.Join(got, " | ") != row.want {
			t.Errorf("%s publishes\n%s, want\n%s", row.name, strings.Join(got, " | "), row.want)
		}
		c.Close()
		s.Close()
	}
}
