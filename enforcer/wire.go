package enforcer

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
)

const (
	// plainAnswer is the size up to which an answer travels as it is. A NATS
	// message has at most 1 MiB, and the status of thousands of containers is
	// larger.
	plainAnswer = 64 << 10
	// maxAnswer bounds what an asker unpacks.
	maxAnswer = 64 << 20
)

// encodeAnswer writes an answer as JSON, packed where it is large.
func encodeAnswer(answer any) ([]byte, error) {
	text, err := json.Marshal(answer)
	if err != nil || len(text) <= plainAnswer {
		return text, err
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// DecodeAnswer reads an enforcer's answer to a question: JSON, packed or not.
func DecodeAnswer(data []byte, answer any) error {
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		if data, err = io.ReadAll(io.LimitReader(r, maxAnswer)); err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
	}
	return json.Unmarshal(data, answer)
}
