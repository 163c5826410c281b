package daemon

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	quotedValue = regexp.MustCompile("`[^`]*`")
	wrongType   = regexp.MustCompile(`^line (\d+): cannot unmarshal !!(\w+) (?:` + "`[^`]*`" + ` )?into (.+)$`)
	unknownKey  = regexp.MustCompile(`^line (\d+): field (.*) not found in type \S+$`)
	keyOfLine   = regexp.MustCompile(`^[\s{-]*([a-z0-9_]+):(\s|$)`)
)

// readable is a decoder's error in words of the file, not of the program. It
// holds no values: one may be a secret in the wrong place.
func readable(err error, text []byte) error {
	var wrong *yaml.TypeError
	if !errors.As(err, &wrong) {
		return errors.New(quotedValue.ReplaceAllString(err.Error(), "`...`"))
	}
	lines := strings.Split(string(text), "\n")
	var errs []error
	for _, one := range wrong.Errors {
		errs = append(errs, errors.New(quotedValue.ReplaceAllString(inWords(one, lines), "`...`")))
	}
	return errors.Join(errs...)
}

func inWords(one string, lines []string) string {
	if m := unknownKey.FindStringSubmatch(one); m != nil {
		return fmt.Sprintf("line %s: unknown key %s: see docs/OPERATIONS.md for those that there are", m[1], m[2])
	}
	m := wrongType.FindStringSubmatch(one)
	if m == nil {
		return one
	}
	key := ""
	if n, err := strconv.Atoi(m[1]); err == nil && n >= 1 && n <= len(lines) {
		if k := keyOfLine.FindStringSubmatch(lines[n-1]); k != nil {
			key = k[1] + ": "
		}
	}
	return fmt.Sprintf("line %s: %swant %s, have %s", m[1], key, goWords(m[3]), tagWords(m[2]))
}

// goWords is what a value of a Go type looks like in a file.
func goWords(name string) string {
	switch {
	case name == "string":
		return "a text"
	case name == "bool":
		return "true or false"
	case strings.HasPrefix(name, "[]"):
		return "a list"
	case strings.HasPrefix(name, "float"):
		return "a number"
	case strings.HasPrefix(name, "int"), strings.HasPrefix(name, "uint"):
		return "a whole number in its bounds"
	}
	return "keys with values, each on a line of its own and indented"
}

func tagWords(tag string) string {
	switch tag {
	case "str":
		return "a text"
	case "int", "float":
		return "a number"
	case "bool":
		return "true or false"
	case "seq":
		return "a list"
	case "map":
		return "keys with values"
	}
	return tag
}
