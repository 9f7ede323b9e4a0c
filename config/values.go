package config

import (
	"errors"
	"fmt"
	"mime"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Concurrency is how many requests may be in flight at once.
type Concurrency int

// Auto stands for the number that the service takes best.
const Auto Concurrency = 0

// Decode reads a number, or auto. Envconfig calls it.
func (n *Concurrency) Decode(value string) error {
	if strings.EqualFold(value, "auto") {
		*n = Auto
		return nil
	}
	number, err := strconv.Atoi(value)
	if err != nil || strconv.Itoa(number) != value || number < 1 || number > 10000 {
		return errors.New("must be a whole number from 1 to 10000, or auto")
	}
	*n = Concurrency(number)
	return nil
}

// String is what Decode reads.
func (n Concurrency) String() string {
	if n == Auto {
		return "auto"
	}
	return strconv.Itoa(int(n))
}

// First is how many there are at the start.
func (n Concurrency) First() int {
	if n == Auto {
		return 16
	}
	return int(n)
}

// Size is a number of bytes, written with a unit.
type Size int64

var units = map[string]int{"KiB": 10, "MiB": 20, "GiB": 30}

var sizeForm = regexp.MustCompile(`^(\d{1,9})(KiB|MiB|GiB)$`)

// Decode reads 512KiB, 16MiB, 1GiB or 0. Envconfig calls it.
func (s *Size) Decode(value string) error {
	if value == "0" {
		*s = 0
		return nil
	}
	form := sizeForm.FindStringSubmatch(value)
	if form == nil {
		if long := strings.TrimLeft(value, "0123456789"); long != value && units[long] > 0 {
			return errors.New("is more bytes than any machine has")
		}
		return errors.New("a size needs a unit, KiB, MiB or GiB, such as 16MiB")
	}
	n, err := strconv.ParseInt(form[1], 10, 64)
	*s = Size(n << units[form[2]])
	return err
}

// String is what Decode reads.
func (s Size) String() string {
	switch {
	case s == 0:
		return "0"
	case s%(1<<30) == 0:
		return fmt.Sprintf("%dGiB", s>>30)
	case s%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", s>>20)
	default:
		return fmt.Sprintf("%dKiB", s>>10)
	}
}

// SyncRule is when a record reaches the disk: always, never, a duration, or "" for what the guarantee asks for.
type SyncRule string

// Decode takes always, never or a duration above zero. Envconfig calls it.
func (r *SyncRule) Decode(value string) error {
	lower := strings.ToLower(value)
	if d, err := time.ParseDuration(lower); lower != "always" && lower != "never" && (err != nil || d < time.Millisecond) {
		return errors.New("write always, never, or how long a record may stay off the disk, such as 5ms (at least 1ms)")
	}
	*r = SyncRule(lower)
	return nil
}

var (
	kafkaName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)
	hostName  = regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?)*\.?$`)
)

// isKafkaName is Kafka's rule for topics and for instance ids.
func isKafkaName(s string) bool {
	return kafkaName.MatchString(s) && s != "." && s != ".."
}

// isMediaType takes what can stand in a Content-Type: type/subtype, and parameters.
func isMediaType(s string) bool {
	kind, _, err := mime.ParseMediaType(s)
	printable := !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
	return err == nil && strings.Contains(kind, "/") && printable && len(s) <= 255
}

// isVisible takes visible ASCII, without spaces.
func isVisible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// isHost takes a name or an address, with or without the brackets of IPv6.
func isHost(s string) bool {
	inner, bracketed := strings.CutPrefix(s, "[")
	if bracketed {
		inner, bracketed = strings.CutSuffix(inner, "]")
		return bracketed && strings.Contains(inner, ":") && net.ParseIP(inner) != nil
	}
	return len(s) < 254 && hostName.MatchString(s) || net.ParseIP(s) != nil
}

func isHostPort(s string, lowest int) bool {
	host, port, err := net.SplitHostPort(s)
	return err == nil && isHost(host) && isPort(port, lowest)
}

func isPort(s string, lowest int) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= lowest && n <= 65535 && s == strconv.Itoa(n)
}
