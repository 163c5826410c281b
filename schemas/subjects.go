package schemas

import (
	"errors"
	"fmt"
	"strings"
)

// The streams.
const (
	StreamFlows  = "EGW_FLOWS"
	StreamPolicy = "EGW_POLICY"
	StreamHosts  = "EGW_HOSTS"
	StreamDead   = "EGW_DEAD"
)

// The subjects of the streams, each with one token for a name.
const (
	SubjectFlows  = "egw.flows"
	SubjectPolicy = "egw.policy"
	SubjectHosts  = "egw.hosts"
	SubjectDead   = "egw.dead"
	SubjectAsk    = "egw.ask"
)

// CollectorPrefix begins the name of a collector, under which it appends host
// events of its own, so that nobody takes it for a host.
const CollectorPrefix = "collector@"

// FlowSubject carries the flows of a host.
func FlowSubject(host string) string { return SubjectFlows + "." + Token(host) }

// PolicySubject carries the events of a policy.
func PolicySubject(policy string) string { return SubjectPolicy + "." + Token(policy) }

// HostSubject carries the events of a host.
func HostSubject(host string) string { return SubjectHosts + "." + Token(host) }

// DeadSubject carries what a consumer could not deliver.
func DeadSubject(consumer string) string { return SubjectDead + "." + Token(consumer) }

// AskSubject reaches the named question of a host's enforcer.
func AskSubject(host, name string) string {
	return SubjectAsk + "." + Token(host) + "." + Token(name)
}

// ErrToken is returned for a token that Token never writes.
var ErrToken = errors.New("not a subject token")

const hexDigits = "0123456789ABCDEF"

// Token makes one subject token of any name, so that no name can reach another
// name's subject or a wildcard: letters, digits, - and _ stay, every other byte
// is =XX, and the empty name is a single =. Different names give different
// tokens; ParseToken is the way back.
func Token(name string) string {
	if name == "" {
		return "="
	}
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if plain(c) {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'=', hexDigits[c>>4], hexDigits[c&15]})
	}
	return b.String()
}

// ParseToken gives the name that Token was given, or ErrToken.
func ParseToken(token string) (string, error) {
	if token == "=" {
		return "", nil
	}
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		c := token[i]
		if plain(c) {
			b.WriteByte(c)
			continue
		}
		if c != '=' || i+2 >= len(token) {
			return "", fmt.Errorf("parse %q: %w", token, ErrToken)
		}
		high, low := strings.IndexByte(hexDigits, token[i+1]), strings.IndexByte(hexDigits, token[i+2])
		c = byte(high<<4 | low)
		if high < 0 || low < 0 || plain(c) {
			return "", fmt.Errorf("parse %q: %w", token, ErrToken)
		}
		b.WriteByte(c)
		i += 2
	}
	if b.Len() == 0 {
		return "", fmt.Errorf("parse %q: %w", token, ErrToken)
	}
	return b.String(), nil
}

// LastToken gives the name in the last token of a subject.
func LastToken(subject string) (string, error) {
	return ParseToken(subject[strings.LastIndexByte(subject, '.')+1:])
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}
