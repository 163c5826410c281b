package enforcer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFolderNamesPolicies(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "web.rules", "192.0.2.0/24\n")
	write(t, dir, "shop/api.rules", "192.0.2.1 tcp/443\n")
	write(t, dir, "%2A.rules", "deny 169.254.169.254\n")
	write(t, dir, "README", "not a policy")
	files, err := readFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, f := range files {
		if f.Err != nil {
			t.Errorf("%s: %v", f.Path, f.Err)
		}
		got[f.Policy] = len(f.Rules)
	}
	for _, name := range []string{"web", "shop/api", "*"} {
		if got[name] != 1 {
			t.Errorf("policy %q has %d rules, want 1 (all: %v)", name, got[name], got)
		}
	}
	if len(got) != 3 {
		t.Errorf("policies %v, want three", got)
	}
}

func TestABrokenFileIsNamedAndAlone(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "good.rules", "192.0.2.0/24\n")
	write(t, dir, "bad.rules", "192.0.2.0/24\n10.0.0.1/8\n")
	files, err := readFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Policy == "good" && f.Err != nil {
			t.Errorf("the good file suffers: %v", f.Err)
		}
		if f.Policy == "bad" && (f.Err == nil || !strings.Contains(f.Err.Error(), "bad.rules:2:")) {
			t.Errorf("error %v does not name file and line", f.Err)
		}
	}
}

func TestAMissingFolderIsEmptyAndAnUnreadableOneAnError(t *testing.T) {
	files, err := readFolder(filepath.Join(t.TempDir(), "none"))
	if err != nil || len(files) != 0 {
		t.Errorf("missing folder: %v, %v", files, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	write(t, filepath.Dir(file), "file", "")
	if _, err := readFolder(filepath.Join(file, "below")); err == nil {
		t.Error("a folder below a file is no error")
	}
}

func TestAFileIsNoFolderOfPoliciesAndALinkToAFolderIs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"file", "file.rules"} {
		write(t, dir, name, "192.0.2.0/24\n")
		if files, err := readFolder(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s: %v and no error", name, files)
		}
	}
	write(t, dir, "policies/shop/api.rules", "192.0.2.0/24\n")
	link := filepath.Join(dir, "link")
	if err := os.Symlink("policies", link); err != nil {
		t.Fatal(err)
	}
	files, err := readFolder(link)
	if err != nil || len(files) != 1 || files[0].Policy != "shop/api" || files[0].Path != filepath.Join(link, "shop/api.rules") {
		t.Errorf("files of a linked folder: %+v, %v", files, err)
	}
}
