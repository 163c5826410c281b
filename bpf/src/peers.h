// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#ifndef EGW_PEERS_H
#define EGW_PEERS_H

#include "decide.h"

/*
 * A container may answer over UDP whoever spoke first. A peer's entry holds the
 * time of its last datagram, shifted left by one; the lowest bit tells that the
 * container spoke first, so that the answers to its own questions never become
 * a permission. 60 seconds after the last datagram the entry means nothing.
 */
#define PEER_NS 60000000000ULL
#define PEER_REFRESH_NS 1000000000ULL
#define PEER_ASKED 1

static __always_inline void peer_of(const struct ask *a, struct peer_key *key)
{
	key->addr = a->key.dst;
	key->index = a->key.index;
	key->port = a->key.port;
	key->pad = 0;
}

static __noinline int peer_may_be_answered(const struct ask *a)
{
	struct peer_key key;
	u64 *seen, value;
	u32 *forger, index = a->key.index;

	forger = bpf_map_lookup_elem(&forgers, &index);
	if (!forger || READ_ONCE(*forger))
		return 0; /* its peers may be of its own making */
	peer_of(a, &key);
	seen = bpf_map_lookup_elem(&peers, &key);
	if (!seen)
		return 0;
	value = READ_ONCE(*seen);
	return !(value & PEER_ASKED) && bpf_ktime_get_ns() - (value >> 1) < PEER_NS;
}

/* The container sends to somebody whom no entry allows it to answer. */
static __noinline int peer_note_asked(const struct ask *a)
{
	u64 now = bpf_ktime_get_ns(), value;
	struct peer_key key;
	u64 *seen;

	peer_of(a, &key);
	seen = bpf_map_lookup_elem(&peers, &key);
	if (seen) {
		value = READ_ONCE(*seen);
		if (!(value & PEER_ASKED) && now - (value >> 1) < PEER_NS)
			return 0; /* the peer spoke first, and still does */
		WRITE_ONCE(*seen, now << 1 | PEER_ASKED);
		return 0;
	}
	value = now << 1 | PEER_ASKED;
	bpf_map_update_elem(&peers, &key, &value, BPF_ANY);
	return 0;
}

/* A process of the container received a datagram of the peer. */
static __noinline int peer_note_received(const struct ask *a)
{
	u64 now = bpf_ktime_get_ns(), value, age;
	struct peer_key key;
	u64 *seen;

	peer_of(a, &key);
	seen = bpf_map_lookup_elem(&peers, &key);
	if (seen) {
		value = READ_ONCE(*seen);
		age = now - (value >> 1);
		if (age < PEER_REFRESH_NS)
			return 0;
		WRITE_ONCE(*seen, now << 1 | (age < PEER_NS ? value & PEER_ASKED : 0));
		return 0;
	}
	value = now << 1;
	bpf_map_update_elem(&peers, &key, &value, BPF_ANY);
	return 0;
}

#endif
