package collector

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"
)

// check opens the target's files.
func (t Target) check() error {
	errs := []error{
		checkSecret("basic_auth.password_file", t.BasicAuth.PasswordFile),
		checkSecret("bearer_token_file", t.BearerTokenFile),
		checkCA("tls.ca_file", t.TLS.CAFile),
		checkPair("tls", t.TLS.CertFile, t.TLS.KeyFile),
	}
	for name, file := range t.HeaderFiles {
		errs = append(errs, checkSecret("header_files."+name, file))
	}
	if t.File != "" {
		f, err := openFile(t.File)
		if err == nil {
			err = f.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkSecret tells whether a file, if named, can be read and says something.
func checkSecret(key, file string) error {
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return fmt.Errorf("%s: %s is empty", key, file)
	}
	return nil
}

func checkCA(key, file string) error {
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(text) {
		return fmt.Errorf("%s: %s holds no certificate in PEM", key, file)
	}
	return nil
}

// checkPair tells whether a certificate and its key, if named, belong together
// and are valid now.
func checkPair(key, certFile, keyFile string) error {
	if certFile == "" && keyFile == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return fmt.Errorf("%s.cert_file and key_file: %w", key, err)
	}
	if now := time.Now(); now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore) {
		return fmt.Errorf("%s.cert_file: %s is valid from %s to %s alone: renew it", key, certFile,
			pair.Leaf.NotBefore.UTC().Format(time.DateOnly), pair.Leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	return nil
}
