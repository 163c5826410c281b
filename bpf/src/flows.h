// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#ifndef EGW_FLOWS_H
#define EGW_FLOWS_H

#include "peers.h"

/*
 * Accounting. Always, once the programs that run have ended:
 *
 *	counters == sum of the counts of events + counts in both flow tables
 *		    + pending overflows
 *
 * The counts are atomic even where the map is per CPU: a program may be
 * preempted by another one on its CPU.
 */
#define WAKE_NS 1000000ULL

/* Waking the reader costs more than all else, so it happens for what cannot
 * wait, and once in a millisecond at most; the reader looks by itself too. */
static __always_inline u64 wake_flags(u32 verdict, u64 now)
{
	u32 zero = 0;
	u64 *last;

	if (verdict != VERDICT_DENY &&
	    bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) <
		    bpf_ringbuf_query(&events, BPF_RB_RING_SIZE) / 4)
		return BPF_RB_NO_WAKEUP;
	last = bpf_map_lookup_elem(&wakeups, &zero);
	if (!last || now - READ_ONCE(*last) < WAKE_NS)
		return BPF_RB_NO_WAKEUP;
	WRITE_ONCE(*last, now);
	return BPF_RB_FORCE_WAKEUP;
}

/* Returns 0 if the ring took the event. */
static __always_inline int emit_flow(const struct flow_key *key, const struct flow *flow, u64 count,
				     u64 flags)
{
	struct event *e;

	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return -1;
	e->time_ns = flow->last_ns;
	e->count = count;
	e->index = key->index;
	e->posture = key->posture;
	e->dport = key->port;
	e->dst = key->dst;
	e->proto = key->proto;
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	e->detail = flow->detail;
	bpf_ringbuf_submit(e, flags);
	return 0;
}

static __always_inline struct flow *flow_find(u32 window, const struct flow_key *key)
{
	struct flow *flow;

	if (window & 1) {
		flow = bpf_map_lookup_elem(&flows_b, key);
		KEEP_APART(flow);
		return flow;
	}
	return bpf_map_lookup_elem(&flows_a, key);
}

static __always_inline long flow_insert(u32 window, const struct flow_key *key,
					const struct flow *flow)
{
	if (window & 1)
		return bpf_map_update_elem(&flows_b, key, flow, BPF_NOEXIST);
	return bpf_map_update_elem(&flows_a, key, flow, BPF_NOEXIST);
}

static __always_inline void count_decision(u32 index, u32 verdict)
{
	struct counts *c = bpf_map_lookup_elem(&counters, &index);

	if (c)
		add(&c->n[verdict & (VERDICTS - 1)], 1);
}

static __always_inline void count_overflow(u32 index, u32 verdict)
{
	struct overflow *o = bpf_map_lookup_elem(&overflows, &index);

	if (!o)
		return;
	add(&o->pending[verdict & (VERDICTS - 1)], 1);
	add(&o->total[verdict & (VERDICTS - 1)], 1);
}

static __always_inline u32 flow_repeat(struct flow *flow, u64 now)
{
	add(&flow->count, 1);
	WRITE_ONCE(flow->last_ns, now);
	return flow->detail.verdict;
}

/* Enters a flow by its first decision and tells of it at once; what the ring
 * does not take stays in the flow. Returns the verdict that was counted. */
static __always_inline int flow_enter(const struct ask *a, const struct answer *answer, u32 window,
				      struct flow *flow)
{
	u32 verdict = answer->verdict;
	struct flow *there;
	long err;

	flow->last_ns = bpf_ktime_get_ns();
	flow->detail.cgroup_id = a->cgroup_id;
	flow->detail.revision = a->revision;
	flow->detail.rule = answer->rule;
	flow->detail.verdict = verdict;
	flow->detail.reason = answer->reason;
	flow->detail.hook = a->hook;
	flow->detail.sport = a->sport;
	flow->detail.src = a->src;

	err = flow_insert(window, &a->key, flow);
	if (!err && !emit_flow(&a->key, flow, 1, wake_flags(verdict, flow->last_ns)))
		return verdict;
	if (!err || err == -EEXIST) {
		/* The ring is full, or another CPU was first and its verdict holds. */
		there = flow_find(window, &a->key);
		if (there)
			return flow_repeat(there, flow->last_ns);
	}
	count_overflow(a->key.index, verdict);
	return verdict;
}

/* For hooks that run in the process that asks. */
static __noinline int flow_first(const struct ask *a, const struct answer *answer, u32 window)
{
	struct flow flow = {};

	flow.detail.pid = bpf_get_current_pid_tgid() >> 32;
	flow.detail.uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(flow.detail.comm, sizeof(flow.detail.comm));
	return flow_enter(a, answer, window, &flow);
}

/* For packets, which are sent in anybody's name: as often as not an interrupt's. */
static __noinline int flow_first_packet(const struct ask *a, const struct answer *answer,
					u32 window)
{
	struct flow flow = {};

	return flow_enter(a, answer, window, &flow);
}

/* Judges, counts, and returns the verdict. */
static __always_inline u32 decide(struct ask *a)
{
	struct setting *s = gate_settings();
	struct answer answer = {};
	u32 window, verdict;
	struct flow *flow;

	if (!s)
		return VERDICT_DENY; /* cannot be: the map has one entry */
	window = READ_ONCE(s->window);
	flow = flow_find(window, &a->key);
	if (flow) {
		verdict = flow->detail.verdict;
	} else {
		judge_ask(a, &answer);
		verdict = answer.verdict;
	}
	if (a->key.proto == PROTO_UDP && !a->resolver) {
		if (verdict != VERDICT_ALLOW && peer_may_be_answered(a)) {
			/* An answer: a flow of its own, as this permission ends by time. */
			a->key.reply = 1;
			answer.rule = RULE_REPLY;
			answer.reason = REASON_REPLY;
			answer.verdict = VERDICT_ALLOW;
			flow = flow_find(window, &a->key);
		} else if (!flow && verdict != VERDICT_DENY) {
			peer_note_asked(a);
		}
	}
	if (flow)
		verdict = flow_repeat(flow, bpf_ktime_get_coarse_ns());
	else
		verdict = flow_first(a, &answer, window);
	count_decision(a->key.index, verdict);
	return verdict;
}

#endif
