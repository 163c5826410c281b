package eventlog

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

func TestCredentialNameIsTheUsersOrItsKey(t *testing.T) {
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"ops": "ops", "": public} {
		claims := jwt.NewUserClaims(public)
		claims.Name = name
		token, err := claims.Encode(account)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.FormatUserConfig(token, seed)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "ops.creds")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := CredentialName(file); err != nil || got != want {
			t.Errorf("name %q: got %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := CredentialName(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file has a name")
	}
}
