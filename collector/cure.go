package collector

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
)

// diagnose says what is wrong and names the cure. The text is the same for the
// same trouble, so that it is logged once.
func (p *poster) diagnose(a answer) string {
	at := p.config.URL.Redacted()
	if a.err != nil {
		return fmt.Sprintf("Loki at %s cannot be reached: %s", at, transportCure(a.err))
	}
	text := fmt.Sprintf("Loki at %s answers %d", at, a.status)
	if a.status != http.StatusTooManyRequests { // its text has changing numbers
		if body := a.shortBody(); body != "" {
			text += fmt.Sprintf(" (%q)", body)
		}
	}
	return text + ": " + statusCure(a)
}

func statusCure(a answer) string {
	tenant := strings.Contains(a.body, "no org id") || strings.Contains(strings.ToLower(a.body), "tenant")
	switch {
	case tenant && a.status/100 == 4:
		return "the tenant is missing or wrong: set tenant"
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		return "the credentials are wrong: check basic_auth, bearer_token_file, headers and tenant"
	case a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed:
		return "there is no push API at this address: url must be http(s)://HOST:PORT, or end with /loki/api/v1/push"
	case a.status/100 == 3:
		return fmt.Sprintf("it redirects to %q, and a redirect proves nothing: set url to where the push API is", redacted(a.location))
	case a.status/100 == 2:
		return "only 204 proves a delivery: this is no Loki, or ingestion is blocked there; check url"
	case a.status == http.StatusTooManyRequests:
		return "Loki's limit is met; if this lasts raise ingestion_rate_mb, per_stream_rate_limit or max_global_streams_per_user in its limits_config"
	case a.status == http.StatusInsufficientStorage || strings.Contains(a.body, "no space left"):
		return "Loki's disk is full: make room there"
	case a.refused():
		return "it refuses even an ordinary entry, or the answer is not Loki's own: look at the proxy before it, and at Loki's limits_config"
	case a.fault():
		return "Loki or the proxy before it is in trouble: look at its log"
	}
	return "this answer is not known: check url"
}

func redacted(location string) string {
	u, err := url.Parse(location)
	if err != nil {
		return ""
	}
	return u.Redacted()
}

func transportCure(err error) string {
	var (
		invalid   x509.CertificateInvalidError
		unknown   x509.UnknownAuthorityError
		name      x509.HostnameError
		op        *net.OpError
		record    tls.RecordHeaderError
		dns       *net.DNSError
		path      *os.PathError
		transport *url.Error
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("its certificate has expired or is not valid yet (%s to %s): renew it there, and check the clocks",
			invalid.Cert.NotBefore.UTC().Format("2006-01-02"), invalid.Cert.NotAfter.UTC().Format("2006-01-02"))
	case errors.As(err, &unknown):
		return "its certificate is of an unknown authority: set tls.ca_file"
	case errors.As(err, &name):
		return "its certificate is for another name: check url, or set tls.server_name"
	case errors.As(err, &op) && op.Op == "remote error":
		return fmt.Sprintf("it refuses the TLS connection (%v): check tls.cert_file and tls.key_file, and whether they have expired", op.Err)
	case errors.As(err, &record):
		return "it does not speak TLS: use http:// in url"
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %s is not known: check url", dns.Name)
	case errors.As(err, &path):
		return fmt.Sprintf("a secret cannot be read (%v): check the file", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: check url, and whether Loki runs"
	case errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err):
		return "no answer in time: check the network and Loki's load"
	case errors.As(err, &transport):
		err = transport.Err // without the address, which has been said
	}
	if strings.Contains(err.Error(), "HTTP response to HTTPS client") {
		return "it does not speak TLS: use http:// in url"
	}
	return err.Error()
}
