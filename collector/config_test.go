package collector

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/schemas"
)

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigErrorsNameTheKeyAndNoSecret(t *testing.T) {
	const secret = "hunter2"
	for name, c := range map[string]struct{ text, says string }{
		"no targets":         {"{}", "targets: name at least one"},
		"unknown key":        {"target: []", "unknown key target"},
		"secret as a value":  {"targets: [{url: 'http://l', basic_auth: hunter2}]", "want keys with values"},
		"not http":           {"targets: [{url: 'ftp://u:hunter2@l'}]", "want http(s)://HOST:PORT"},
		"no address":         {"targets: [{url: 'http://u:hunter2@l:port'}]", "invalid port"},
		"two sinks":          {"targets: [{url: 'http://l', file: /x}]", "want one of url, file and stdout"},
		"no sink":            {"targets: [{name: x}]", "want one of url, file and stdout"},
		"one name twice":     {"targets: [{url: 'http://l'}, {url: 'http://m'}]", `targets[1].name: "loki" is there twice`},
		"one file twice":     {"targets: [{file: /x/y}, {name: b, file: /x//y}]", "targets[1].file: /x//y is that of targets[0] too"},
		"a name with spaces": {"targets: [{name: 'a b', url: 'http://l'}]", "letters, digits"},
		"half a user":        {"targets: [{url: 'http://l', basic_auth: {username: u}}]", "username and password_file"},
		"user twice":         {"targets: [{url: 'http://u:hunter2@l', bearer_token_file: /t}]", "use one of them"},
		"password and token": {"targets: [{url: 'http://l', basic_auth: {username: u, password_file: /p}, bearer_token_file: /t}]", "at most one"},
		"our header":         {"targets: [{url: 'http://l', headers: {x-scope-orgid: t}}]", "use tenant"},
		"a host's name":      {"name: web-1\ntargets: [{stdout: true}]", "must begin with collector@"},
		"metrics for all":    {"listen_metrics: 0.0.0.0:1\ntargets: [{stdout: true}]", "loopback"},
		"takeover too soon":  {"takeover_seconds: 0.1\ntargets: [{stdout: true}]", "takeover_seconds"},
		"takeover never":     {"takeover_seconds: .nan\ntargets: [{stdout: true}]", "takeover_seconds"},
		"since the future":   {"targets: [{stdout: true, since_hours: -5}]", "since_hours"},
		"no scheme":          {"targets: [{url: 'admin:hunter2@l:3100'}]", "want http(s)://HOST:PORT"},
		"an address alone":   {"targets: [{url: '192.0.2.1:3100'}]", "want http(s)://HOST:PORT"},
		"scheme cut short":   {"targets: [{url: 'https:/admin:hunter2@l:3100'}]", "want http(s)://HOST:PORT"},
		"no server":          {"nats: {url: 'foo://hunter2@l'}\ntargets: [{stdout: true}]", "nats.url"},
		"half a certificate": {"nats: {cert_file: /c}\ntargets: [{stdout: true}]", "belong together"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := LoadConfig(write(t, "c.yaml", c.text))
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want %q", err, c.says)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the secret is told: %v", err)
			}
		})
	}
}

func TestOneTargetTakesThePlaceOfAll(t *testing.T) {
	want := Target{Stdout: true}
	for name, text := range map[string]string{
		"none": "name: collector@x", "some": "name: collector@x\ntargets: [{url: 'http://l'}]", "wrong ones": "name: collector@x\ntargets: [{url: 'ftp://l'}]",
	} {
		cfg, err := LoadConfigFor(write(t, "c.yaml", text), want)
		if err != nil || cfg.Name != "collector@x" || len(cfg.Targets) != 1 || !cfg.Targets[0].Stdout {
			t.Errorf("%s: %+v, %v", name, cfg, err)
		}
	}
	if cfg, err := LoadConfigFor("/nowhere/c.yaml", want); err != nil || cfg.Name != DefaultName() {
		t.Errorf("without a file: %+v, %v", cfg, err)
	}
	for _, text := range []string{"nam: x", "listen_metrics: 0.0.0.0:1"} {
		if _, err := LoadConfigFor(write(t, "c.yaml", text), want); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

func TestCheckOpensTheFiles(t *testing.T) {
	good := write(t, "secret", "x\n")
	for name, c := range map[string]struct {
		target Target
		says   string
	}{
		"all there":        {Target{URL: "http://l", BasicAuth: BasicAuth{"u", good}}, ""},
		"no password file": {Target{URL: "http://l", BasicAuth: BasicAuth{"u", "/nowhere"}}, "basic_auth.password_file"},
		"an empty token":   {Target{URL: "http://l", BearerTokenFile: write(t, "empty", "\n")}, "is empty"},
		"no authority":     {Target{URL: "http://l", TLS: TLS{CAFile: good}}, "no certificate in PEM"},
		"no key":           {Target{URL: "http://l", TLS: TLS{CertFile: good}}, "tls.cert_file and key_file"},
		"no header":        {Target{URL: "http://l", HeaderFiles: map[string]string{"X-Key": "/nowhere"}}, "header_files.X-Key"},
		"a foreign file":   {Target{File: write(t, "notes", "my notes\n")}, "not a file of the collector's"},
	} {
		cfg := DefaultConfig()
		cfg.Targets = []Target{c.target}
		err := cfg.Check()
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: got %v, want %q", name, err, c.says)
		}
	}
}

func TestCheckLeavesTheTargetsFileAlone(t *testing.T) {
	const text = "{\"time\":1}\n{\"half a li"
	path := write(t, "events", text)
	check := func(path string) error {
		cfg := DefaultConfig()
		cfg.Targets = []Target{{File: path}}
		return cfg.Check()
	}
	if err := check(path); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != text {
		t.Errorf("%v, afterwards it holds %q", err, got)
	}
	atWork, err := openFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer atWork.Close()
	if err := check(path); err != nil {
		t.Errorf("while a collector writes it: %v", err)
	}
	none := filepath.Join(t.TempDir(), "none")
	if err := check(none); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("it has made the file")
	}
	for _, bad := range []string{filepath.Join(none, "x"), t.TempDir()} {
		if err := check(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := check(link); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a link: %v", err)
	}
}

func TestTheShippedConfigurationIsRight(t *testing.T) {
	if _, err := LoadConfig("../deploy/collector.yaml"); err != nil {
		t.Error(err)
	}
}

func TestTheAddressIsCompleted(t *testing.T) {
	for given, want := range map[string]string{
		"http://l:3100": "http://l:3100/loki/api/v1/push", "https://l/": "https://l/loki/api/v1/push",
		"https://l/gateway/push?x=1": "https://l/gateway/push?x=1",
	} {
		got, err := Target{URL: given}.PushURL()
		if err != nil || got.String() != want {
			t.Errorf("%s becomes %v, %v; want %s", given, got, err, want)
		}
	}
}

func TestCredentialsTenantAndHeadersGoAlong(t *testing.T) {
	secret, key := write(t, "secret", "s3cret\n"), write(t, "key", "k\n")
	for name, c := range map[string]struct {
		target        Target
		authorization string
	}{
		"password": {Target{BasicAuth: BasicAuth{"user", secret}}, "Basic dXNlcjpzM2NyZXQ="},
		"token":    {Target{BearerTokenFile: secret}, "Bearer s3cret"},
	} {
		t.Run(name, func(t *testing.T) {
			b, f := newBench(t), newFakeLoki(t)
			c.target.URL, c.target.Tenant = f.URL, "team-a"
			c.target.Headers, c.target.HeaderFiles = map[string]string{"X-Site": "s"}, map[string]string{"X-Key": key}
			b.publish(0, 1, 1)
			b.collect(c.target)
			f.wantIDs(flowLabels, idsBut(1))
			f.mu.Lock()
			defer f.mu.Unlock()
			for name, want := range map[string]string{
				"Authorization": c.authorization, "X-Scope-Orgid": "team-a", "X-Site": "s", "X-Key": "k",
				"Content-Type": "application/x-protobuf",
			} {
				if got := f.header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestANewTargetBeginsWhereLokiTakes(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		target Target
		want   time.Time
	}{
		{Target{URL: "http://l"}, now.Add(-lokiAge)},
		{Target{URL: "http://l", SinceHours: -1}, time.Time{}},
		{Target{URL: "http://l", SinceHours: 0.5}, now.Add(-30 * time.Minute)},
		{Target{File: "/f"}, time.Time{}},
	} {
		if got := c.target.since(now); !got.Equal(c.want) {
			t.Errorf("%+v begins %v, want %v", c.target, got, c.want)
		}
	}
}

func TestAnyNameBecomesALabelThatLokiTakes(t *testing.T) {
	long := strings.Repeat("é", 2000)
	values := map[string]bool{}
	for _, name := range []string{"a", "a\xffb", `a"b\` + "\n", long, long + "x"} {
		v := labelValue(name)
		if len(v) > mostLabel || v == "" || strings.ToValidUTF8(v, "") != v {
			t.Errorf("%.20q becomes %.20q of %d bytes", name, v, len(v))
		}
		if values[v] {
			t.Errorf("%.20q is another's too", v)
		}
		values[v] = true
	}
	if got := (Labels{Service: ServiceHosts, Host: `a"b`}).String(); got != `{host="a\"b", service_name="egresswarden-host"}` {
		t.Errorf("labels are %s", got)
	}
}

func TestRetryAfterIsReadAndBounded(t *testing.T) {
	at := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	for text, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-1": 0, "x": 0, "999999": mostRetryAfter, at: mostRetryAfter} {
		if got := retryAfter(text); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}

func TestControlIsAWordOfTheSchema(t *testing.T) {
	if schemas.ReasonControl != "control" {
		t.Error("fakeLoki and the documents know it as control")
	}
}
