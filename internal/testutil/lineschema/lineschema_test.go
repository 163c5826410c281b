package lineschema

import (
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/schemas"
)

func TestLinesAreHeldAgainstTheSchema(t *testing.T) {
	good := `{"time":"2026-03-08T12:00:00.5Z","host":"h","verdict":"deny","proto":"tcp","count":1,"dst_port":443,"id":"h/b/0"}`
	for change, ok := range map[[2]string]bool{
		{"", ""}:                              true,
		{`"host":"h",`, ``}:                   false,
		{`"deny"`, `"refuse"`}:                false,
		{`443`, `65536`}:                      false,
		{`443`, `"443"`}:                      false,
		{`2026-03-08T12:00:00.5Z`, `today`}:   false,
		{`"count":1`, `"count":1,"colour":1`}: false,
		{`}`, ``}:                             false,
	} {
		line := strings.Replace(good, change[0], change[1], 1)
		if err := Check([]byte(line)); (err == nil) != ok {
			t.Errorf("%s: %v", line, err)
		}
	}
	if err := Check(schemas.AppendLine(nil, &schemas.Flow{})); err != nil {
		t.Error(err)
	}
}
