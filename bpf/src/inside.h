// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#ifndef EGW_INSIDE_H
#define EGW_INSIDE_H

#include "wall.h"

/*
 * What a container says to itself, by loopback. It goes nowhere, but two things
 * must be seen: questions to Docker's resolver, by which data leaves in names, and
 * a datagram from somebody else's address, by which a container would play a peer
 * that wrote first. Such an address comes by IPV6_FREEBIND and its like, whose
 * setting by a 32-bit program no hook sees, by an address that NET_ADMIN gives and
 * takes away, or by a raw socket.
 */
#define DNS_HEADER 12
#define DNS_LABEL 63
#define DNS_LABELS 128
#define DNS_NAME 255
#define UDP_HEADER 8
#define TCP_OFFSET 12

/* The length of the name at the offset, as it is sent. */
static __noinline u32 name_length(struct __sk_buff *skb, u32 at)
{
	u32 length = 0, i;
	u8 label;

	for (i = 0; i < DNS_LABELS && length < DNS_NAME; i++) {
		if (bpf_skb_load_bytes(skb, at + length, &label, sizeof(label)))
			break;
		if (!label || label > DNS_LABEL)
			break;
		length += 1 + label;
	}
	return length < DNS_NAME ? length : DNS_NAME;
}

/* Where the message begins; 0 is nowhere. Over TCP its length is before it. */
static __always_inline u32 message_at(struct __sk_buff *skb, u32 proto)
{
	u8 version_length, words;
	u32 at;

	if (bpf_skb_load_bytes(skb, 0, &version_length, sizeof(version_length)))
		return 0;
	at = (version_length & 15) * 4;
	if (proto == PROTO_UDP)
		return at + UDP_HEADER;
	if (bpf_skb_load_bytes(skb, at + TCP_OFFSET, &words, sizeof(words)))
		return 0;
	return at + (words >> 4) * 4 + sizeof(u16);
}

/* Counts a question to the resolver. Of several in one segment of TCP the first is
 * measured, but the octets are those of all. */
static __noinline int note_question(struct __sk_buff *skb, u32 index, u32 proto)
{
	u32 at = message_at(skb, proto), length;
	struct asked *n;

	if (!at || at + DNS_HEADER >= skb->len)
		return 0; /* a segment without a question */
	n = bpf_map_lookup_elem(&names, &index);
	if (!n)
		return 0;
	add(&n->questions, 1);
	add(&n->octets, skb->len - at - DNS_HEADER);
	length = name_length(skb, at + DNS_HEADER);
	if (length > READ_ONCE(n->longest))
		WRITE_ONCE(n->longest, length);
	return 0;
}

/* While learning the source is noted as one that the container spoke to first: it
 * may not be answered, whatever seems to come from there. */
static __noinline int note_forged(struct __sk_buff *skb, const struct ask *a)
{
	u32 at =
	    skb->protocol == ETH_IPV4 ? sizeof(struct ipv4_header) : sizeof(struct ipv6_header);
	struct ask forged = {};
	u16 port = 0;

	bpf_skb_load_bytes(skb, at, &port, sizeof(port));
	forged.key.index = a->key.index;
	forged.key.dst = a->src;
	forged.key.port = ntohs(port);
	return peer_note_asked(&forged);
}

/* The verdict for what is sent by loopback. An address of the container's own is
 * both source and destination there, unless it was bound to. */
static __noinline int inside(struct __sk_buff *skb, u32 resolver)
{
	struct ask a = {.hook = HOOK_PACKET};
	struct answer answer = {.rule = RULE_OPTION};
	struct packet p = {};
	u32 *index, mode;

	a.cgroup_id = bpf_skb_cgroup_id(skb);
	index = bpf_map_lookup_elem(&workloads, &a.cgroup_id);
	if (!index)
		return VERDICT_NONE; /* a process of the host */
	a.key.index = *index;
	a.key.posture = posture_of(*index);
	mode = a.key.posture & 0xff;
	if (mode == MODE_ALLOW || packet_addrs(skb, &a, &p))
		return VERDICT_NONE; /* let alone */
	if (resolver)
		note_question(skb, a.key.index, a.key.proto);
	if (a.key.proto != PROTO_UDP || is_local(&a.src) || same(&a.src, &a.key.dst))
		return VERDICT_ALLOW;
	if (mode == MODE_BLOCK)
		return refuse_packet(&a, &answer);
	note_forged(skb, &a);
	return VERDICT_ALLOW;
}

#endif
