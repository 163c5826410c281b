// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#ifndef EGW_DECIDE_H
#define EGW_DECIDE_H

#include "maps.h"

/* A question, and what is known about who asks. */
struct ask {
	struct flow_key key;
	u64 revision;
	u64 cgroup_id;
	struct addr src;
	u32 table;
	/* The device that the socket is bound to; 0 is none. */
	u32 device;
	u16 sport;
	u8 hook;
	/* Not 0: the implicit rule for the embedded resolver answers. */
	u8 resolver;
};

struct answer {
	u32 rule;
	u32 verdict;
	u32 reason;
};

#define V4_MAPPED htonl(0xffff)
#define V4_RESOLVER htonl(0x7f00000b)
#define MPTCP 262
#define ICMPV6 58
/* lo's index, in every network namespace. */
#define LOOPBACK_DEVICE 1

static __always_inline void addr_from_v4(struct addr *a, u32 ip)
{
	a->w[0] = 0;
	a->w[1] = 0;
	a->w[2] = V4_MAPPED;
	a->w[3] = ip;
}

static __always_inline int is_v4(const struct addr *a)
{
	return !(a->w[0] | a->w[1]) && a->w[2] == V4_MAPPED;
}

/* Whether canonical() would change it. */
static __always_inline int is_v4_compatible(const struct addr *a)
{
	return !(a->w[0] | a->w[1] | a->w[2]) && a->w[3] && a->w[3] != htonl(1);
}

/* Gives an IPv4-compatible address (::a.b.c.d) the form of IPv4, which the
 * mapped one has already. `::` and `::1` are themselves. */
static __always_inline void canonical(struct addr *a)
{
	if (is_v4_compatible(a))
		a->w[2] = V4_MAPPED;
}

static __always_inline int same(const struct addr *a, const struct addr *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3];
}

/* Addresses that cannot leave the network namespace. */
static __always_inline int is_local(const struct addr *a)
{
	if (a->w[0] | a->w[1])
		return 0;
	if (a->w[2] == V4_MAPPED)
		return !a->w[3] || (a->w[3] & htonl(0xff000000)) == htonl(0x7f000000);
	return !a->w[2] && (!a->w[3] || a->w[3] == htonl(1));
}

/* The protocol as rules distinguish them. */
static __always_inline u8 canonical_proto(u32 proto)
{
	switch (proto) {
	case PROTO_TCP:
	case MPTCP:
		return PROTO_TCP;
	case PROTO_UDP:
		return PROTO_UDP;
	case PROTO_ICMP:
	case ICMPV6:
		return PROTO_ICMP;
	}
	return PROTO_OTHER;
}

/* The state of a container, whose mode is one that there is. No state is closed:
 * block, with the empty policy. */
static __always_inline u64 posture_of(u32 index)
{
	struct state *state = bpf_map_lookup_elem(&states, &index);
	u64 posture = state ? READ_ONCE(*(u64 *)state) : MODE_BLOCK;
	u32 mode = posture & 0xff;

	if (mode != MODE_ALLOW && mode != MODE_LEARN)
		posture = (posture & ~0xffULL) | MODE_BLOCK;
	return posture;
}

/* Completes the key of a question, whose dst, index, canonical proto and port are set.
 * Returns 0 for what is not judged: a container let alone, and loopback. */
static __always_inline int ask_complete(struct ask *a)
{
	u64 posture = posture_of(a->key.index);
	struct header *header;
	u32 slot, table = 0;
	u32 *table_of;

	if ((posture & 0xff) == MODE_ALLOW)
		return 0;
	a->key.posture = posture;
	if (a->key.proto != PROTO_TCP && a->key.proto != PROTO_UDP)
		a->key.port = 0;
	canonical(&a->key.dst);
	/* Bound to another device, even a loopback address leaves the namespace. */
	if (!((posture >> 8) & FLAG_HOST_NETWORK) && a->device <= LOOPBACK_DEVICE &&
	    is_local(&a->key.dst)) {
		if (!is_v4(&a->key.dst) || a->key.dst.w[3] != V4_RESOLVER)
			return 0;
		a->resolver = 1;
	}
	slot = posture >> 32;
	table_of = bpf_map_lookup_elem(&policies, &slot);
	if (table_of)
		table = READ_ONCE(*table_of);
	a->table = table;
	header = bpf_map_lookup_elem(&headers, &table);
	if (header) {
		a->key.build = header->build;
		a->revision = header->revision;
	}
	return 1;
}

static __always_inline struct port_value *match_ports(const struct ask *a, u32 set)
{
	struct lpm_ports key = {.bits = 56, .set = htonl(set), .proto = a->key.proto};
	u32 table = a->table;
	void *trie;

	trie = bpf_map_lookup_elem(&tables_ports, &table);
	if (!trie)
		return NULL;
	key.port[0] = a->key.port >> 8;
	key.port[1] = a->key.port & 0xff;
	return bpf_map_lookup_elem(trie, &key);
}

static __always_inline struct prefix_value *match_prefix(const struct ask *a)
{
	struct lpm_v6 key = {.bits = 128};
	struct lpm_v4 key_v4 = {.bits = 32};
	u32 table = a->table;
	void *trie;

	if (is_v4(&a->key.dst)) {
		trie = bpf_map_lookup_elem(&tables_v4, &table);
		key_v4.addr = a->key.dst.w[3];
		return trie ? bpf_map_lookup_elem(trie, &key_v4) : NULL;
	}
	trie = bpf_map_lookup_elem(&tables_v6, &table);
	__builtin_memcpy(key.addr, a->key.dst.w, 16);
	return trie ? bpf_map_lookup_elem(trie, &key) : NULL;
}

/* What the policy says: the longest prefix, then the longest port of its set. */
static __always_inline u32 match(const struct ask *a, u32 *rule)
{
	struct prefix_value *prefix;
	struct port_value *port;

	if (a->resolver) {
		*rule = RULE_RESOLVER;
		return (a->key.posture >> 8) & FLAG_NO_DNS ? ACTION_DENY : ACTION_ALLOW;
	}
	prefix = match_prefix(a);
	if (!prefix)
		return ACTION_NONE; /* nothing matched: the default is closed */
	if (prefix->set) {
		port = match_ports(a, prefix->set);
		if (port) {
			*rule = port->rule;
			return port->action;
		}
	}
	*rule = prefix->rule;
	return prefix->action;
}

/* The one place where a verdict is made. */
static __noinline int judge_ask(const struct ask *a, struct answer *out)
{
	u32 rule = RULE_NONE, action;

	action = match(a, &rule);
	out->rule = rule;
	out->reason = a->resolver ? REASON_RESOLVER : REASON_NONE;
	if (action == ACTION_ALLOW)
		out->verdict = VERDICT_ALLOW;
	else if ((a->key.posture & 0xff) == MODE_LEARN)
		out->verdict = VERDICT_WOULD_DENY; /* learning stops nothing */
	else
		out->verdict = VERDICT_DENY;
	return 0;
}

#endif
