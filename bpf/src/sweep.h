// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#ifndef EGW_SWEEP_H
#define EGW_SWEEP_H

#include "flows.h"

/*
 * Empties the flow table that is not in use, on user space's order. It runs in
 * the kernel so that a count moves from the table to the ring in one step:
 * whoever kills the caller loses nothing.
 */
struct sweep {
	u32 budget;
	u32 emitted;
	u32 deleted;
	u32 stopped; /* 1: the ring is full, 2: the budget is used up */
};

static long sweep_flow(void *map, const struct flow_key *key, struct flow *flow, struct sweep *s)
{
	u64 count = __sync_lock_test_and_set(&flow->count, 0);

	if (count) {
		if (emit_flow(key, flow, count,
			      wake_flags(VERDICT_NONE, bpf_ktime_get_ns()))) {
			add(&flow->count, count);
			s->stopped = 1;
			return 1;
		}
		s->emitted++;
	}
	/* Nobody can find this entry any more, see Sweep in Go: no count is lost. */
	bpf_map_delete_elem(map, key);
	s->deleted++;
	if (s->emitted < s->budget)
		return 0;
	s->stopped = 2;
	return 1;
}

static __always_inline int emit_overflow(u32 index, u32 verdict, u64 count)
{
	struct event *e;

	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return -1;
	__builtin_memset(e, 0, sizeof(*e));
	e->time_ns = bpf_ktime_get_ns();
	e->count = count;
	e->index = index;
	e->detail.verdict = verdict;
	e->detail.reason = REASON_OVERFLOW;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

static long sweep_overflow(void *map, const u32 *index, struct overflow *o, struct sweep *s)
{
	u32 verdict;
	u64 count;

	for (verdict = VERDICT_ALLOW; verdict < VERDICTS; verdict++) {
		if (!READ_ONCE(o->pending[verdict]))
			continue;
		count = __sync_lock_test_and_set(&o->pending[verdict], 0);
		if (!count)
			continue;
		if (emit_overflow(*index, verdict, count)) {
			add(&o->pending[verdict], count);
			s->stopped = 1;
			return 1;
		}
		s->emitted++;
	}
	return 0;
}

/* cb[0] in: how many events at most. Out: emitted, deleted, stopped. */
SEC("classifier")
int sweep(struct __sk_buff *skb)
{
	struct setting *settings = gate_settings();
	struct sweep s = {.budget = skb->cb[0]};
	long done;

	if (!settings)
		return 1;
	bpf_for_each_map_elem(&overflows, sweep_overflow, &s, 0);
	if (!s.stopped) {
		if (READ_ONCE(settings->window) & 1) {
			done = bpf_for_each_map_elem(&flows_a, sweep_flow, &s, 0);
			KEEP_APART(done);
		} else {
			bpf_for_each_map_elem(&flows_b, sweep_flow, &s, 0);
		}
	}
	skb->cb[0] = s.emitted;
	skb->cb[1] = s.deleted;
	skb->cb[2] = s.stopped;
	return 0;
}

#endif
