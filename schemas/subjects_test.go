package schemas

import (
	"strings"
	"testing"
)

func TestTokensKeepOddNamesApart(t *testing.T) {
	for name, want := range map[string]string{
		"shop/web": "shop=2Fweb", "*": "=2A", ">": "=3E", "a.b": "a=2Eb", "": "=", "=": "=3D", "a b\n": "a=20b=0A",
		"web-1_x": "web-1_x", "é": "=C3=A9",
	} {
		if got := Token(name); got != want {
			t.Errorf("Token(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestWhatTokenNeverWritesIsRefused(t *testing.T) {
	for _, token := range []string{"", "a.b", "*", "a=", "a=4", "a=zz", "=41", "=2a", "a b", "=="} {
		if name, err := ParseToken(token); err == nil {
			t.Errorf("ParseToken(%q) = %q, want an error", token, name)
		}
	}
}

func FuzzTokenRoundTrip(f *testing.F) {
	for _, name := range []string{"", "=", "shop/web", "*", ">", "a.b", "\xff\x00", "=41", "ñ"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		token := Token(name)
		if token == "" || strings.ContainsAny(token, ".*> \t\r\n\x00") {
			t.Fatalf("Token(%q) = %q is not one token", name, token)
		}
		back, err := ParseToken(token)
		if err != nil || back != name {
			t.Fatalf("Token(%q) = %q comes back as %q, %v", name, token, back, err)
		}
		if back, err := ParseToken(name); err == nil && Token(back) != name {
			t.Fatalf("ParseToken(%q) = %q, whose token is %q", name, back, Token(back))
		}
	})
}
