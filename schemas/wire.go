package schemas

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// AppendBatched appends the flow as one entry of an encoded FlowBatch: batches
// may be joined by joining their bytes. It writes what package proto would, by
// hand, because each recorded decision passes here. Bytes that are not UTF-8, as
// a process may have them in its name, become U+FFFD: they would make the whole
// batch unreadable.
func AppendBatched(dst []byte, f *Flow) []byte {
	const sizeRoom = 2 // of the length of an ordinary flow
	dst = append(dst, byte(1<<3|protowire.BytesType))
	start := len(dst)
	dst = append(dst, 0, 0)
	dst = appendFlow(dst, f)
	size := len(dst) - start - sizeRoom
	if room := protowire.SizeVarint(uint64(size)); room > sizeRoom {
		dst = append(dst, 0, 0, 0, 0)[:len(dst)+room-sizeRoom]
		copy(dst[start+room:], dst[start+sizeRoom:start+sizeRoom+size])
	}
	if size < 0x80 { // the room of two is filled all the same, a longer form of the number
		dst[start], dst[start+1] = byte(size)|0x80, 0
		return dst
	}
	protowire.AppendVarint(dst[:start], uint64(size))
	return dst
}

func appendFlow(dst []byte, f *Flow) []byte {
	dst = wireText(dst, 1, f.Id)
	dst = wireNumber(dst, 2, uint64(f.TimeNs))
	dst = wireText(dst, 3, f.Host)
	dst = wireNumber(dst, 4, uint64(f.Verdict))
	dst = wireNumber(dst, 5, f.Count)
	dst = wireText(dst, 6, f.Workload)
	dst = wireText(dst, 7, f.Policy)
	dst = wireNumber(dst, 8, f.Revision)
	if f.Rule != 0 {
		dst = protowire.AppendFixed32(protowire.AppendTag(dst, 9, protowire.Fixed32Type), f.Rule)
	}
	dst = wireNumber(dst, 10, uint64(f.Mode))
	dst = wireText(dst, 11, f.ContainerId)
	dst = wireText(dst, 12, f.Container)
	dst = wireText(dst, 13, f.Image)
	dst = wireNumber(dst, 14, f.CgroupId)
	dst = wireNumber(dst, 15, uint64(f.Proto))
	dst = wireBytes(dst, 16, f.DstIp)
	dst = wireNumber(dst, 17, uint64(f.DstPort))
	dst = wireBytes(dst, 18, f.SrcIp)
	dst = wireNumber(dst, 19, uint64(f.SrcPort))
	dst = wireNumber(dst, 20, uint64(f.Pid))
	dst = wireNumber(dst, 21, uint64(f.Uid))
	dst = wireText(dst, 22, f.Comm)
	dst = wireText(dst, 23, f.Hook)
	dst = wireText(dst, 24, f.Reason)
	dst = wireText(dst, 25, f.Attempt)
	return append(dst, f.unknownFields...)
}

func wireNumber(dst []byte, field protowire.Number, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), n)
}

func wireText(dst []byte, field protowire.Number, text string) []byte {
	if len(text) == 0 {
		return dst
	}
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\ufffd")
	}
	return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), text)
}

func wireBytes(dst []byte, field protowire.Number, text []byte) []byte {
	if len(text) == 0 {
		return dst
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), text)
}
