package schemas

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// filled has a value in every field there is, also one that AppendBatched has
// not been taught.
func filled() *Flow {
	f := &Flow{}
	m := f.ProtoReflect()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		d := fields.Get(i)
		switch d.Kind() {
		case protoreflect.StringKind:
			m.Set(d, protoreflect.ValueOfString("text of "+string(d.Name())))
		case protoreflect.BytesKind:
			m.Set(d, protoreflect.ValueOfBytes([]byte{1, 2, 3, byte(i)}))
		case protoreflect.EnumKind:
			m.Set(d, protoreflect.ValueOfEnum(2))
		case protoreflect.Int64Kind:
			m.Set(d, protoreflect.ValueOfInt64(-7))
		case protoreflect.Uint64Kind:
			m.Set(d, protoreflect.ValueOfUint64(1<<40+uint64(i)))
		default:
			m.Set(d, protoreflect.ValueOfUint32(1<<20+uint32(i)))
		}
	}
	m.SetUnknown(protoreflect.RawFields{0xf8, 0x3f, 5}) // field 1023
	return f
}

func TestBatchedFlowsReadAsTheyWere(t *testing.T) {
	long := filled()
	long.Image = strings.Repeat("x", 1<<14)
	longer := filled()
	longer.Image = strings.Repeat("x", 1<<21)
	flows := []*Flow{filled(), {}, {Id: "short"}, fullFlow(), long, {Id: strings.Repeat("x", 0x7d)}, {Id: strings.Repeat("x", 0x7e)}, longer}
	var data []byte
	for _, f := range flows {
		data = AppendBatched(data, f)
	}
	var got FlowBatch
	if err := proto.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if want := (&FlowBatch{Flows: flows}); !proto.Equal(want, &got) {
		t.Errorf("got %d flows back, not the same", len(got.GetFlows()))
	}
	want, err := proto.MarshalOptions{Deterministic: true}.Marshal(filled())
	if err != nil || string(want) != string(appendFlow(nil, filled())) {
		t.Errorf("bytes differ from package proto's: %v", err)
	}
}

func TestAnOddProcessNameSpoilsNoBatch(t *testing.T) {
	var got FlowBatch
	if err := proto.Unmarshal(AppendBatched(nil, &Flow{Comm: "a\xffb"}), &got); err != nil {
		t.Fatal(err)
	}
	if comm := got.GetFlows()[0].GetComm(); comm != "a\ufffdb" {
		t.Errorf("name is %q", comm)
	}
}

func BenchmarkAppendBatched(b *testing.B) {
	f := fullFlow()
	var data []byte
	b.ReportAllocs()
	for b.Loop() {
		data = AppendBatched(data[:0], f)
	}
}
