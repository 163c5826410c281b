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
 * Frames of packet sockets are refused, or judged where the label keeps them. What goes
 * where its socket says has been judged. The kernel may answer who was heard of on the
 * link. All else is judged by what the packet says. Learning stops nothing, and tells.
 */
#define HEARD_NS 60000000000ULL
#define HEARD_REFRESH_NS 1000000000ULL

#define ETH_HEADER 14
#define ETH_ARP htons(0x0806)
#define ARP_SIZE 28
/* What the kernel adds to a question about a neighbour is less. */
#define NEIGHBOURS_MOST 64
#define NEIGHBOURS_HOPS 255
#define PORT_DNS 53

#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER 12
#define ICMPV6_ERRORS 127
#define ICMPV6_ECHO_REPLY 129
#define PACKET_LOOPBACK 5
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

/* The same, where it is plain to see: of most packets there are, at little cost. */
static __always_inline int plainly_as_connected(struct __sk_buff *skb, struct bpf_sock *sk)
{
	void *data = (void *)(long)READ_ONCE(skb->data);
	void *end = (void *)(long)READ_ONCE(skb->data_end);
	struct ipv4_header *v4 = data + ETH_HEADER;
	struct ipv6_header *v6 = data + ETH_HEADER;
	u32 proto = sk->protocol;
	u16 *ports;

	if (proto != PROTO_TCP && proto != PROTO_UDP)
		return 0;
	if (skb->protocol == ETH_IPV4) {
		ports = (void *)(v4 + 1);
		return (void *)(ports + 2) <= end && v4->version_length == 0x45 &&
		       !(v4->fragment & htons(0x3fff)) && v4->proto == proto &&
		       v4->dst == sk->dst_ip4 && ports[1] == sk->dst_port;
	}
	ports = (void *)(v6 + 1);
	return skb->protocol == ETH_IPV6 && (void *)(ports + 2) <= end && v6->next == proto &&
	       v6->dst.w[0] == sk->dst_ip6[0] && v6->dst.w[1] == sk->dst_ip6[1] &&
	       v6->dst.w[2] == sk->dst_ip6[2] && v6->dst.w[3] == sk->dst_ip6[3] &&
	       ports[1] == sk->dst_port;
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
 * it was asked at 127.0.0.11. The kernel's own sockets, which are raw, are of the host's
 * cgroup too. */
static __always_inline int is_the_resolvers(const struct ask *a, struct bpf_sock *sk, int own)
{
	return sk && !own && sk->type != SOCK_RAW && a->key.port == PORT_DNS &&
	       !((a->key.posture >> 8) & FLAG_NO_DNS);
}

#define IGMP 2
#define IGMP_V2_REPORT 0x16
#define IGMP_V2_LEAVE 0x17
#define IGMP_V3_REPORT 0x22
#define GROUPS 32

static __always_inline int speaks_of_groups(struct __sk_buff *skb)
{
	u8 proto = 0;

	if (skb->protocol == ETH_IPV4)
		return !load(skb, __builtin_offsetof(struct ipv4_header, proto), &proto,
			     sizeof(proto)) &&
		       proto == IGMP;
	return chatter_of(skb) == CHATTER_GROUPS;
}

/* A report about groups, as it is laid out. */
struct report {
	u32 at;	  /* the first group */
	u32 step; /* from a group to the next one; 0 is one group, without a record */
	u32 count;
	u32 size;
	u32 v6;
};

static __always_inline int read_report(struct __sk_buff *skb, const struct packet *p,
				       struct report *r)
{
	u8 head[8];
	/* Behind the router alert, which is an option of IPv4's header. */
	u32 alert = skb->protocol == ETH_IPV6 ? 8 : 0, at = p->payload + alert;

	if (load(skb, at, head, sizeof(head)))
		return -1;
	r->v6 = skb->protocol == ETH_IPV6;
	if (head[0] == IGMP_V3_REPORT || head[0] == ICMPV6_MLD2) {
		r->count = head[6] << 8 | head[7];
		r->step = r->v6 ? 20 : 8;
		r->at = at + 8 + 4;
		r->size = alert + 8 + r->count * r->step;
		return 0;
	}
	r->count = 1;
	r->step = 0;
	r->at = at + (r->v6 ? 8 : 4);
	r->size = alert + (r->v6 ? 24 : 8);
	return r->v6 || head[0] == IGMP_V2_REPORT || head[0] == IGMP_V2_LEAVE ? 0 : -1;
}

/* Where reports go to: all who listen to reports on the link, or to the group itself. */
static __always_inline int is_for_routers(const struct addr *dst)
{
	if (is_v4(dst))
		return (dst->w[3] & htonl(0xffffff00)) == htonl(0xe0000000);
	return dst->w[0] == htonl(0xff020000);
}

#define ALL_NODES 1
#define ALL_ROUTERS 2
#define ALL_SNOOPERS 0x6a

/* Groups that the kernel joins by itself: for being a node or a router, and those in
 * which neighbours ask for its addresses, whose last three octets are in the group. */
static __always_inline int is_ordinary_group(const struct addr *g)
{
	u32 last = ntohl(g->w[3]);

	if (is_v4(g)) {
		last -= 0xe0000000; /* 224.0.0.0 */
		return last == ALL_NODES || last == ALL_ROUTERS || last == ALL_SNOOPERS;
	}
	if (((g->w[0] & htonl(0xfff0ffff)) != htonl(0xff000000)) || g->w[1])
		return 0;
	if (g->w[2] == htonl(1))
		return last >> 24 == 0xff;
	return !g->w[2] && (last == ALL_NODES || last == ALL_ROUTERS || last == ALL_SNOOPERS);
}

/* What the groups of a report are. */
enum groups {
	GROUPS_ORDINARY,
	/* But for one, which is the destination then. */
	GROUPS_ONE,
	GROUPS_ODD,
};

/* Not static: so the verifier looks at the loop once, by itself, and not again for each
 * state that a caller can be in. */
__noinline u32 groups_of(struct __sk_buff *skb, const struct packet *p, struct addr *one)
{
	u32 i, v4, count, found = GROUPS_ORDINARY;
	struct addr group = {};
	struct report r = {};

	/* Longer is one that names the senders that are wanted, which could be a message,
	 * too. */
	if (!p || !one || read_report(skb, p, &r) || r.count > GROUPS || r.size != p->length ||
	    p->hops != 1)
		return GROUPS_ODD;
	count = r.count;
	/* Else the compiler leaves the bound of i to that of count, which the verifier of
	 * 6.1 forgets on the stack: to it the loop has no end. */
	KEEP_APART(count);
	for (i = 0; i < GROUPS && i < count; i++) {
		if (r.v6 ? load(skb, r.at + i * r.step, &group, sizeof(group))
			 : load(skb, r.at + i * r.step, &v4, sizeof(v4)))
			return GROUPS_ODD;
		if (!r.v6)
			addr_from_v4(&group, v4);
		if (is_ordinary_group(&group))
			continue;
		if (found && !same(&group, one))
			return GROUPS_ODD;
		*one = group;
		found = GROUPS_ONE;
	}
	return found;
}

/* A container's kernel tells which groups its processes joined, and their addresses
 * could be a message. So all must be ordinary, but for one that the policy allows. */
static __noinline int judge_groups(struct __sk_buff *skb, struct ask *a, const struct packet *p)
{
	struct addr one = {};
	u32 groups = groups_of(skb, p, &one);

	if (!is_for_routers(&a->key.dst) && !(groups == GROUPS_ONE && same(&a->key.dst, &one)))
		groups = GROUPS_ODD;
	if (groups == GROUPS_ORDINARY)
		return VERDICT_ALLOW;
	if (groups == GROUPS_ONE)
		a->key.dst = one;
	return judge_packet(a, groups == GROUPS_ONE ? 0 : ASTRAY_OPTIONS);
}

/* How neighbours are found: what was forwarded has lost a hop. */
static __always_inline int is_about_neighbours(struct __sk_buff *skb, const struct packet *p)
{
	return chatter_of(skb) == CHATTER_NEIGHBOURS && p->hops == NEIGHBOURS_HOPS &&
	       p->length <= NEIGHBOURS_MOST;
}

/* A question or an answer about a neighbour, with nothing behind. */
static __always_inline int is_plain_arp(struct __sk_buff *skb)
{
	return skb->protocol == ETH_ARP && !skb->vlan_present && skb->len == ETH_HEADER + ARP_SIZE;
}

/* Whether the packet may pass whatever the policy says of its destination. */
static __always_inline int passes_anyhow(struct __sk_buff *skb, const struct ask *a,
					 const struct packet *p, struct bpf_sock *sk, int own)
{
	if (sk && own && goes_as_connected(a, p, sk))
		return 1;
	/* While learning the hooks and the last wall let it go, and told of it. */
	if (sk && own && (a->key.posture & 0xff) == MODE_LEARN)
		return 1;
	if (p->options)
		return 0;
	if (is_the_resolvers(a, sk, own))
		return 1;
	if (p->fragment == LATER_FRAGMENT)
		return was_heard(a, HEARD_FRAGMENT);
	return is_an_answer(skb, a, p) && was_heard(a, HEARD_FROM);
}

/* The verdict for a packet of a container that is judged. */
static __noinline int judge_leaving(struct __sk_buff *skb, struct ask *a, struct bpf_sock *sk,
				    int own)
{
	struct packet p = {};
	int verdict;

	if (packet_addrs(skb, a, &p)) {
		/* Who speaks of neighbours himself does so by a packet socket. */
		if (!sk && is_plain_arp(skb))
			return VERDICT_ALLOW;
		a->key.port = ntohs(skb->protocol);
		return judge_packet(a, ASTRAY_UNREADABLE);
	}
	a->device = skb->ifindex;
	if (!sk || (sk->type == SOCK_RAW && !kind_of(sk))) {
		if (is_about_neighbours(skb, &p))
			return VERDICT_ALLOW;
		if (speaks_of_groups(skb))
			return judge_groups(skb, a, &p);
	}
	verdict = VERDICT_ALLOW;
	if (!passes_anyhow(skb, a, &p, sk, own))
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

/* Whether a socket of no container may be one by which Docker works in a container's
 * network: it announces the addresses there, and what it builds images with has a link
 * like a container's, of nobody that is known. */
static __always_inline int is_the_engines(struct __sk_buff *skb, struct bpf_sock *sk, int writes,
					  u32 owner)
{
	if (!sk)
		return 0;
	return writes ? is_plain_arp(skb) : !owner && sk->type != SOCK_RAW;
}

/* The verdict for a frame; user space tells of which container a device is. */
static __always_inline int judge_frame(struct __sk_buff *skb)
{
	u32 device = skb->ifindex, *owner = bpf_map_lookup_elem(&devices, &device);
	struct ask a = {.hook = HOOK_FRAME};
	struct bpf_sock *sk = skb->sk;
	u32 *index = NULL, mode;
	int writes;

	if (skb->pkt_type == PACKET_LOOPBACK)
		return VERDICT_NONE; /* the host's own, looped back */
	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	writes = sk && !is_ordinary_family(sk->family);
	if (!owner && !writes)
		return VERDICT_NONE; /* nobody's; or what the socket's hooks judge */
	if (sk) {
		a.cgroup_id = bpf_skb_cgroup_id(skb);
		index = bpf_map_lookup_elem(&workloads, &a.cgroup_id);
	}
	if (index && !writes && plainly_as_connected(skb, sk))
		return VERDICT_NONE; /* the last wall has judged it */
	if (index)
		a.key.index = *index;
	else if (owner && !is_the_engines(skb, sk, writes, *owner))
		a.key.index = *owner;
	else
		return VERDICT_NONE; /* a process of the host */
	a.key.posture = posture_of(a.key.index);
	mode = a.key.posture & 0xff;
	if (mode == MODE_ALLOW)
		return VERDICT_NONE; /* let alone */
	if (writes && !((a.key.posture >> 8) & FLAG_RAW))
		return refuse_frame(skb, &a);
	/* Kept by its label, a packet socket may send what the kernel may. */
	if (writes)
		sk = NULL;
	return judge_leaving(skb, &a, sk, index != NULL);
}

/* What comes to a container is taken note of, so that its kernel may answer. */
static __always_inline void hear_frame(struct __sk_buff *skb)
{
	u32 device = skb->ifindex, *owner = bpf_map_lookup_elem(&devices, &device);
	struct packet p = {};
	struct ask a = {};

	if (!owner || (posture_of(*owner) & 0xff) == MODE_ALLOW)
		return;
	a.key.index = *owner;
	if (!packet_addrs(skb, &a, &p) && a.key.proto != PROTO_OTHER)
		note_heard(&a, HEARD_FROM);
}

#endif
