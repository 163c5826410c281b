// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#ifndef EGW_WALL_H
#define EGW_WALL_H

#include "decide.h"

/* What a hostile process must not do besides connecting and sending. */

#define SOL_IP 0
#define SOL_IPV6 41
#define IP_FREEBIND 15
#define IP_TRANSPARENT 19
#define IPV6_TRANSPARENT 75
#define IPV6_FREEBIND 78
/* The kernel copies a page of an option's value for the program. */
#define SOCKOPT_COPIED 4096

#define ETH_IPV4 htons(0x0800)
#define ETH_IPV6 htons(0x86dd)
#define OFFSET_V4_DST 16
#define OFFSET_V6_DST 24

/* Options that let a socket bind to an address that is not the host's. */
static __always_inline int lends_an_address(int level, int name)
{
	if (level == SOL_IP)
		return name == IP_FREEBIND || name == IP_TRANSPARENT;
	if (level == SOL_IPV6)
		return name == IPV6_FREEBIND || name == IPV6_TRANSPARENT;
	return 0;
}

static __always_inline u32 mode_of(u32 index)
{
	struct state *state = bpf_map_lookup_elem(&states, &index);

	/* No state, or an unknown one, is closed. */
	if (!state || (state->mode != MODE_ALLOW && state->mode != MODE_LEARN))
		return MODE_BLOCK;
	return state->mode;
}

/* Refuses in block mode; else remembers, for a change of mode. */
static __always_inline u32 forger(u32 index)
{
	u32 *mark;

	if (mode_of(index) == MODE_BLOCK)
		return VERDICT_DENY;
	mark = bpf_map_lookup_elem(&forgers, &index);
	if (mark)
		WRITE_ONCE(*mark, 1);
	return VERDICT_ALLOW;
}

static __always_inline int to_loopback(struct __sk_buff *skb)
{
	struct addr dst = {};
	u32 v4;

	if (skb->protocol == ETH_IPV4) {
		if (bpf_skb_load_bytes(skb, OFFSET_V4_DST, &v4, sizeof(v4)))
			return 0;
		return (v4 & htonl(0xff000000)) == htonl(0x7f000000);
	}
	if (skb->protocol == ETH_IPV6) {
		if (bpf_skb_load_bytes(skb, OFFSET_V6_DST, &dst, sizeof(dst)))
			return 0;
		return is_local(&dst);
	}
	return 0;
}

/* The cgroup of the sending socket. */
static __always_inline int blocked_cgroup(u64 id)
{
	u32 *index = bpf_map_lookup_elem(&workloads, &id);

	return index && mode_of(*index) == MODE_BLOCK;
}

#endif
