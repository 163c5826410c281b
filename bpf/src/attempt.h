// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#ifndef EGW_ATTEMPT_H
#define EGW_ATTEMPT_H

#include "flows.h"

/*
 * What a hostile process must not do besides connecting and sending: make a
 * socket that no destination can be asked of, or set an option by which packets
 * go elsewhere than they say. Such an attempt has no destination. In its place
 * the key holds what was attempted: family and type of a socket, level and name
 * of an option.
 */

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define AF_NETLINK 16
#define SOCK_STREAM 1
#define SOCK_DGRAM 2

#define SOL_IP 0
#define SOL_IPV6 41
#define SOL_PACKET 263
#define SOL_XDP 283

#define IP_OPTIONS 4
#define IP_FREEBIND 15
#define IP_XFRM_POLICY 17
#define IP_TRANSPARENT 19
#define IPV6_2292PKTOPTIONS 6
#define IPV6_FLOWLABEL_MGR 32
#define IPV6_XFRM_POLICY 35
#define IPV6_HOPOPTS 54
#define IPV6_RTHDRDSTOPTS 55
#define IPV6_RTHDR 57
#define IPV6_DSTOPTS 59
#define IPV6_TRANSPARENT 75
#define IPV6_FREEBIND 78
#define PACKET_QDISC_BYPASS 20

/* A request for a flow label; what is longer brings extension headers along. */
#define FLOWLABEL_REQUEST 32
/* The kernel copies a page of an option's value for the program. */
#define SOCKOPT_COPIED 4096

/* What an option does. */
enum option {
	OPTION_ORDINARY,
	/* Lets a socket bind to an address that is not the host's. */
	OPTION_LENDS,
	/* Leads packets by another way than their destination says. */
	OPTION_ROUTES,
	/* Belongs to sockets that write frames. */
	OPTION_FRAMES,
};

/* Whether a later hook asks where a socket sends to: TCP and UDP by connect and
 * send, ping by the packet. */
static __always_inline int has_destinations(u32 family, u32 type, u32 proto)
{
	if (type == SOCK_STREAM)
		return proto == PROTO_TCP || proto == MPTCP;
	if (type != SOCK_DGRAM)
		return 0;
	return proto == PROTO_UDP || proto == (family == AF_INET6 ? ICMPV6 : PROTO_ICMP);
}

/* Families of which a process needs no more than it may have: INET is asked for its
 * types by a hook of its own, and the other two lead to nobody's network. */
static __always_inline int is_ordinary_family(u32 family)
{
	return family == AF_UNIX || family == AF_INET || family == AF_INET6 || family == AF_NETLINK;
}

static __always_inline u32 option_v4(int name, int len)
{
	if (name == IP_FREEBIND || name == IP_TRANSPARENT)
		return OPTION_LENDS;
	/* Without a value it takes options off. */
	if ((name == IP_OPTIONS && len) || name == IP_XFRM_POLICY)
		return OPTION_ROUTES;
	return OPTION_ORDINARY;
}

/* The other options of RFC 2292 ask for headers that are received. */
static __always_inline u32 option_v6(int name, int len)
{
	switch (name) {
	case IPV6_FREEBIND:
	case IPV6_TRANSPARENT:
		return OPTION_LENDS;
	case IPV6_FLOWLABEL_MGR:
		return len > FLOWLABEL_REQUEST ? OPTION_ROUTES : OPTION_ORDINARY;
	case IPV6_2292PKTOPTIONS:
	case IPV6_HOPOPTS:
	case IPV6_RTHDRDSTOPTS:
	case IPV6_RTHDR:
	case IPV6_DSTOPTS:
		/* Without a value it takes the headers off. */
		return len ? OPTION_ROUTES : OPTION_ORDINARY;
	case IPV6_XFRM_POLICY:
		return OPTION_ROUTES;
	}
	return OPTION_ORDINARY;
}

static __always_inline u32 option_does(int level, int name, int len)
{
	if (level == SOL_IP)
		return option_v4(name, len);
	if (level == SOL_IPV6)
		return option_v6(name, len);
	if ((level == SOL_PACKET && name == PACKET_QDISC_BYPASS) || level == SOL_XDP)
		return OPTION_FRAMES;
	return OPTION_ORDINARY;
}

/* What did so may have made its own UDP peers. */
static __always_inline void mark_forger(u32 index)
{
	u32 *mark = bpf_map_lookup_elem(&forgers, &index);

	if (mark)
		WRITE_ONCE(*mark, 1);
}

/* Refuses an attempt in block mode, and counts it; learning stops nothing. */
static __noinline int attempt(struct ask *a, u32 rule)
{
	struct setting *s = gate_settings();
	struct answer answer = {.rule = rule, .verdict = VERDICT_DENY};
	u32 window, verdict;
	struct flow *flow;

	if (!s)
		return VERDICT_DENY; /* cannot be: the map has one entry */
	if ((a->key.posture & 0xff) == MODE_LEARN)
		answer.verdict = VERDICT_WOULD_DENY;
	a->key.hook = a->hook;
	window = READ_ONCE(s->window);
	flow = flow_find(window, &a->key);
	/* The coarse clock is not for every hook. */
	if (flow)
		verdict = flow_repeat(flow, bpf_ktime_get_ns());
	else
		verdict = flow_first(a, &answer, window);
	count_decision(a->key.index, verdict);
	return verdict;
}

#endif
