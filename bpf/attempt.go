package bpf

import (
	"fmt"

	"golang.org/x/sys/unix"
)

var families = map[uint32]string{
	unix.AF_INET: "inet", unix.AF_INET6: "inet6", unix.AF_PACKET: "packet", unix.AF_XDP: "xdp", unix.AF_VSOCK: "vsock",
}

var socketTypes = map[uint32]string{
	unix.SOCK_STREAM: "stream", unix.SOCK_DGRAM: "dgram", unix.SOCK_RAW: "raw", unix.SOCK_RDM: "rdm",
	unix.SOCK_SEQPACKET: "seqpacket", unix.SOCK_DCCP: "dccp", unix.SOCK_PACKET: "packet",
}

type option struct{ level, name uint32 }

// solXDP is not in package unix.
const solXDP = 283

var options = map[option]string{
	{unix.SOL_IP, unix.IP_OPTIONS}:              "IP_OPTIONS",
	{unix.SOL_IP, unix.IP_FREEBIND}:             "IP_FREEBIND",
	{unix.SOL_IP, unix.IP_TRANSPARENT}:          "IP_TRANSPARENT",
	{unix.SOL_IP, unix.IP_XFRM_POLICY}:          "IP_XFRM_POLICY",
	{unix.SOL_IPV6, unix.IPV6_2292PKTOPTIONS}:   "IPV6_2292PKTOPTIONS",
	{unix.SOL_IPV6, unix.IPV6_DSTOPTS}:          "IPV6_DSTOPTS",
	{unix.SOL_IPV6, unix.IPV6_FREEBIND}:         "IPV6_FREEBIND",
	{unix.SOL_IPV6, ipv6FlowlabelMgr}:           "IPV6_FLOWLABEL_MGR",
	{unix.SOL_IPV6, unix.IPV6_HOPOPTS}:          "IPV6_HOPOPTS",
	{unix.SOL_IPV6, unix.IPV6_RTHDR}:            "IPV6_RTHDR",
	{unix.SOL_IPV6, unix.IPV6_RTHDRDSTOPTS}:     "IPV6_RTHDRDSTOPTS",
	{unix.SOL_IPV6, unix.IPV6_TRANSPARENT}:      "IPV6_TRANSPARENT",
	{unix.SOL_IPV6, unix.IPV6_XFRM_POLICY}:      "IPV6_XFRM_POLICY",
	{unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS}: "PACKET_QDISC_BYPASS",
}

// ipv6FlowlabelMgr is not in package unix.
const ipv6FlowlabelMgr = 32

// socketWords is such as `inet raw socket`.
func socketWords(family, kind uint32) string {
	return word(families, family) + " " + word(socketTypes, kind) + " socket"
}

func word(words map[uint32]string, n uint32) string {
	if w, ok := words[n]; ok {
		return w
	}
	return fmt.Sprint(n)
}

// optionWord is such as `IP_OPTIONS`, or its numbers.
func optionWord(level, name uint32) string {
	if w, ok := options[option{level, name}]; ok {
		return w
	}
	if level == solXDP {
		return fmt.Sprintf("SOL_XDP/%d", name)
	}
	return fmt.Sprintf("%d/%d", level, name)
}
