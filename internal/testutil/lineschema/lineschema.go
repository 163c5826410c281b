// Package lineschema holds lines of flows against the published JSON Schema.
package lineschema

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/egresswarden/egresswarden/schemas"
)

const name = "flow.schema.json"

var compiled = sync.OnceValues(func() (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemas.LineSchema))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(name, doc); err != nil {
		return nil, fmt.Errorf("add %s: %w", name, err)
	}
	return c.Compile(name)
})

// Check tells what in a line is against the schema.
func Check(line []byte) error {
	s, err := compiled()
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err != nil {
		return fmt.Errorf("line %s: %w", line, err)
	}
	if err := s.Validate(doc); err != nil {
		return fmt.Errorf("line %s: %w", line, err)
	}
	return nil
}
