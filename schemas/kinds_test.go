package schemas

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// kinds are those of host events, by their constants.
func kinds(t *testing.T) []string {
	t.Helper()
	all := literals(t, "kinds.go")
	slices.Sort(all)
	return all
}

// literals are the texts in a Go file.
func literals(t *testing.T, path string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	ast.Inspect(file, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
			text, err := strconv.Unquote(l.Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, text)
		}
		return true
	})
	return all
}

func TestEachHostEventIsDocumentedOnce(t *testing.T) {
	text, err := os.ReadFile("../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(text), "\n## Host events\n")
	part, _, _ = strings.Cut(part, "\n\n`outbox.full`")
	var documented []string
	word := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(part) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, m := range word.FindAllStringSubmatch(cells[1], -1) {
			documented = append(documented, m[1])
		}
	}
	slices.Sort(documented)
	if diff := cmp.Diff(kinds(t), documented); diff != "" {
		t.Errorf("kinds of host events, -in kinds.go +in the table of docs/OPERATIONS.md:\n%s", diff)
	}
}

func TestKindsAreWrittenInOnePlace(t *testing.T) {
	known := kinds(t)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != ".." {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || filepath.Base(path) == "kinds.go" {
			return nil
		}
		for _, text := range literals(t, path) {
			if slices.Contains(known, text) {
				t.Errorf("%s has %q: use the constant of schemas", path, text)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
