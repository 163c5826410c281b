package eventlog

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
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// authority makes certificates for the test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{dir: t.TempDir()}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	var certFile string
	a.key, certFile, _ = a.issue(t, "ca", a.cert)
	a.file = certFile
	return a
}

// issue signs a certificate and writes it and its key into files.
func (a *authority) issue(t *testing.T, name string, c *x509.Certificate) (*ecdsa.PrivateKey, string, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, a.write(t, name+".crt", "CERTIFICATE", der), a.write(t, name+".key", "PRIVATE KEY", keyDER)
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (a *authority) leaf(t *testing.T, name string) (certFile, keyFile string) {
	_, certFile, keyFile = a.issue(t, name, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return certFile, keyFile
}

// startForeign runs a plain NATS server as others run theirs.
func startForeign(t *testing.T, o *server.Options) *server.Server {
	t.Helper()
	o.Host, o.Port, o.JetStream, o.StoreDir, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, t.TempDir(), true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(testDeadline) {
		t.Fatal("foreign server is not ready")
	}
	return s
}

func TestATLSServerIsCheckedAndWantsOurCertificate(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	certFile, keyFile := ours.leaf(t, "server")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	text, err := os.ReadFile(ours.file)
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatal("no authority", err)
	}
	s := startForeign(t, &server.Options{TLS: true, TLSVerify: true, TLSTimeout: testDeadline.Seconds(), TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}})
	url := "tls://" + s.Addr().String()
	good := Options{URL: url, CAFile: ours.file}
	good.CertFile, good.KeyFile = ours.leaf(t, "client")
	l := connect(t, good)
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	write(t, w, 0, 200, 10)
	flush(t, w)
	wantFlows(t, l, 200)
	if _, err := l.AppendPolicy(testContext(t), modeSet("p", 0), 0); err != nil {
		t.Errorf("append to a server without our sync: %v", err)
	}

	strange, anonymous := good, good
	strange.CertFile, strange.KeyFile = theirs.leaf(t, "client")
	anonymous.CertFile, anonymous.KeyFile = "", ""
	for name, o := range map[string]Options{
		"server of unknown authority": {URL: url, CAFile: theirs.file, CertFile: good.CertFile, KeyFile: good.KeyFile},
		"system's authorities":        {URL: url, CertFile: good.CertFile, KeyFile: good.KeyFile},
		"strange client":              strange,
		"client without certificate":  anonymous,
		"no such file":                {URL: url, CAFile: "/nowhere/ca.crt"},
	} {
		if l, err := Connect(testContext(t), o); err == nil {
			l.Close()
			t.Errorf("%s: connected", name)
		}
	}
}

// operatorMode sets up accounts by JWT and gives a user's credentials file.
func operatorMode(t *testing.T, o *server.Options) string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	operator, err := nkeys.CreateOperator()
	must(err)
	account, err := nkeys.CreateAccount()
	must(err)
	user, err := nkeys.CreateUser()
	must(err)
	operatorKey, err := operator.PublicKey()
	must(err)
	accountKey, err := account.PublicKey()
	must(err)
	userKey, err := user.PublicKey()
	must(err)

	operatorText, err := jwt.NewOperatorClaims(operatorKey).Encode(operator)
	must(err)
	operatorClaims, err := jwt.DecodeOperatorClaims(operatorText)
	must(err)
	accountClaims := jwt.NewAccountClaims(accountKey)
	accountClaims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	accountText, err := accountClaims.Encode(operator)
	must(err)
	resolver := &server.MemAccResolver{}
	must(resolver.Store(accountKey, accountText))
	o.TrustedOperators, o.AccountResolver = []*jwt.OperatorClaims{operatorClaims}, resolver
	system, err := nkeys.CreateAccount()
	must(err)
	systemKey, err := system.PublicKey()
	must(err)
	systemText, err := jwt.NewAccountClaims(systemKey).Encode(operator)
	must(err)
	must(resolver.Store(systemKey, systemText))
	o.SystemAccount = systemKey

	userText, err := jwt.NewUserClaims(userKey).Encode(account)
	must(err)
	seed, err := user.Seed()
	must(err)
	creds, err := jwt.FormatUserConfig(userText, seed)
	must(err)
	path := filepath.Join(t.TempDir(), "user.creds")
	must(os.WriteFile(path, creds, 0o600))
	return path
}

func TestACredentialsFileOpensAnExternalServer(t *testing.T) {
	var o server.Options
	creds := operatorMode(t, &o)
	url := "nats://" + startForeign(t, &o).Addr().String()
	l := connect(t, Options{URL: url, CredsFile: creds})
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	write(t, w, 0, 200, 10)
	flush(t, w)
	wantFlows(t, l, 200)
	for name, o := range map[string]Options{
		"none":         {URL: url},
		"no such file": {URL: url, CredsFile: "/nowhere/user.creds"},
		"a token":      {URL: url, Token: "x"},
	} {
		if l, err := Connect(testContext(t), o); err == nil {
			l.Close()
			t.Errorf("credentials %s: connected", name)
		}
	}
}
