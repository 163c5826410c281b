package schemas

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// ErrBatch is returned for bytes that are no FlowBatch.
var ErrBatch = errors.New("not a flow batch")

// EachFlow reads an encoded FlowBatch flow by flow into f and calls fn for
// each, so that a large batch is never in memory decoded. An error of fn ends
// it.
func EachFlow(data []byte, f *Flow, fn func() error) error {
	for n := 0; len(data) > 0; {
		number, kind, size := protowire.ConsumeTag(data)
		if size < 0 {
			return fmt.Errorf("flow %d: %w: %w", n, ErrBatch, protowire.ParseError(size))
		}
		data = data[size:]
		if number != 1 || kind != protowire.BytesType {
			if size = protowire.ConsumeFieldValue(number, kind, data); size < 0 {
				return fmt.Errorf("flow %d: %w: %w", n, ErrBatch, protowire.ParseError(size))
			}
			data = data[size:]
			continue
		}
		body, size := protowire.ConsumeBytes(data)
		if size < 0 {
			return fmt.Errorf("flow %d: %w: %w", n, ErrBatch, protowire.ParseError(size))
		}
		data = data[size:]
		f.Reset()
		if err := proto.Unmarshal(body, f); err != nil {
			return fmt.Errorf("flow %d: %w: %w", n, ErrBatch, err)
		}
		if err := fn(); err != nil {
			return err
		}
		n++
	}
	return nil
}
