package eventlog

import (
	"fmt"
	"os"

	"github.com/nats-io/jwt/v2"
)

// CredentialName is the name of the user in a credentials file.
func CredentialName(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read credentials: %w", err)
	}
	token, err := jwt.ParseDecoratedJWT(text)
	if err != nil {
		return "", fmt.Errorf("read credentials %s: %w", file, err)
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return "", fmt.Errorf("read credentials %s: %w", file, err)
	}
	if claims.Name == "" {
		return claims.Subject, nil
	}
	return claims.Name, nil
}
