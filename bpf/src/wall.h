// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#ifndef EGW_WALL_H
#define EGW_WALL_H

#include "attempt.h"
#include "birth.h"
#include "header.h"

/*
 * The last wall: packets of containers' sockets that no other hook has judged, or
 * whose judgement is out of date. Whose a socket is says the cgroup in
 * which it was made, as the current task may be anybody's.
 *
 * The standing cost is two looks: who answers has a kind of its own, in the
 * socket's storage, and for who does not a cache holds the generation in which the
 * destination was allowed, by connect or by this wall. TCP and connected UDP are
 * judged by the socket's destination, which no address translation changes; UDP
 * without one was judged by the send hook; whatever else there is, by what the
 * packet says.
 *
 * A socket answers once it is bound, until it connects, and the sockets that a
 * listener accepts begin with a copy of its storage. A listener that nobody bound is
 * known from its first SYN-ACK on, which kernels before 6.7 do not show. One that was
 * accepted before the gate knew its container has no kind: it counts as accepted if
 * somebody listens at its port.
 */
#define TCP_ESTABLISHED 1
#define TCP_LISTEN 10
#define SOCK_RAW 3

static __always_inline u32 *kind_of(void *sk)
{
	return bpf_sk_storage_get(&kinds, sk, NULL, 0);
}

static __always_inline void set_kind(void *sk, u32 kind)
{
	u32 *k = bpf_sk_storage_get(&kinds, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	/* No room is no harm: it is judged packet by packet. */
	if (k)
		WRITE_ONCE(*k, kind);
}

#define PASSES 65536
#define GENERATION_BITS 24

static __always_inline u64 *pass_of(u64 cookie)
{
	u32 place = cookie & (PASSES - 1);

	return bpf_map_lookup_elem(&passes, &place);
}

/* Differs in every generation, and for every socket. */
static __always_inline u64 pass_word(u64 cookie, u64 generation)
{
	return cookie << GENERATION_BITS | (generation & ((1 << GENERATION_BITS) - 1));
}

static __always_inline int has_pass(u64 cookie, u64 generation)
{
	u64 *pass = pass_of(cookie);

	return pass && READ_ONCE(*pass) == pass_word(cookie, generation);
}

/* The generation is that before the verdict was asked for. */
static __always_inline void give_pass(u64 cookie, u64 generation)
{
	u64 *pass = pass_of(cookie);

	if (pass)
		WRITE_ONCE(*pass, pass_word(cookie, generation));
}

static __always_inline void take_pass(u64 cookie)
{
	u64 *pass = pass_of(cookie);

	if (pass)
		WRITE_ONCE(*pass, 0);
}

/* Whether it was let pass since the container's last change but for those that keep
 * what is established: others' changes raise the generation too. */
static __noinline int has_old_pass(u64 cookie, u64 generation, u32 index)
{
	u64 *since = bpf_map_lookup_elem(&strict, &index), *pass = pass_of(cookie), word, age;

	if (!since || !pass)
		return 0;
	word = READ_ONCE(*pass);
	if (!word || word >> GENERATION_BITS != pass_word(cookie, 0) >> GENERATION_BITS)
		return 0; /* another socket's */
	age = (generation - word) & ((1 << GENERATION_BITS) - 1);
	return age < generation && generation - age >= READ_ONCE(*since);
}

static __always_inline u64 generation_now(void)
{
	struct setting *s = gate_settings();
	u64 generation = s ? READ_ONCE(s->generation) : 0;

	/* What is judged from here on is of this generation, or a newer one. */
	order_reads();
	return generation;
}

static __always_inline int is_tcp(const struct bpf_sock *sk)
{
	return sk->type == SOCK_STREAM && (sk->protocol == PROTO_TCP || sk->protocol == MPTCP);
}

static __always_inline int is_udp(const struct bpf_sock *sk)
{
	return sk->type == SOCK_DGRAM && sk->protocol == PROTO_UDP;
}

/* Whether the container was there before the gate knew it. */
static __always_inline int met_late_of(u32 index)
{
	u32 *late = bpf_map_lookup_elem(&met_late, &index);

	return late && READ_ONCE(*late);
}

/* What connect decided holds for the socket's packets. */
static __always_inline void note_connect(const struct ask *a, struct bpf_sock_addr *ctx,
					 u32 verdict, u64 generation)
{
	struct bpf_sock *sk = ctx->sk;
	u64 cookie = bpf_get_socket_cookie(ctx);
	u32 *kind;

	if (!sk || (a->key.proto != PROTO_TCP && a->key.proto != PROTO_UDP))
		return;
	if (verdict != VERDICT_DENY && a->key.reply) {
		set_kind(sk, SOCK_ANSWERS);
		return;
	}
	/* Whatever it was before, it asks now; nobody adopts it later. */
	kind = kind_of(sk);
	if (kind)
		WRITE_ONCE(*kind, SOCK_ASKS);
	else if (met_late_of(a->key.index))
		set_kind(sk, SOCK_ASKS);
	if (verdict == VERDICT_DENY)
		take_pass(cookie);
	else
		give_pass(cookie, generation);
}

/* A bound TCP socket may come to listen. */
static __always_inline void note_bind(struct bpf_sock *ctx)
{
	u32 type = READ_ONCE(ctx->type), proto = READ_ONCE(ctx->protocol);

	if (type != SOCK_STREAM || (proto != PROTO_TCP && proto != MPTCP))
		return;
	if (current_index(bpf_get_current_cgroup_id()) >= 0)
		set_kind(ctx, SOCK_ANSWERS);
}

static __always_inline void sock_addrs(struct ask *a, struct bpf_sock *sk)
{
	u32 dst, src;

	if (sk->family == AF_INET) {
		dst = sk->dst_ip4;
		src = sk->src_ip4;
		KEEP_APART(dst);
		KEEP_APART(src);
		addr_from_v4(&a->key.dst, dst);
		addr_from_v4(&a->src, src);
	} else {
		a->key.dst.w[0] = sk->dst_ip6[0];
		a->key.dst.w[1] = sk->dst_ip6[1];
		a->key.dst.w[2] = sk->dst_ip6[2];
		a->key.dst.w[3] = sk->dst_ip6[3];
		a->src.w[0] = sk->src_ip6[0];
		a->src.w[1] = sk->src_ip6[1];
		a->src.w[2] = sk->src_ip6[2];
		a->src.w[3] = sk->src_ip6[3];
	}
	a->key.port = ntohs(sk->dst_port);
	a->sport = sk->src_port;
	a->key.proto = canonical_proto(sk->protocol);
}

/* Whether somebody listens at the socket's own address and port. */
static __noinline int has_listener(struct __sk_buff *skb, const struct ask *a)
{
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk;
	u32 size;
	int found;

	if (is_v4(&a->src)) {
		t.v4.daddr = a->src.w[3];
		t.v4.dport = htons(a->sport);
		size = sizeof(t.v4);
	} else {
		__builtin_memcpy(t.v6.daddr, a->src.w, 16);
		t.v6.dport = htons(a->sport);
		size = sizeof(t.v6);
	}
	/* From port 0 of nowhere: no connection matches, so that a listener does. */
	if (size == sizeof(t.v4))
		sk = bpf_sk_lookup_tcp(skb, &t, sizeof(t.v4), BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_tcp(skb, &t, sizeof(t.v6), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	found = sk->state == TCP_LISTEN;
	bpf_sk_release(sk);
	return found;
}

/* Counts a packet that is refused, or would be. */
static __noinline int refuse_packet(struct ask *a, struct answer *answer)
{
	struct setting *s = gate_settings();
	struct flow *flow;
	u32 window;

	if (!s)
		return VERDICT_DENY; /* cannot be: the map has one entry */
	a->key.hook = a->hook;
	answer->verdict = (a->key.posture & 0xff) == MODE_LEARN ? VERDICT_WOULD_DENY : VERDICT_DENY;
	window = READ_ONCE(s->window);
	flow = flow_find(window, &a->key);
	if (flow)
		flow_repeat(flow, bpf_ktime_get_ns());
	else
		flow_first_packet(a, answer, window);
	count_decision(a->key.index, answer->verdict);
	return answer->verdict;
}

/* What the policy says of a packet; learning stops nothing. */
static __noinline int judge_packet(struct ask *a, u32 astray)
{
	struct answer answer = {};

	if (!ask_complete(a))
		return VERDICT_ALLOW; /* cannot leave, or let alone meanwhile */
	if (astray) {
		answer.rule = RULE_OPTION;
		return refuse_packet(a, &answer);
	}
	judge_ask(a, &answer);
	if (answer.verdict == VERDICT_ALLOW)
		return VERDICT_ALLOW;
	if (a->key.proto == PROTO_UDP && peer_may_be_answered(a))
		return VERDICT_ALLOW;
	return refuse_packet(a, &answer);
}

/* Takes a TCP socket for accepted, of a container that the gate met late. */
static __noinline int adopt(struct __sk_buff *skb, struct bpf_sock *sk, u32 index)
{
	struct ask a = {};

	if (!met_late_of(index))
		return 0;
	sock_addrs(&a, sk);
	set_kind(sk, has_listener(skb, &a) ? SOCK_ANSWERS : SOCK_ASKS);
	return 0;
}

/* Whether a packet stays in the namespace. A raw socket may give it the source of
 * somebody else, and so make its own container a peer that spoke first. */
static __always_inline int stays(struct __sk_buff *skb, const struct ask *a, u32 type)
{
	if (skb->ifindex != LOOPBACK_DEVICE || (a->key.posture >> 8) & FLAG_HOST_NETWORK)
		return 0;
	return type != SOCK_RAW || is_local(&a->src);
}

/* The verdict for a packet that has no pass. */
static __noinline int last_wall(struct __sk_buff *skb, struct bpf_sock *sk, u32 astray, u32 own)
{
	u64 generation = generation_now(), cookie = bpf_get_socket_cookie(skb);
	struct ask a = {.hook = HOOK_PACKET};
	struct packet p = {};
	int tcp = is_tcp(sk), verdict;
	u32 *index, *kind, mode;

	a.cgroup_id = bpf_skb_cgroup_id(skb);
	index = bpf_map_lookup_elem(&workloads, &a.cgroup_id);
	if (!index) {
		if (own)
			give_pass(cookie, generation);
		return VERDICT_NONE; /* a process of the host */
	}
	a.key.index = *index;
	a.key.posture = posture_of(*index);
	if (tcp && sk->state == TCP_LISTEN) {
		set_kind(sk, SOCK_ANSWERS);
		return VERDICT_ALLOW;
	}
	if (tcp && !kind_of(sk))
		adopt(skb, sk, *index);
	kind = kind_of(sk);
	mode = a.key.posture & 0xff;
	/* While learning the hooks told of what is the socket's own. */
	if (mode == MODE_ALLOW || (mode == MODE_LEARN && own)) {
		if (own)
			give_pass(cookie, generation);
		return VERDICT_ALLOW;
	}
	/* An answer goes to its peer, not where an option leads it. */
	if (kind && *kind == SOCK_ANSWERS && !astray)
		return VERDICT_ALLOW;
	if (sk->type == SOCK_RAW && !kind && is_the_kernels(skb, sk->protocol))
		return VERDICT_ALLOW;
	if (own && !astray && has_old_pass(cookie, generation, *index)) {
		give_pass(cookie, generation);
		return VERDICT_ALLOW;
	}
	if (own && !astray)
		sock_addrs(&a, sk);
	else if (packet_addrs(skb, &a, &p))
		return VERDICT_DENY; /* cannot be: it has a header */
	a.device = skb->ifindex;
	if (stays(skb, &a, sk->type))
		verdict = VERDICT_ALLOW;
	else if (tcp && !astray && bare_segment(skb) & TCP_RST)
		return VERDICT_ALLOW; /* the end of a connection that is refused */
	else
		verdict = judge_packet(&a, astray);
	if (verdict == VERDICT_ALLOW && own)
		give_pass(cookie, generation);
	return verdict;
}

#endif
