// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#ifndef EGW_ABI_H
#define EGW_ABI_H

#include "kernel.h"

/*
 * The structs shared with user space, whose Go side is generated. A change of
 * any of them, or of a map, needs a new `Layout` in the loader: a test holds
 * the two together.
 *
 * Addresses are 16 bytes, IPv4 always as ::ffff:a.b.c.d, so that one
 * destination has one form.
 */

enum mode { MODE_UNKNOWN, MODE_ALLOW, MODE_LEARN, MODE_BLOCK };
enum verdict { VERDICT_NONE, VERDICT_ALLOW, VERDICT_DENY, VERDICT_WOULD_DENY, VERDICTS };
enum action { ACTION_NONE, ACTION_ALLOW, ACTION_DENY };
enum hook {
	HOOK_NONE,
	HOOK_CONNECT,
	HOOK_SENDMSG,
	HOOK_SOCK_CREATE,
	HOOK_SETSOCKOPT,
	HOOK_PACKET,
	HOOK_FRAME
};
enum reason { REASON_NONE, REASON_OVERFLOW, REASON_REPLY, REASON_RESOLVER };
enum rule { RULE_NONE, RULE_RESOLVER, RULE_REPLY, RULE_SOCKET, RULE_OPTION };
enum proto { PROTO_ICMP = 1, PROTO_TCP = 6, PROTO_UDP = 17, PROTO_OTHER = 255 };
enum flag {
	/* The container is in the host's network namespace: loopback is judged. */
	FLAG_HOST_NETWORK = 1,
	/* The embedded resolver is refused. */
	FLAG_NO_DNS = 2,
	/* Sockets that no destination can be asked of are kept. */
	FLAG_RAW = 4,
};
enum birth { BIRTH_KNOWN, BIRTH_UNKNOWN, BIRTH_LOST, BIRTHS };

struct addr {
	u32 w[4];
};

/* What is done with a container. One 8-byte value, written in one store. */
struct state {
	u8 mode;
	u8 flags;
	u16 pad;
	u32 slot;
};

struct header {
	/* Unique among all tables ever compiled on this gate; 0 is no table. */
	u32 build;
	u32 pad;
	u64 revision;
};

struct setting {
	/* Its lowest bit says which flow table takes new flows: 0 is flows_a. */
	u32 window;
	/* The last build number given out. */
	u32 build;
	/* Random, one per creation of these maps: positions in the ring are
	 * unique together with it. */
	u64 instance;
	/* Not 0 once a birth could not be recorded, see birth.h. */
	u64 lost;
	/* Raised after every change of a state, policy or cgroup; never 0. What a
	 * socket remembers of an older one means nothing. */
	u64 generation;
};

struct lpm_v4 {
	u32 bits;
	u32 addr;
};

struct lpm_v6 {
	u32 bits;
	u32 addr[4];
};

struct lpm_ports {
	u32 bits;
	u32 set; /* big endian, as all of the key */
	u8 proto;
	u8 port[2];
	u8 pad;
};

struct prefix_value {
	u32 rule;
	u32 action;
	u32 set; /* not 0: ask the ports of this set first */
};

struct port_value {
	u32 rule;
	u32 action;
};

struct flow_key {
	struct addr dst;
	u32 index;
	/* The build of the table that decided, so that no verdict outlives it. */
	u32 build;
	/* Mode and flags of the container, for the same reason. */
	u16 posture;
	u16 port;
	u8 proto;
	/* An answer to a peer, whose permission ends by time. */
	u8 reply;
	/* The hook of an attempt or a packet; 0 for connects and sends, whose flows are
	 * the same. */
	u8 hook;
	u8 pad;
};

/* Detail of a decision, as a flow keeps it of its first. */
struct detail {
	u64 cgroup_id;
	u64 revision;
	u32 rule;
	u32 pid;
	u32 uid;
	u16 sport;
	u8 verdict;
	u8 hook;
	struct addr src;
	u8 comm[16];
	u8 reason;
	u8 pad[7];
};

struct flow {
	/* Decisions that no event tells of yet. All else never changes but last_ns. */
	u64 count;
	u64 last_ns;
	struct detail detail;
};

/* A record of the ring. */
struct event {
	u64 time_ns; /* CLOCK_MONOTONIC */
	u64 count;
	u32 index;
	u16 posture;
	u16 dport;
	struct addr dst;
	struct detail detail;
	u8 proto;
	u8 pad[7];
};

struct counts {
	u64 n[VERDICTS]; /* by verdict; VERDICT_NONE stays 0 */
};

/* Questions to Docker's resolver, see inside.h. */
struct asked {
	u64 questions;
	u64 octets;
	/* Of the longest name since user space took it away. */
	u64 longest;
};

struct overflow {
	u64 pending[VERDICTS]; /* decisions that no event tells of yet */
	u64 total[VERDICTS];   /* all that ever overflowed */
};

struct peer_key {
	struct addr addr;
	u32 index;
	u16 port;
	u16 pad;
};

struct heard_key {
	struct addr addr;
	u32 index;
	u32 what; /* enum heard */
};

enum heard {
	/* Something came from there. */
	HEARD_FROM,
	/* The first fragment of a datagram was let go there. */
	HEARD_FRAGMENT,
};

enum sock_kind {
	/* Its destination is for the policy to judge. */
	SOCK_ASKS,
	/* Its peer spoke first. */
	SOCK_ANSWERS,
	/* A process made it, and can write what it likes through it. */
	SOCK_WRITES,
};

struct container_id {
	u8 hex[64] __attribute__((aligned(8)));
};

_Static_assert(sizeof(struct state) == 8, "state is stored at once");
_Static_assert(sizeof(struct flow_key) == 32, "flow_key");
_Static_assert(sizeof(struct detail) == 72, "detail");
_Static_assert(sizeof(struct flow) == 88, "flow");
_Static_assert(sizeof(struct event) == 128 - 8, "event");
_Static_assert(sizeof(struct peer_key) == 24, "peer_key");
_Static_assert(sizeof(struct heard_key) == 24, "heard_key");

#endif
