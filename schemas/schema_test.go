package schemas

import (
	"encoding/json"
	"regexp"
	"slices"
	"testing"
)

type lineSchema struct {
	Required   []string
	Properties map[string]struct {
		Type    string
		Enum    []string
		Pattern string
	}
}

// check holds a line against the parts of JSON Schema that the schema uses.
func (s lineSchema) check(t *testing.T, line []byte) map[string]any {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal(line, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range s.Required {
		if _, ok := fields[name]; !ok {
			t.Errorf("%s lacks %s", line, name)
		}
	}
	for name, value := range fields {
		p, ok := s.Properties[name]
		text, isText := value.(string)
		_, isNumber := value.(float64)
		switch {
		case !ok:
			t.Errorf("field %s is not in the schema", name)
		case p.Enum != nil && !slices.Contains(p.Enum, text),
			p.Type == "string" && !isText,
			p.Type == "integer" && !isNumber,
			!regexp.MustCompile(p.Pattern).MatchString(text):
			t.Errorf("field %s has %v, against the schema", name, value)
		}
	}
	return fields
}

func TestLinesKeepTheSchema(t *testing.T) {
	var schema lineSchema
	if err := json.Unmarshal(LineSchema, &schema); err != nil {
		t.Fatal(err)
	}
	full := schema.check(t, AppendLine(nil, fullFlow()))
	if len(full) != len(schema.Properties) {
		t.Errorf("a full line has %d fields, the schema %d", len(full), len(schema.Properties))
	}
	schema.check(t, AppendLine(nil, &Flow{}))
}
