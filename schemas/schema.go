package schemas

import _ "embed"

// LineSchema is the JSON Schema of the line that AppendLine writes.
//
//go:embed flow.schema.json
var LineSchema []byte
