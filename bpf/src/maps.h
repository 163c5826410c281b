// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#ifndef EGW_MAPS_H
#define EGW_MAPS_H

#include "abi.h"

/*
 * All maps are pinned. Sizes here are the defaults; the loader may set others.
 * No per-CPU scratch space: the programs may be preempted by each other.
 */

/* Docker's container id -> index. Written by user space when a container is
 * created, read at births. One entry a container, so as many as indexes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct container_id);
	__type(value, u32);
} containers SEC(".maps");

/* cgroup id -> index; absent is a process of the host. Written at births and by
 * user space, read by every decision. A container has a few child cgroups at
 * most as a rule; what does not fit is found the slow way, see birth.h. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, u64);
	__type(value, u32);
} workloads SEC(".maps");

/* index -> state. Written by user space, read by every decision. Index 0 is
 * every container that user space has not told of. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct state);
} states SEC(".maps");

/* policy slot -> table id. One store by user space puts a policy in force.
 * Slot 0 and table 0 are empty for ever: they refuse everything. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, u32);
} policies SEC(".maps");

/* table id -> header. Written by user space before the table is in force. More
 * than slots, for tables that are being filled or drained. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4160);
	__type(key, u32);
	__type(value, struct header);
} headers SEC(".maps");

/* table id -> prefixes and ports. Filled by user space while no slot names the
 * table. The size of a trie is the loader's to say; it is no preallocation. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4160);
	__type(key, u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);
		__uint(map_flags, BPF_F_NO_PREALLOC);
		__uint(max_entries, 1);
		__uint(key_size, sizeof(struct lpm_v4));
		__uint(value_size, sizeof(struct prefix_value));
	});
} tables_v4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4160);
	__type(key, u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);
		__uint(map_flags, BPF_F_NO_PREALLOC);
		__uint(max_entries, 1);
		__uint(key_size, sizeof(struct lpm_v6));
		__uint(value_size, sizeof(struct prefix_value));
	});
} tables_v6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4160);
	__type(key, u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);
		__uint(map_flags, BPF_F_NO_PREALLOC);
		__uint(max_entries, 1);
		__uint(key_size, sizeof(struct lpm_ports));
		__uint(value_size, sizeof(struct port_value));
	});
} tables_ports SEC(".maps");

/* 0 -> settings. Written by user space, `lost` by births too. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct setting);
} settings SEC(".maps");

/* The flow table, one half for the current window and one that is swept. Written
 * by decisions and emptied by sweep alone. Preallocated: its memory is bounded
 * and never missing; a decision that finds it full overflows. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows_a SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows_b SEC(".maps");

/* index -> decisions by verdict: the truth that all else must add up to. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct counts);
} counters SEC(".maps");

/* index -> decisions that found no place in the flow table. Not per CPU: sweep
 * must take them in one step. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct overflow);
} overflows SEC(".maps");

/* UDP peers -> when last heard of, see peers.h. Bounded by its eviction. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct peer_key);
	__type(value, u64);
} peers SEC(".maps");

/* index -> what the container asked Docker's resolver. Written by its packets; user
 * space reads it and takes the longest name away. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct asked);
} names SEC(".maps");

/* index -> not 0 once a process of the container made a socket that can carry
 * another host's address, see attempt.h. Written by that hook, cleared by user space
 * with a new container. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, u32);
} forgers SEC(".maps");

/* socket -> enum sock_kind, see wall.h. Written by connects, by the making of raw
 * sockets, and by the last wall, which reads it. An accepted socket begins with a
 * copy of its listener's. It lives as long as its socket; only one that is no
 * ordinary client has any. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, u32);
} kinds SEC(".maps");

/* socket's cookie -> cookie and generation in which its packets were let pass, in
 * one word, see wall.h. A cache: what another socket pushes out is judged again.
 * Cookies count up, so that the living ones spread evenly. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, u32);
	__type(value, u64);
} passes SEC(".maps");

/* index -> the generation of the container's last change that ends what stood before.
 * Written by user space, before `settings.generation` is raised. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, u64);
} strict SEC(".maps");

/* index -> not 0 if the gate met a cgroup of the container later than its birth.
 * Written by user space, cleared with a new container. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, u32);
} met_late SEC(".maps");

/* index of a network device, the host's side of a container's link -> index of the
 * container. Written by user space, read by the wall there, see frame.h. A container
 * has a link for each of its networks. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u32);
	__type(value, u32);
} devices SEC(".maps");

/* who was heard of on a container's link -> when, see frame.h. Written and read
 * there. Bounded by its eviction. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct heard_key);
	__type(value, u64);
} heard SEC(".maps");

/* The ring of events: the only way by which decisions reach user space. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16777216);
} events SEC(".maps");

/* 0 -> when this CPU last woke the reader. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} wakeups SEC(".maps");

/* enum birth -> how many, since the maps were made. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BIRTHS);
	__type(key, u32);
	__type(value, u64);
} births SEC(".maps");

static __always_inline struct setting *gate_settings(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

static __always_inline void add(u64 *counter, u64 n)
{
	__sync_fetch_and_add(counter, n);
}

#endif
