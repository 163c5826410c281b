package collector

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/grafana/loki-client-go/loki"
	"github.com/prometheus/common/config"
)

// Target is one sink, with its own place in the events.
type Target struct {
	// Name is the target's in metrics and dead letters; its place in the events
	// is kept under it. Empty is loki, file or stdout.
	Name string `yaml:"name"`
	// URL is Loki's, File a file to append to, Stdout the standard output: one
	// of them.
	URL    string `yaml:"url"`
	File   string `yaml:"file"`
	Stdout bool   `yaml:"stdout"`
	// Tenant is Loki's X-Scope-OrgID.
	Tenant          string            `yaml:"tenant"`
	BasicAuth       BasicAuth         `yaml:"basic_auth"`
	BearerTokenFile string            `yaml:"bearer_token_file"`
	TLS             TLS               `yaml:"tls"`
	Headers         map[string]string `yaml:"headers"`
	// HeaderFiles are headers whose values lie in files.
	HeaderFiles map[string]string `yaml:"header_files"`
	// SinceHours is how far back a new target begins; 0 is as far as Loki takes
	// by default, and everything for a file. -1 is everything.
	SinceHours float64 `yaml:"since_hours"`
}

// BasicAuth is a user and the file with the password.
type BasicAuth struct {
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
}

// TLS says whom to trust and who we are.
type TLS struct {
	CAFile     string `yaml:"ca_file"`
	CertFile   string `yaml:"cert_file"`
	KeyFile    string `yaml:"key_file"`
	ServerName string `yaml:"server_name"`
}

const (
	pushPath = "/loki/api/v1/push"
	// lokiAge is what Loki takes by default (reject_old_samples_max_age), less
	// what it takes to get there.
	lokiAge     = 167 * time.Hour
	pushTimeout = 30 * time.Second
)

func (t Target) name() string {
	switch {
	case t.Name != "":
		return t.Name
	case t.URL != "":
		return "loki"
	case t.File != "":
		return "file"
	}
	return "stdout"
}

// consumer is the durable name in the streams.
func (t Target) consumer() string { return "collector-" + t.name() }

// since is from when on a new target gets events; zero is all.
func (t Target) since(now time.Time) time.Time {
	switch {
	case t.SinceHours > 0:
		return now.Add(-time.Duration(t.SinceHours * float64(time.Hour)))
	case t.SinceHours == 0 && t.URL != "":
		return now.Add(-lokiAge)
	}
	return time.Time{}
}

// mostSince are ten years, in hours.
const mostSince = 87_600

var targetName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (t Target) validate() error {
	var errs []error
	if !targetName.MatchString(t.name()) {
		errs = append(errs, fmt.Errorf("name: %q: want letters, digits, - and _", t.Name))
	}
	n := 0
	for _, is := range []bool{t.URL != "", t.File != "", t.Stdout} {
		if is {
			n++
		}
	}
	if n != 1 {
		errs = append(errs, errors.New("want one of url, file and stdout"))
	}
	if t.SinceHours != -1 && !(t.SinceHours >= 0 && t.SinceHours <= mostSince) {
		errs = append(errs, fmt.Errorf("since_hours: %g: want 1 to %d, -1 for all, or 0 for the default", t.SinceHours, mostSince))
	}
	if t.URL != "" {
		if _, err := t.loki(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// loki is the target as the client package knows it.
func (t Target) loki() (loki.Config, error) {
	address, err := t.PushURL()
	if err != nil {
		return loki.Config{}, err
	}
	c, err := loki.NewDefaultConfig(address.String())
	if err != nil {
		return loki.Config{}, fmt.Errorf("url: %w", withoutURL(err))
	}
	if strings.ContainsAny(t.Tenant, "\r\n") {
		return loki.Config{}, errors.New("tenant: must be one line")
	}
	c.TenantID, c.Timeout = t.Tenant, pushTimeout
	c.Client = config.HTTPClientConfig{ProxyConfig: config.ProxyConfig{ProxyFromEnvironment: true}}
	c.Client.TLSConfig = config.TLSConfig{
		CAFile: t.TLS.CAFile, CertFile: t.TLS.CertFile, KeyFile: t.TLS.KeyFile, ServerName: t.TLS.ServerName,
	}
	if t.BasicAuth != (BasicAuth{}) {
		if t.BasicAuth.Username == "" || t.BasicAuth.PasswordFile == "" {
			return loki.Config{}, errors.New("basic_auth: want username and password_file")
		}
		c.Client.BasicAuth = &config.BasicAuth{Username: t.BasicAuth.Username, PasswordFile: t.BasicAuth.PasswordFile}
	}
	if t.BearerTokenFile != "" {
		c.Client.Authorization = &config.Authorization{Type: "Bearer", CredentialsFile: t.BearerTokenFile}
	}
	if c.Client.HTTPHeaders, err = t.httpHeaders(); err != nil {
		return loki.Config{}, err
	}
	if c.URL.User != nil && (c.Client.BasicAuth != nil || c.Client.Authorization != nil) {
		return loki.Config{}, errors.New("url: has a user, beside basic_auth or bearer_token_file: use one of them")
	}
	if err := c.Client.Validate(); err != nil {
		return loki.Config{}, err
	}
	return c, nil
}

// errURL does not quote: the text may hold a password anywhere.
var errURL = errors.New("url: want http(s)://HOST:PORT, as http://loki:3100")

// PushURL is the complete address of the push API; URL may name Loki alone. An
// error does not hold the address's password.
func (t Target) PushURL() (*url.URL, error) {
	u, err := url.Parse(t.URL)
	if err != nil && !strings.Contains(t.URL, "://") {
		return nil, errURL // HOST:PORT alone is told as a path
	}
	if err != nil {
		return nil, fmt.Errorf("url: %w", withoutURL(err))
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Fragment != "" {
		return nil, errURL
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = pushPath
	}
	return u, nil
}

// withoutURL is a parser's error without the address, which may hold a password.
func withoutURL(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// ours are headers that the collector sets itself.
var ours = map[string]string{
	"Authorization": "basic_auth or bearer_token_file", "X-Scope-Orgid": "tenant",
	"Content-Type": "nothing", "Content-Encoding": "nothing", "Content-Length": "nothing", "Host": "tls.server_name",
}

func (t Target) httpHeaders() (*config.Headers, error) {
	if len(t.Headers)+len(t.HeaderFiles) == 0 {
		return nil, nil
	}
	all := map[string]config.Header{}
	for name, value := range t.Headers {
		all[name] = config.Header{Values: []string{value}}
	}
	for name, file := range t.HeaderFiles {
		all[name] = config.Header{Values: all[name].Values, Files: []string{file}}
	}
	for name := range all {
		if instead, is := ours[http.CanonicalHeaderKey(name)]; is {
			return nil, fmt.Errorf("headers: %s is the collector's own: use %s", name, instead)
		}
	}
	return &config.Headers{Headers: all}, nil
}
