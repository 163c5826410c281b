package eventlog

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// loadToken reads the token, or makes one where there is no file.
func loadToken(path string) (string, error) {
	if path == "" {
		return "", errors.New("a server that listens needs a token file")
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return makeToken(path)
	}
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("read token %s: the file is empty", path)
	}
	return token, nil
}

func makeToken(path string) (string, error) {
	token := rand.Text()
	f, err := os.CreateTemp(filepath.Dir(path), ".token-*") // 0600
	if err != nil {
		return "", fmt.Errorf("make token: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(token + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("make token %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return "", fmt.Errorf("make token: %w", err)
	}
	return token, nil
}

// tokenCheck asks clients from the network for the token; those that came
// through the process or the socket have been let in already.
type tokenCheck string

// Check is the NATS server's question whether a client may connect.
func (t tokenCheck) Check(c server.ClientAuthentication) bool {
	if addr := c.RemoteAddress(); addr != nil && addr.Network() == "pipe" {
		return true
	}
	return t != "" && subtle.ConstantTimeCompare([]byte(c.GetOpts().Token), []byte(t)) == 1
}
