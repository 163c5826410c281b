package bpf

import (
	"errors"

	"github.com/cilium/ebpf"
)

// listChunk is more than any bucket of a hash map holds.
const listChunk = 4096

// listHash visits the entries of a hash map. Unlike iterating by keys it is not
// put off by entries that come and go meanwhile.
func listHash[K, V any](m *ebpf.Map, visit func(K, V)) error {
	var (
		cursor ebpf.MapBatchCursor
		keys   = make([]K, listChunk)
		values = make([]V, listChunk)
	)
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			visit(keys[i], values[i])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
