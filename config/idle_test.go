package config

import (
	"reflect"
	"strings"
	"testing"
)

// What is set and heeded by nothing is said; what has an effect, and what is not set, never is.
func TestIdle(t *testing.T) {
	const oauth = "KPUSH_SECURITY_PROTOCOL=sasl_ssl KPUSH_SASL_MECHANISM=OAUTHBEARER KPUSH_CONSUMER_CONF=sasl.oauthbearer.method=oidc"
	for _, row := range []struct{ set, want string }{ // want: the variable, and what a sentence holds; | between sentences
		{"", ""},
		{"KPUSH_RETRY_NUMS=5", "KPUSH_RETRY_NUMS=5 has no effect: nothing is given up unless KPUSH_CAN_SKIP=true or there is a KPUSH_DEAD_LETTER_TOPIC, so"},
		{"KPUSH_RETRY_NUMS=3", "KPUSH_RETRY_NUMS=3 has no effect: nothing is given up"}, // the default was meant, too
		{"KPUSH_RETRY_NUMS=5 KPUSH_CAN_SKIP=false", "KPUSH_RETRY_NUMS=5 has"},
		{"KPUSH_RETRY_NUMS=5 KPUSH_CAN_SKIP=true", ""},
		{"KPUSH_GIVE_UP_IN_A_ROW=0 KPUSH_SKIP_ON=any", "KPUSH_GIVE_UP_IN_A_ROW=0 has|KPUSH_SKIP_ON=any has"},
		{"KPUSH_GIVE_UP_IN_A_ROW=0 KPUSH_SKIP_ON=any KPUSH_CAN_SKIP=true", ""},
		{"KPUSH_GIVE_UP_IN_A_ROW=0 KPUSH_SKIP_ON=any KPUSH_RETRY_NUMS=5 KPUSH_DEAD_LETTER_TOPIC=dead KPUSH_REDRIVE_MAX=1", ""},
		{"KPUSH_REDRIVE_MAX=3", "KPUSH_REDRIVE_MAX=3 has no effect: there is no KPUSH_DEAD_LETTER_TOPIC"},
		{"KPUSH_SKIP_ON=any KPUSH_BATCH_SIZE=9", ""}, // a request that failed is halved then
		{"KPUSH_RETRY_INTERVAL=3s", ""},
		{"KPUSH_CONTENT_TYPE=a/b", ""},
		{"KPUSH_CONTENT_TYPE=a/b KPUSH_FORMAT=form", "KPUSH_CONTENT_TYPE=a/b has no effect: KPUSH_FORMAT=form sends"},
		{"KPUSH_CONTENT_TYPE=a/b KPUSH_BATCH_SIZE=9", "KPUSH_CONTENT_TYPE=a/b has no effect: with KPUSH_BATCH_SIZE above 1"},
		{"KPUSH_CONTENT_TYPE=a/b KPUSH_FORMAT=json", "KPUSH_CONTENT_TYPE=a/b has no effect: with KPUSH_FORMAT=json a"},
		{"KPUSH_CONTENT_TYPE=a/b KPUSH_FORMAT=cloudevents KPUSH_BATCH_SIZE=9 KPUSH_CLOUDEVENTS_TYPE=a.b", ""},
		{"KPUSH_CONTENT_TYPE=a/b KPUSH_FORMAT=cloudevents-structured KPUSH_ACK=dapr", ""},
		{"KPUSH_CLOUDEVENTS_TYPE=a.b", "KPUSH_CLOUDEVENTS_TYPE=a.b has no effect: with KPUSH_FORMAT=raw no"},
		{"KPUSH_RETRY_MAX_INTERVAL=2s", "KPUSH_RETRY_MAX_INTERVAL=2s has no effect: it equals"},
		{"KPUSH_RETRY_MAX_INTERVAL=3000ms KPUSH_RETRY_INTERVAL=3s", "KPUSH_RETRY_MAX_INTERVAL=3000ms has"},
		{"KPUSH_RETRY_MAX_INTERVAL=3s", ""},
		{"KPUSH_CONN_TIMEOUT=1m", "KPUSH_CONN_TIMEOUT=1m has no effect: the whole attempt, its connection included, ends after KPUSH_EXEC_TIMEOUT, which is 1m0s"},
		{"KPUSH_CONN_TIMEOUT=59s", ""},
		{"KPUSH_CONN_TIMEOUT=1h KPUSH_EXEC_TIMEOUT=0", ""},
		{"KPUSH_EXEC_TIMEOUT=5s", ""}, // shorter than a default
		{"KPUSH_SLOW_TIME=2m", "KPUSH_SLOW_TIME=2m has no effect: no attempt takes that long"},
		{"KPUSH_SLOW_TIME=2m KPUSH_EXEC_TIMEOUT=0", ""},
		{"KPUSH_SLOW_TIME=0s KPUSH_LOG_LEVEL=error", ""},
		{"KPUSH_SLOW_TIME=5s KPUSH_LOG_LEVEL=error", "KPUSH_SLOW_TIME=5s has no effect: KPUSH_LOG_LEVEL=error leaves"},
		{"KPUSH_SLOW_TIME=5s KPUSH_LOG_LEVEL=warn", ""},
		{oauth + " KPUSH_SASL_USERNAME=" + secret + " KPUSH_SASL_PASSWORD=" + secret, "KPUSH_SASL_USERNAME has no effect: OAUTHBEARER|KPUSH_SASL_PASSWORD has"},
		{oauth, ""},
		{"KPUSH_CONSUMER_CONF=debug=all", "debug in KPUSH_CONSUMER_CONF has no effect: what it prints needs KPUSH_LOG_LEVEL=debug"},
		{"KPUSH_CONSUMER_CONF=debug=all KPUSH_LOG_LEVEL=debug", ""},
		{"KPUSH_CONSUMER_CONF=ssl.key.password=" + secret + ";sasl.kerberos.keytab=x", "sasl.kerberos.keytab in KPUSH_CONSUMER_CONF has no effect: KPUSH_SEC|ssl.key.password in KPUSH_CONSUMER_CONF has no effect: "},
		{"KPUSH_CONSUMER_CONF=ssl.key.password=x;security.protocol=ssl", ""},
		{"KPUSH_CONSUMER_CONF=linger.ms=5;acks=all;fetch.max.bytes=1000000", "acks in KPUSH_CONSUMER_CONF has no effect: it is a producer's|linger.ms in KPUSH_CONSUMER_CONF has"},
		{"KPUSH_CONSUMER_CONF=max.poll.records=5", "max.poll.records in KPUSH_CONSUMER_CONF has no effect: it is of another way"},
		{"KPUSH_CONSUMER_CONF=fetch.wait.max.ms=5", ""},
		{"KPUSH_TOPIC= KPUSH_GROUP=g KPUSH_PORT=8080 KPUSH_BUFFER=2MiB", "KPUSH_GROUP=g has no effect: KPUSH_TOPIC is empty, so nothing is consumed|KPUSH_PORT=8080 has"},
		{"KPUSH_TOPIC= KPUSH_GROUP= KPUSH_PUBLISH_TOPICS=a,b*,* KPUSH_PRODUCER_CONF=linger.ms=5", ""},
		{"KPUSH_MESSAGE_DELIVERY_GUARANTEES=1 KPUSH_OFFSETS_DIR=/x", ""}, // an operator's skip needs it
		{"KPUSH_DOMAIN=x KPUSH_CONCURRENCY=1 KPUSH_ORDER=none KPUSH_BATCH_SIZE=5 KPUSH_BATCH_LINGER=0s KPUSH_CONFIRM_URL=/c KPUSH_READY_URL=/r", ""},
	} {
		got, want := load(t, strings.Fields(row.set)...).Idle(), strings.Split(row.want, "|")
		if row.want == "" {
			want = nil
		}
		if len(got) != len(want) {
			t.Errorf("%q: %q, want %q", row.set, got, want)
			continue
		}
		for i, sentence := range got {
			if !strings.HasPrefix(sentence, want[i]) || strings.Contains(sentence, secret) {
				t.Errorf("%q: %q, want %q", row.set, sentence, want[i])
			}
		}
	}
}

// What idles beside another variable, and would change a guarantee if it did not, is refused as before: TestEveryWayToGetAVariableWrong.
// What Config holds beside its variables stands at its end, where no index of a field is moved by it.
func TestFieldsAreInTheirPlaces(t *testing.T) {
	for i, f := range fields {
		if f.Index[0] != i || reflect.TypeFor[Config]().Field(i).Name != f.Name {
			t.Errorf("%s is not field %d", f.Name, i)
		}
	}
}
