// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#ifndef EGW_WALL_H
#define EGW_WALL_H

#include "decide.h"

/* The last wall: what no other hook stops is judged packet by packet. */

#define ETH_IPV4 htons(0x0800)
#define ETH_IPV6 htons(0x86dd)
#define OFFSET_V4_DST 16
#define OFFSET_V6_DST 24

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

	return index && (posture_of(*index) & 0xff) == MODE_BLOCK;
}

#endif
