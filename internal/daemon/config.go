package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"

	"go.yaml.in/yaml/v3"
)

var quotedValue = regexp.MustCompile("`[^`]*`")

// withoutValues is a decoder's error without the values it quotes: one may be a
// secret in the wrong place.
func withoutValues(err error) string {
	return quotedValue.ReplaceAllString(err.Error(), "`...`")
}

// ReadConfig reads a YAML file over what cfg has. Unknown keys are errors, as
// is what Validate says.
func ReadConfig(path string, cfg interface{ Validate() error }) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(cfg); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %s", path, withoutValues(err))
	}
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
