package collector

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// certificate is one that signs itself.
func certificate(t *testing.T, name string, until time.Time) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
	}
	if name == "" {
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		c.DNSNames = nil
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func newTestPoster(t *testing.T, target Target) *poster {
	t.Helper()
	config, err := target.loki()
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPoster("loki", config, newMetrics(nil))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFailuresOfTheConnectionNameTheCure(t *testing.T) {
	day := 24 * time.Hour
	good, goodPEM := certificate(t, "", time.Now().Add(day))
	expired, expiredPEM := certificate(t, "", time.Now().Add(-day))
	other, otherPEM := certificate(t, "loki.example.org", time.Now().Add(day))
	ca := func(text []byte) TLS { return TLS{CAFile: write(t, "ca", string(text))} }
	serve := func(c *tls.Config) string {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
		s.Config.ErrorLog = nil
		s.TLS = c
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.URL
	}
	with := func(c tls.Certificate) string { return serve(&tls.Config{Certificates: []tls.Certificate{c}}) }
	plain := newFakeLoki(t)
	closed := httptest.NewServer(nil)
	closed.Close()
	for name, c := range map[string]struct {
		target Target
		says   string
	}{
		"all is well":         {Target{URL: with(good), TLS: ca(goodPEM)}, ""},
		"expired":             {Target{URL: with(expired), TLS: ca(expiredPEM)}, "has expired"},
		"unknown authority":   {Target{URL: with(good)}, "set tls.ca_file"},
		"another name":        {Target{URL: with(other), TLS: ca(otherPEM)}, "set tls.server_name"},
		"wants a certificate": {Target{URL: serve(&tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert}), TLS: ca(goodPEM)}, "check tls.cert_file"},
		"no TLS there":        {Target{URL: strings.Replace(plain.URL, "http://", "https://user:hunter2@", 1)}, "use http://"},
		"nothing listens":     {Target{URL: closed.URL}, "nothing listens there"},
		"no password file":    {Target{URL: plain.URL, BasicAuth: BasicAuth{"u", "/nowhere/password"}}, "check the file"},
		"no such name":        {Target{URL: "http://loki.invalid:3100"}, "loki.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newTestPoster(t, c.target)
			a := p.post(t.Context(), `{a="b"}`, []Entry{{TimeNs: 1, Line: "x"}})
			if c.says == "" {
				if !a.ok() {
					t.Fatalf("got %+v", a)
				}
				return
			}
			if text := p.diagnose(a); !strings.Contains(text, c.says) || strings.Contains(text, "hunter2") {
				t.Errorf("says %s, want %q", text, c.says)
			}
		})
	}
}
