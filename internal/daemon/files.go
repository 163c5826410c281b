package daemon

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"
)

// CheckSecret tells whether a file, if named, can be read and says something.
func CheckSecret(key, file string) error {
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

// CheckAuthorities tells whether a file, if named, holds certificates.
func CheckAuthorities(key, file string) error {
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

// CheckPair tells whether a certificate and its key, if named, belong together
// and are valid now. The key is that of the map which both are in.
func CheckPair(key, certFile, keyFile string) error {
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
