package vmtest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestArchive(t *testing.T) {
	var b bytes.Buffer
	a := newArchive(&b)
	a.file("a/b/c.txt", 0o644, []byte("hello"))
	a.file("a/b/init", 0o755, []byte("12345678"))
	a.dir("a")
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	want := []string{"40755 dev ", "40755 proc ", "40755 sys ", "40755 tmp ", "40755 run ", "40755 root ", "40755 a ", "40755 a/b ", "100644 a/b/c.txt hello", "100755 a/b/init 12345678", "0 TRAILER!!! "}
	if diff := cmp.Diff(want, entries(t, b.Bytes())); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestArchiveTellsOfAFileThatIsMissing(t *testing.T) {
	a := newArchive(&bytes.Buffer{})
	a.copy("init", 0o755, "/nonexistent/init")
	a.file("more", 0o644, nil)
	if err := a.close(); err == nil {
		t.Error("no error")
	}
}

// entries reads an archive as the kernel does.
func entries(t *testing.T, b []byte) []string {
	t.Helper()
	var all []string
	round := func(n int) int { return (n + 3) &^ 3 }
	for at := 0; at < len(b); {
		var f [13]int
		if magic := string(b[at : at+6]); magic != "070701" {
			t.Fatalf("magic %q at %d", magic, at)
		}
		for i := range f {
			if _, err := fmt.Sscanf(string(b[at+6+8*i:at+14+8*i]), "%X", &f[i]); err != nil {
				t.Fatal(err)
			}
		}
		mode, size, nameSize := f[1], f[6], f[11]
		name := string(b[at+110 : at+110+nameSize-1])
		data := round(at + 110 + nameSize)
		all = append(all, fmt.Sprintf("%o %s %s", mode, name, b[data:data+size]))
		at = round(data + size)
	}
	return all
}
