package config

import (
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
)

const noKerberos = "the SASL mechanism GSSAPI (Kerberos) is not in kpush's build of librdkafka; use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"

const noAWS = "AWS MSK IAM signs with AWS's own library, which kpush does not link, and librdkafka cannot do it by itself; use SCRAM-SHA-512 or a client certificate, which MSK takes, too"

// unavailable is why a SASL mechanism that others have is not to be had here, or "".
func unavailable(mechanism string) string {
	switch strings.ToUpper(mechanism) {
	case "GSSAPI":
		return noKerberos
	case "AWS_MSK_IAM":
		return noAWS
	}
	return ""
}

const noTokens = "OAUTHBEARER needs to know where its tokens come from; put sasl.oauthbearer.method=oidc and the sasl.oauthbearer. properties " +
	"of your provider into KPUSH_CONSUMER_CONF (for a test, enable.sasl.oauthbearer.unsecure.jwt=true)"

func (l *loader) checkConsumerConf() {
	const name = "KPUSH_CONSUMER_CONF"
	for _, property := range slices.Sorted(maps.Keys(l.config.ConsumerConf)) {
		if answer := ownedAnswer(property); answer != "" {
			l.wrong(name, "%s is not yours to set: %s", property, answer)
		}
		for _, s := range l.config.security() {
			if s.value != "" && property == s.property {
				l.wrong(name, "%s is set through %s as well; set one of them", property, s.variable)
			}
		}
	}
}

// checkSecurity holds the security settings against each other, whether they come from variables or from KPUSH_CONSUMER_CONF.
func (l *loader) checkSecurity() {
	conf := l.config.Kafka()
	protocol := strings.ToLower(conf["security.protocol"])
	sasl, ssl := strings.HasPrefix(protocol, "sasl_"), strings.HasSuffix(protocol, "ssl")
	if len(l.problems["KPUSH_SECURITY_PROTOCOL"]) > 0 || len(l.problems["KPUSH_CONSUMER_CONF"]) > 0 {
		return // nobody knows which protocol is meant
	}
	for _, s := range l.config.security() {
		switch {
		case s.value == "":
		case strings.HasPrefix(s.property, "sasl.") && !sasl:
			l.wrong(s.variable, "has no effect unless KPUSH_SECURITY_PROTOCOL is sasl_ssl or sasl_plaintext")
		case strings.HasPrefix(s.property, "ssl.") && !ssl:
			l.wrong(s.variable, "has no effect unless KPUSH_SECURITY_PROTOCOL is ssl or sasl_ssl")
		}
	}
	if sasl {
		l.checkSASL(conf)
	}
	l.checkPair(conf, "KPUSH_SSL_CERT_FILE", "KPUSH_SSL_KEY_FILE", "ssl.key")
	l.checkPair(conf, "KPUSH_SSL_KEY_FILE", "KPUSH_SSL_CERT_FILE", "ssl.certificate")
}

func (l *loader) checkSASL(conf map[string]string) {
	mechanism := strings.ToUpper(conf["sasl.mechanisms"])
	switch {
	case unavailable(mechanism) != "":
		l.wrong("KPUSH_CONSUMER_CONF", "%s", unavailable(mechanism))
	case strings.EqualFold(conf["sasl.oauthbearer.metadata.authentication.type"], "aws_iam"):
		l.wrong("KPUSH_CONSUMER_CONF", noAWS)
	case mechanism == "" && !l.given("KPUSH_SASL_MECHANISM"):
		l.wrong("KPUSH_SASL_MECHANISM", "is required with a SASL security protocol; set PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER")
	case mechanism == "OAUTHBEARER" && !hasTokens(conf):
		variable := "KPUSH_CONSUMER_CONF"
		if l.given("KPUSH_SASL_MECHANISM") {
			variable = "KPUSH_SASL_MECHANISM"
		}
		l.wrong(variable, noTokens)
	case mechanism == "PLAIN" || strings.HasPrefix(mechanism, "SCRAM-"):
		for _, s := range l.config.security() {
			if needed := s.property == "sasl.username" || s.property == "sasl.password"; needed && conf[s.property] == "" && !l.given(s.variable) {
				l.wrong(s.variable, "is required with %s; set it, or %s_FILE", mechanism, s.variable)
			}
		}
	}
}

// hasTokens tells whether librdkafka gets tokens by itself. Otherwise it would wait for the application's, and kpush has none.
func hasTokens(conf map[string]string) bool {
	unsecured := strings.ToLower(conf["enable.sasl.oauthbearer.unsecure.jwt"])
	return strings.EqualFold(conf["sasl.oauthbearer.method"], "oidc") || unsecured == "true" || unsecured == "t" || unsecured == "1"
}

// checkPair wants other where name is set. KPUSH_CONSUMER_CONF can hold other instead, as property.
func (l *loader) checkPair(conf map[string]string, name, other, property string) {
	if l.given(name) && !l.given(other) && conf[property+".location"] == "" && conf[property+".pem"] == "" {
		l.wrong(name, "needs %s as well; a certificate and its key go together", other)
	}
}

// checkFiles makes sure that what is pointed to can be read.
func (l *loader) checkFiles() {
	for _, s := range append(l.config.security(), l.config.serviceFiles()...) {
		if !strings.HasSuffix(s.variable, "_FILE") || s.value == "" {
			continue
		}
		if info, err := os.Stat(s.value); err == nil && !info.Mode().IsRegular() {
			l.wrong(s.variable, "is not a regular file; name a PEM file")
		} else if file, err := os.Open(s.value); err != nil {
			l.wrong(s.variable, "cannot be read (%v); mount the file or correct the path", reason(err))
		} else {
			file.Close()
		}
	}
}

// checkService holds what the service is shown against the URLs.
func (l *loader) checkService() {
	c := &l.config
	whole := func(url, scheme string) bool { return strings.HasPrefix(strings.ToLower(url), scheme) }
	secure := whole(c.URL, "https://") || whole(c.ConfirmURL, "https://") || whole(c.ReadyURL, "https://")
	for _, s := range c.serviceFiles() {
		if s.value != "" && !secure {
			l.wrong(s.variable, "has no effect unless KPUSH_URL is a whole URL that begins with https://")
		}
	}
	l.checkPair(nil, "KPUSH_SERVICE_CERT_FILE", "KPUSH_SERVICE_KEY_FILE", "")
	l.checkPair(nil, "KPUSH_SERVICE_KEY_FILE", "KPUSH_SERVICE_CERT_FILE", "")
	const token = "KPUSH_SERVICE_TOKEN"
	l.checkToken(token, c.ServiceToken)
	if u, err := url.Parse(c.URL); err == nil && u.User != nil && l.given(token) {
		l.wrong(token, "KPUSH_URL holds a user, who is shown in the same header; keep one of them")
	}
}
