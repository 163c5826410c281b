//go:build ignore
// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/* The hooks: they gather the question and leave the answer to decide(). */

#include "attempt.h"
#include "birth.h"
#include "decide.h"
#include "flows.h"
#include "frame.h"
#include "inside.h"
#include "sweep.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Generated for user space besides the types of maps. */
#define EXPORT(kind, name) const kind name *export_##name __attribute__((unused))
EXPORT(struct, event);
EXPORT(struct, lpm_v4);
EXPORT(struct, lpm_v6);
EXPORT(struct, lpm_ports);
EXPORT(struct, prefix_value);
EXPORT(struct, port_value);
EXPORT(enum, birth);
EXPORT(enum, hook);
EXPORT(enum, reason);

#define PROCEED 1
#define REFUSE 0 /* EPERM for the application, at once */

/* The verifier wants each field of a context read from the context itself. */
#define CTX(field) READ_ONCE(ctx->field)

/* Says whether a managed container asks, and which. */
static __always_inline int asks(struct ask *a)
{
	int index;

	a->cgroup_id = bpf_get_current_cgroup_id();
	index = current_index(a->cgroup_id);
	if (index < 0)
		return 0;
	a->key.index = index;
	return 1;
}

static __always_inline void ask_dst_v4(struct ask *a, struct bpf_sock_addr *ctx)
{
	u32 proto = CTX(protocol);

	addr_from_v4(&a->key.dst, CTX(user_ip4));
	a->key.port = ntohs(CTX(user_port));
	a->key.proto = canonical_proto(proto);
}

static __always_inline void ask_dst_v6(struct ask *a, struct bpf_sock_addr *ctx)
{
	u32 proto = CTX(protocol);

	a->key.dst.w[0] = CTX(user_ip6[0]);
	a->key.dst.w[1] = CTX(user_ip6[1]);
	a->key.dst.w[2] = CTX(user_ip6[2]);
	a->key.dst.w[3] = CTX(user_ip6[3]);
	a->key.port = ntohs(CTX(user_port));
	a->key.proto = canonical_proto(proto);
}

static __always_inline void ask_src(struct ask *a, struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (sk) {
		a->sport = sk->src_port;
		a->device = sk->bound_dev_if;
	}
}

static __always_inline u32 verdict_of(struct ask *a, u32 hook)
{
	a->hook = hook;
	if (!ask_complete(a))
		return VERDICT_NONE; /* let alone, or cannot leave */
	return decide(a);
}

static __always_inline int answer_connect(struct ask *a, struct bpf_sock_addr *ctx)
{
	u64 generation = generation_now();
	u32 verdict = verdict_of(a, HOOK_CONNECT);

	note_connect(a, ctx, verdict, generation);
	/* Learning stops nothing: only a denial refuses. */
	return verdict == VERDICT_DENY ? REFUSE : PROCEED;
}

static __always_inline int answer_send(struct ask *a)
{
	return verdict_of(a, HOOK_SENDMSG) == VERDICT_DENY ? REFUSE : PROCEED;
}

SEC("cgroup/connect4")
int connect_v4(struct bpf_sock_addr *ctx)
{
	struct ask a = {};
	struct bpf_sock *sk;

	if (!asks(&a))
		return PROCEED; /* a process of the host */
	ask_dst_v4(&a, ctx);
	ask_src(&a, ctx);
	sk = ctx->sk;
	if (sk && sk->src_ip4)
		addr_from_v4(&a.src, sk->src_ip4);
	return answer_connect(&a, ctx);
}

SEC("cgroup/connect6")
int connect_v6(struct bpf_sock_addr *ctx)
{
	struct ask a = {};
	struct bpf_sock *sk;

	if (!asks(&a))
		return PROCEED; /* a process of the host */
	ask_dst_v6(&a, ctx);
	ask_src(&a, ctx);
	sk = ctx->sk;
	if (sk) {
		a.src.w[0] = sk->src_ip6[0];
		a.src.w[1] = sk->src_ip6[1];
		a.src.w[2] = sk->src_ip6[2];
		a.src.w[3] = sk->src_ip6[3];
	}
	return answer_connect(&a, ctx);
}

SEC("cgroup/sendmsg4")
int sendmsg_v4(struct bpf_sock_addr *ctx)
{
	struct ask a = {};
	u32 src;

	if (!asks(&a))
		return PROCEED; /* a process of the host */
	ask_dst_v4(&a, ctx);
	ask_src(&a, ctx);
	src = CTX(msg_src_ip4);
	if (src)
		addr_from_v4(&a.src, src);
	return answer_send(&a);
}

SEC("cgroup/sendmsg6")
int sendmsg_v6(struct bpf_sock_addr *ctx)
{
	struct ask a = {};

	if (!asks(&a))
		return PROCEED; /* a process of the host */
	ask_dst_v6(&a, ctx);
	ask_src(&a, ctx);
	a.src.w[0] = CTX(msg_src_ip6[0]);
	a.src.w[1] = CTX(msg_src_ip6[1]);
	a.src.w[2] = CTX(msg_src_ip6[2]);
	a.src.w[3] = CTX(msg_src_ip6[3]);
	return answer_send(&a);
}

/* Received is received: these only take note of the sender. */
SEC("cgroup/recvmsg4")
int recvmsg_v4(struct bpf_sock_addr *ctx)
{
	struct ask a = {};

	if (!asks(&a))
		return PROCEED;
	ask_dst_v4(&a, ctx);
	if (a.key.proto == PROTO_UDP && ask_complete(&a) && !a.resolver)
		peer_note_received(&a);
	return PROCEED;
}

SEC("cgroup/recvmsg6")
int recvmsg_v6(struct bpf_sock_addr *ctx)
{
	struct ask a = {};

	if (!asks(&a))
		return PROCEED;
	ask_dst_v6(&a, ctx);
	/* No network brings an IPv4-compatible source: it would be a way to note an
	 * IPv4 peer by an address of IPv6. */
	if (is_v4_compatible(&a.key.dst))
		return PROCEED;
	if (a.key.proto == PROTO_UDP && ask_complete(&a) && !a.resolver)
		peer_note_received(&a);
	return PROCEED;
}

/* The protocol as a key holds it; there are none beyond but MPTCP's. */
static __always_inline u8 short_proto(u32 proto)
{
	return proto > PROTO_OTHER ? PROTO_OTHER : proto;
}

/* A socket that no other hook can ask for its destinations is none to have. */
SEC("cgroup/sock_create")
int sock_create(struct bpf_sock *ctx)
{
	u32 family = CTX(family), type = CTX(type), proto = CTX(protocol);
	struct ask a = {.hook = HOOK_SOCK_CREATE};
	u32 mode;

	if (has_destinations(family, type, proto) || !asks(&a))
		return PROCEED;
	a.key.posture = posture_of(a.key.index);
	mode = a.key.posture & 0xff;
	if (mode != MODE_BLOCK || (a.key.posture >> 8) & FLAG_RAW)
		set_kind(ctx, SOCK_WRITES);
	if (mode == MODE_ALLOW || (a.key.posture >> 8) & FLAG_RAW)
		return PROCEED; /* let alone, or kept by its label */
	a.key.proto = short_proto(proto);
	a.key.dst.w[0] = family;
	a.key.dst.w[1] = type;
	return attempt(&a, RULE_SOCKET) == VERDICT_DENY ? REFUSE : PROCEED;
}

/*
 * The families that sock_create is not called for: AF_PACKET and AF_XDP write
 * frames, AF_VSOCK leads to the hypervisor. Not every kernel loads such a program:
 * it is the one that a gate can be without.
 */
SEC("fmod_ret/security_socket_create")
int socket_create(u64 *ctx)
{
	u32 family = ctx[0], type = ctx[1];
	struct ask a = {.hook = HOOK_SOCK_CREATE};
	int kernels = ctx[3], before = ctx[4];
	u32 mode;

	if (before || kernels || is_ordinary_family(family) || !asks(&a))
		return before;
	a.key.posture = posture_of(a.key.index);
	mode = a.key.posture & 0xff;
	if (mode == MODE_ALLOW || (a.key.posture >> 8) & FLAG_RAW)
		return 0; /* let alone, or kept by its label */
	a.key.proto = PROTO_OTHER;
	a.key.dst.w[0] = family;
	a.key.dst.w[1] = type;
	return attempt(&a, RULE_SOCKET) == VERDICT_DENY ? -EPERM : 0;
}

/*
 * A socket that carries an address of somebody else could play the peer that
 * wrote first. A blocked container gets none; one that made some before loses
 * the right to answer.
 */
SEC("cgroup/setsockopt")
int setsockopt(struct bpf_sockopt *ctx)
{
	int level = ctx->level, name = ctx->optname, len = ctx->optlen;
	struct ask a = {.hook = HOOK_SETSOCKOPT};
	u32 does = option_does(level, name, len);
	struct bpf_sock *sk = ctx->sk;
	u32 mode;

	/* Longer than what the kernel copied: it shall use the original. */
	if (len > SOCKOPT_COPIED)
		ctx->optlen = 0;
	if (does == OPTION_ORDINARY || !asks(&a))
		return PROCEED;
	a.key.posture = posture_of(a.key.index);
	mode = a.key.posture & 0xff;
	if (does == OPTION_LENDS && mode != MODE_BLOCK)
		mark_forger(a.key.index);
	if (mode == MODE_ALLOW || (does == OPTION_FRAMES && (a.key.posture >> 8) & FLAG_RAW))
		return PROCEED; /* let alone, or kept by its label */
	if (sk && level <= SOL_IPV6)
		a.key.proto = short_proto(sk->protocol);
	a.key.dst.w[0] = level;
	a.key.dst.w[1] = name;
	return attempt(&a, RULE_OPTION) == VERDICT_DENY ? REFUSE : PROCEED;
}

/* Bound is bound: these only take note. */
SEC("cgroup/post_bind4")
int post_bind_v4(struct bpf_sock *ctx)
{
	note_bind(ctx);
	return PROCEED;
}

SEC("cgroup/post_bind6")
int post_bind_v6(struct bpf_sock *ctx)
{
	note_bind(ctx);
	return PROCEED;
}

/* What no other hook has judged, or not lately. */
SEC("cgroup_skb/egress")
int packet(struct __sk_buff *skb)
{
	struct setting *s = gate_settings();
	struct bpf_sock *sk = skb->sk;
	struct glance h;
	u32 own, *kind;

	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	if (!sk || !s)
		return PROCEED; /* the kernel's own */
	h = glance_at(skb);
	if (skb->ifindex == LOOPBACK_DEVICE && (h.proto == PROTO_UDP || h.resolver) &&
	    inside(skb, h.resolver) == VERDICT_DENY)
		return REFUSE;
	/* TCP, or UDP with a destination, that says what the socket does. */
	own = h.proto == sk->protocol &&
	      (is_tcp(sk) || (is_udp(sk) && sk->state == TCP_ESTABLISHED));
	if (!h.astray && own) {
		kind = kind_of(sk);
		if (kind && *kind == SOCK_ANSWERS)
			return PROCEED;
		if (has_pass(bpf_get_socket_cookie(skb), READ_ONCE(s->generation)))
			return PROCEED;
	} else if (!h.astray && is_udp(sk) && h.proto == PROTO_UDP) {
		return PROCEED; /* the send hook asked for its destination */
	}
	return last_wall(skb, sk, h.astray, own) == VERDICT_DENY ? REFUSE : PROCEED;
}

/* On the host's side of a container's link: what the container sends. */
SEC("classifier")
int frame(struct __sk_buff *skb)
{
	return judge_frame(skb) == VERDICT_DENY ? TC_DROP : TC_NEXT;
}

/* The same link, the other way: heard is heard. */
SEC("classifier")
int hear(struct __sk_buff *skb)
{
	hear_frame(skb);
	return TC_NEXT;
}

/*
 * Answers a question without counting it, for user space. In: mark = index,
 * cb[0..3] = address, cb[4] = protocol << 16 | port. Returns the verdict;
 * out: cb[0] = rule, cb[1..2] = revision.
 */
SEC("classifier")
int judge(struct __sk_buff *skb)
{
	struct answer answer = {};
	struct ask a = {};

	a.key.index = skb->mark;
	a.key.dst.w[0] = skb->cb[0];
	a.key.dst.w[1] = skb->cb[1];
	a.key.dst.w[2] = skb->cb[2];
	a.key.dst.w[3] = skb->cb[3];
	a.key.port = skb->cb[4];
	a.key.proto = canonical_proto(skb->cb[4] >> 16);
	if (!ask_complete(&a))
		return VERDICT_NONE;
	judge_ask(&a, &answer);
	skb->cb[0] = answer.rule;
	skb->cb[1] = a.revision;
	skb->cb[2] = a.revision >> 32;
	return answer.verdict;
}
