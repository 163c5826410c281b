package schemas

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// AppendLine appends the flow as one flat JSON object, without a line feed. The
// fields come in a fixed order; time, host, verdict, proto, count and id are
// always there, any other field only when it says something. The schema is
// flow.schema.json.
func AppendLine(dst []byte, f *Flow) []byte {
	dst = append(dst, `{"time":"`...)
	dst = time.Unix(0, f.GetTimeNs()).UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, '"')
	dst = appendText(dst, "host", f.GetHost(), true)
	dst = appendText(dst, "verdict", f.GetVerdict().Word(), true)
	dst = appendText(dst, "workload", f.GetWorkload(), false)
	dst = appendText(dst, "container", f.GetContainer(), false)
	dst = appendText(dst, "proto", ProtoWord(f.GetProto()), true)
	dst = appendAddr(dst, "dst_ip", f.GetDstIp())
	dst = appendNumber(dst, "dst_port", uint64(f.GetDstPort()), hasPort(f, f.GetDstIp()))
	dst = appendNumber(dst, "count", f.GetCount(), true)
	dst = appendText(dst, "mode", f.GetMode().Word(), false)
	dst = appendText(dst, "policy", f.GetPolicy(), false)
	dst = appendNumber(dst, "revision", f.GetRevision(), f.GetRevision() != 0)
	dst = appendRule(dst, f.GetRule())
	dst = appendProcess(dst, f)
	dst = appendAddr(dst, "src_ip", f.GetSrcIp())
	dst = appendNumber(dst, "src_port", uint64(f.GetSrcPort()), f.GetSrcPort() != 0)
	dst = appendText(dst, "image", f.GetImage(), false)
	dst = appendText(dst, "container_id", f.GetContainerId(), false)
	dst = appendText(dst, "hook", f.GetHook(), false)
	dst = appendText(dst, "reason", f.GetReason(), false)
	dst = appendText(dst, "attempt", f.GetAttempt(), false)
	dst = appendText(dst, "id", f.GetId(), true)
	return append(dst, '}')
}

// appendProcess writes who asked; an event that names no destination stands for
// many processes and names none.
func appendProcess(dst []byte, f *Flow) []byte {
	dst = appendText(dst, "comm", f.GetComm(), false)
	known := f.GetPid() != 0
	dst = appendNumber(dst, "pid", uint64(f.GetPid()), known)
	return appendNumber(dst, "uid", uint64(f.GetUid()), known)
}

// hasPort tells whether a port means something: TCP or UDP to an address.
func hasPort(f *Flow, ip []byte) bool {
	return len(ip) != 0 && (f.GetProto() == 6 || f.GetProto() == 17)
}

func appendRule(dst []byte, rule uint32) []byte {
	if rule == 0 {
		return dst
	}
	return append(appendHex(append(dst, `,"rule":"`...), rule), '"')
}

// appendHex writes eight digits.
func appendHex(dst []byte, n uint32) []byte {
	for shift := 28; shift >= 0; shift -= 4 {
		dst = append(dst, lowerHex[n>>shift&15])
	}
	return dst
}

func appendNumber(dst []byte, key string, n uint64, say bool) []byte {
	if !say {
		return dst
	}
	return strconv.AppendUint(appendKey(dst, key), n, 10)
}

func appendAddr(dst []byte, key string, ip []byte) []byte {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return dst
	}
	dst = append(appendKey(dst, key), '"')
	return append(addr.AppendTo(dst), '"')
}

func appendText(dst []byte, key, text string, always bool) []byte {
	if text == "" && !always {
		return dst
	}
	return appendQuoted(appendKey(dst, key), text)
}

func appendKey(dst []byte, key string) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, key...)
	return append(dst, '"', ':')
}

const lowerHex = "0123456789abcdef"

// appendQuoted writes a JSON string; what is not UTF-8 becomes U+FFFD.
func appendQuoted(dst []byte, text string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			dst = appendEscaped(append(dst, text[start:i]...), c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(append(dst, text[start:i]...), "\ufffd"...)
			start = i + size
		}
		i += size
	}
	return append(append(dst, text[start:]...), '"')
}

func appendEscaped(dst []byte, c byte) []byte {
	if c == '"' || c == '\\' {
		return append(dst, '\\', c)
	}
	return append(dst, '\\', 'u', '0', '0', lowerHex[c>>4], lowerHex[c&15])
}
