// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#ifndef EGW_HEADER_H
#define EGW_HEADER_H

#include "decide.h"

/* What the header of a packet says, as far as the last wall asks. */

#define ETH_IPV4 htons(0x0800)
#define ETH_IPV6 htons(0x86dd)

#define NEXT_HOPOPTS 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_DSTOPTS 60

/* A packet that does not go where it seems to. */
enum astray {
	/* It carries options, among which may be another way. */
	ASTRAY_OPTIONS = 1,
	/* It goes to loopback, by a device that leads out. */
	ASTRAY_LOOPBACK = 2,
	/* It is no IP packet. */
	ASTRAY_UNREADABLE = 4,
};

struct ipv4_header {
	u8 version_length;
	u8 tos;
	u16 length;
	u16 id;
	u16 fragment;
	u8 ttl;
	u8 proto;
	u16 check;
	u32 src;
	u32 dst;
};

struct ipv6_header {
	u32 flow;
	u16 payload;
	u8 next;
	u8 hops;
	struct addr src;
	struct addr dst;
};

struct glance {
	u32 astray;
	u8 proto;
	/* It goes to the address of Docker's resolver. */
	u8 resolver;
};

static __always_inline u32 astray_v6(const struct ipv6_header *ip, int leaves)
{
	u32 astray = 0;

	if (ip->next == NEXT_HOPOPTS || ip->next == NEXT_ROUTING || ip->next == NEXT_DSTOPTS)
		astray |= ASTRAY_OPTIONS;
	if (leaves && is_local(&ip->dst))
		astray |= ASTRAY_LOOPBACK;
	return astray;
}

static __always_inline struct glance glance_at(struct __sk_buff *skb)
{
	void *data = (void *)(long)READ_ONCE(skb->data);
	void *end = (void *)(long)READ_ONCE(skb->data_end);
	int leaves = skb->ifindex != LOOPBACK_DEVICE;
	struct glance h = {.astray = ASTRAY_UNREADABLE};
	struct ipv4_header *v4 = data;
	struct ipv6_header *v6 = data;

	if (skb->protocol == ETH_IPV4 && (void *)(v4 + 1) <= end) {
		h.proto = v4->proto;
		h.resolver = v4->dst == V4_RESOLVER;
		h.astray = v4->version_length == 0x45 ? 0 : ASTRAY_OPTIONS;
		if (leaves && (v4->dst & htonl(0xff000000)) == htonl(0x7f000000))
			h.astray |= ASTRAY_LOOPBACK;
	} else if (skb->protocol == ETH_IPV6 && (void *)(v6 + 1) <= end) {
		h.proto = v6->next;
		h.astray = astray_v6(v6, leaves);
	}
	return h;
}

/* Where a packet stands among the fragments of its datagram. */
enum fragment { WHOLE, FIRST_FRAGMENT, LATER_FRAGMENT };

struct packet {
	/* Where its payload begins, behind the network header. */
	u32 payload;
	u32 length; /* of the payload, as the header says */
	u32 fragment;
	/* Not 0: a header of IPv4 has options, or one of IPv6 is followed by others. */
	u32 options;
	u32 hops;
};

static __always_inline u32 fragment_of(u16 offset, u16 more)
{
	if (offset)
		return LATER_FRAGMENT;
	return more ? FIRST_FRAGMENT : WHOLE;
}

static __always_inline long load(struct __sk_buff *skb, u32 at, void *to, u32 size)
{
	return bpf_skb_load_bytes_relative(skb, at, to, size, BPF_HDR_START_NET);
}

static __always_inline int read_v4(struct __sk_buff *skb, struct ask *a, struct packet *p)
{
	struct ipv4_header ip;
	u16 f;

	if (load(skb, 0, &ip, sizeof(ip)))
		return -1;
	addr_from_v4(&a->key.dst, ip.dst);
	addr_from_v4(&a->src, ip.src);
	f = ntohs(ip.fragment);
	p->fragment = fragment_of(f & 0x1fff, f & 0x2000);
	p->payload = (ip.version_length & 15) * 4;
	p->length = ntohs(ip.length) - p->payload;
	p->options = ip.version_length != 0x45;
	p->hops = ip.ttl;
	return ip.proto;
}

static __always_inline int read_v6(struct __sk_buff *skb, struct ask *a, struct packet *p)
{
	struct ipv6_header ip;
	u8 fragment[8];
	u16 f;

	if (load(skb, 0, &ip, sizeof(ip)))
		return -1;
	a->key.dst = ip.dst;
	a->src = ip.src;
	p->fragment = WHOLE;
	p->payload = sizeof(ip);
	p->length = ntohs(ip.payload);
	p->options =
	    ip.next == NEXT_HOPOPTS || ip.next == NEXT_ROUTING || ip.next == NEXT_DSTOPTS;
	p->hops = ip.hops;
	if (ip.next != NEXT_FRAGMENT)
		return ip.next;
	if (load(skb, sizeof(ip), fragment, sizeof(fragment)))
		return -1;
	f = fragment[2] << 8 | fragment[3];
	p->fragment = fragment_of(f >> 3, f & 1);
	p->payload += sizeof(fragment);
	p->length -= sizeof(fragment);
	return fragment[0];
}

/* Takes both addresses, and the port where a packet says one, as a raw socket may
 * have written them. */
static __noinline int packet_addrs(struct __sk_buff *skb, struct ask *a, struct packet *p)
{
	u16 port = 0;
	int proto = -1;

	if (skb->protocol == ETH_IPV4)
		proto = read_v4(skb, a, p);
	else if (skb->protocol == ETH_IPV6)
		proto = read_v6(skb, a, p);
	if (proto < 0)
		return -1;
	/* A later fragment has no ports. */
	if (p->fragment != LATER_FRAGMENT && (proto == PROTO_TCP || proto == PROTO_UDP))
		load(skb, p->payload + 2, &port, sizeof(port));
	a->key.port = ntohs(port);
	a->key.proto = canonical_proto(proto);
	return 0;
}

#define TCP_RST 4

/* The flags of a TCP segment without data, else 0. */
static __noinline u32 bare_segment(struct __sk_buff *skb)
{
	struct packet p = {};
	struct ask a = {};
	u8 tcp[14];

	if (packet_addrs(skb, &a, &p) || load(skb, p.payload, tcp, sizeof(tcp)))
		return 0;
	return p.length == (tcp[12] >> 4) * 4 ? tcp[13] : 0;
}

#define ICMPV6_MLD_FIRST 130
#define ICMPV6_MLD_LAST 132
#define ICMPV6_ND_FIRST 133
#define ICMPV6_ND_LAST 137
#define ICMPV6_MLD2 143

/* What the kernel says by itself, besides answers. */
enum chatter {
	CHATTER_NONE,
	/* How neighbours are found. */
	CHATTER_NEIGHBOURS,
	/* Who listens to which group. */
	CHATTER_GROUPS,
};

static __noinline u32 chatter_of(struct __sk_buff *skb)
{
	struct ipv6_header v6;
	u8 kind[16] = {};

	if (skb->protocol != ETH_IPV6)
		return CHATTER_NONE;
	if (load(skb, 0, &v6, sizeof(v6)) || load(skb, sizeof(v6), kind, sizeof(kind)))
		return CHATTER_NONE;
	if (v6.next == ICMPV6 && kind[0] >= ICMPV6_ND_FIRST && kind[0] <= ICMPV6_ND_LAST)
		return CHATTER_NEIGHBOURS;
	/* A router alert of eight bytes stands before reports about groups. */
	if (v6.next != NEXT_HOPOPTS || kind[0] != ICMPV6 || kind[1])
		return CHATTER_NONE;
	if ((kind[8] >= ICMPV6_MLD_FIRST && kind[8] <= ICMPV6_MLD_LAST) || kind[8] == ICMPV6_MLD2)
		return CHATTER_GROUPS;
	return CHATTER_NONE;
}

/* What the kernel says through raw sockets of its own, which have the cgroup of
 * whoever made the network namespace: chatter, and the answer to a stray segment. */
static __noinline int is_the_kernels(struct __sk_buff *skb, u32 protocol)
{
	if (protocol == PROTO_TCP)
		return bare_segment(skb) != 0;
	return protocol == ICMPV6 && chatter_of(skb) != CHATTER_NONE;
}

#endif
