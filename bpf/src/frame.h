// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#ifndef EGW_FRAME_H
#define EGW_FRAME_H

#include "wall.h"

/*
 * The wall on the host's side of a container's link. The hooks of sockets do not see
 * all that leaves by it: frames of packet sockets, what the container's kernel sends
 * or forwards by itself, processes that are in its network but not in its cgroup,
 * and what is led elsewhere below the sockets, by tunnels and address translation.
 * The sender's socket is still known here, and so is whose it is.
 *
 * Frames of packet sockets are refused. What goes where its socket says has been
 * judged. The kernel may answer who was heard of on the link. All else is judged by
 * what the packet says.
 */
#define HEARD_NS 60000000000ULL
#define HEARD_REFRESH_NS 1000000000ULL

#define ETH_ARP htons(0x0806)
#define PORT_DNS 53

#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER 12
#define ICMPV6_ERRORS 127
#define ICMPV6_ECHO_REPLY 129
#define TCP_SYN 2
#define TCP_ACK 16

static __always_inline void heard_of(const struct ask *a, const struct addr *addr, u32 what,
				     struct heard_key *key)
{
	key->addr = *addr;
	key->index = a->key.index;
	key->what = what;
}

static __noinline int note_heard(const struct ask *a, u32 what)
{
	u64 now = bpf_ktime_get_ns(), *seen;
	struct heard_key key;

	heard_of(a, what == HEARD_FROM ? &a->src : &a->key.dst, what, &key);
	seen = bpf_map_lookup_elem(&heard, &key);
	if (!seen)
		bpf_map_update_elem(&heard, &key, &now, BPF_ANY);
	else if (now - READ_ONCE(*seen) > HEARD_REFRESH_NS)
		WRITE_ONCE(*seen, now);
	return 0;
}

static __noinline int was_heard(const struct ask *a, u32 what)
{
	struct heard_key key;
	u64 *seen;

	heard_of(a, &a->key.dst, what, &key);
	seen = bpf_map_lookup_elem(&heard, &key);
	return seen && bpf_ktime_get_ns() - READ_ONCE(*seen) < HEARD_NS;
}

/* Whether the packet goes where its socket is connected to. */
static __noinline int goes_as_connected(const struct ask *a, const struct packet *p,
					struct bpf_sock *sk)
{
	struct ask to = {};

	sock_addrs(&to, sk);
	if (p->options || to.key.proto != a->key.proto || !same(&to.key.dst, &a->key.dst))
		return 0;
	return p->fragment == LATER_FRAGMENT || to.key.port == a->key.port;
}

/* Whether the packet is one by which a kernel answers: it says little. */
static __noinline int is_an_answer(struct __sk_buff *skb, const struct ask *a,
				   const struct packet *p)
{
	u32 flags;
	u8 type;

	if (a->key.proto == PROTO_TCP) {
		flags = bare_segment(skb);
		return flags && (flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN;
	}
	if (a->key.proto != PROTO_ICMP || load(skb, p->payload, &type, sizeof(type)))
		return 0;
	if (skb->protocol == ETH_IPV6)
		return type <= ICMPV6_ERRORS || type == ICMPV6_ECHO_REPLY;
	return type == ICMP_ECHO_REPLY || type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETER;
}

/* Docker's resolver, a process of the host's, asks in the container's network what
 * it was asked at 127.0.0.11. */
static __always_inline int is_the_resolvers(const struct ask *a, struct bpf_sock *sk, int own)
{
	return sk && !own && a->key.port == PORT_DNS && !((a->key.posture >> 8) & FLAG_NO_DNS);
}

/* The verdict for a packet of a blocked container. */
static __noinline int judge_leaving(struct __sk_buff *skb, struct ask *a, struct bpf_sock *sk,
				    int own)
{
	struct packet p = {};
	int verdict;

	if (packet_addrs(skb, a, &p)) {
		/* Neighbours are found by it; who speaks it himself does so by a packet
		 * socket. */
		if (!sk && skb->protocol == ETH_ARP)
			return VERDICT_ALLOW;
		a->key.port = ntohs(skb->protocol);
		return judge_packet(a, ASTRAY_UNREADABLE);
	}
	a->device = skb->ifindex;
	if (sk && own && goes_as_connected(a, &p, sk))
		return VERDICT_ALLOW;
	if ((!sk || (sk->type == SOCK_RAW && !kind_of(sk))) && skb->protocol == ETH_IPV6 &&
	    is_the_kernels(skb, ICMPV6))
		return VERDICT_ALLOW;
	if (is_the_resolvers(a, sk, own))
		return VERDICT_ALLOW;
	if (!p.options && is_an_answer(skb, a, &p) && was_heard(a, HEARD_FROM))
		return VERDICT_ALLOW;
	if (p.fragment == LATER_FRAGMENT && was_heard(a, HEARD_FRAGMENT))
		return VERDICT_ALLOW;
	verdict = judge_packet(a, p.options ? ASTRAY_OPTIONS : 0);
	if (verdict == VERDICT_ALLOW && p.fragment == FIRST_FRAGMENT)
		note_heard(a, HEARD_FRAGMENT);
	return verdict;
}

/* Refuses the frame of a packet socket; learning stops nothing. */
static __noinline int refuse_frame(struct __sk_buff *skb, struct ask *a)
{
	struct answer answer = {.rule = RULE_SOCKET};
	struct packet p = {};

	if (packet_addrs(skb, a, &p)) {
		a->key.proto = PROTO_OTHER;
		a->key.port = ntohs(skb->protocol);
	}
	return refuse_packet(a, &answer);
}

/* The verdict for a frame; user space tells of which container a device is. */
static __always_inline int judge_frame(struct __sk_buff *skb)
{
	u32 device = skb->ifindex, *owner = bpf_map_lookup_elem(&devices, &device);
	struct ask a = {.hook = HOOK_FRAME};
	struct bpf_sock *sk = skb->sk;
	u32 *index = NULL, mode;
	int writes;

	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	writes = sk && !is_ordinary_family(sk->family);
	if (!owner && !writes)
		return VERDICT_NONE; /* nobody's; or what the socket's hooks judge */
	if (sk) {
		a.cgroup_id = bpf_skb_cgroup_id(skb);
		index = bpf_map_lookup_elem(&workloads, &a.cgroup_id);
	}
	if (index)
		a.key.index = *index;
	else if (owner)
		a.key.index = *owner;
	else
		return VERDICT_NONE; /* a process of the host */
	a.key.posture = posture_of(a.key.index);
	mode = a.key.posture & 0xff;
	if (mode == MODE_ALLOW)
		return VERDICT_NONE; /* let alone */
	if (writes)
		return (a.key.posture >> 8) & FLAG_RAW ? VERDICT_NONE : refuse_frame(skb, &a);
	if (mode == MODE_LEARN)
		return VERDICT_NONE; /* the socket's hooks tell of it */
	return judge_leaving(skb, &a, sk, index != NULL);
}

/* What comes to a blocked container is taken note of, so that its kernel may answer. */
static __always_inline void hear_frame(struct __sk_buff *skb)
{
	u32 device = skb->ifindex, *owner = bpf_map_lookup_elem(&devices, &device);
	struct packet p = {};
	struct ask a = {};

	if (!owner || (posture_of(*owner) & 0xff) != MODE_BLOCK)
		return;
	a.key.index = *owner;
	if (!packet_addrs(skb, &a, &p) && a.key.proto != PROTO_OTHER)
		note_heard(&a, HEARD_FROM);
}

#endif
