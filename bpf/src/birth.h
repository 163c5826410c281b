// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#ifndef EGW_BIRTH_H
#define EGW_BIRTH_H

#include "maps.h"

/*
 * Whose cgroup is it? A child of a known one has its parent's index; else the
 * name tells a container of Docker's: <64 hex> under the cgroupfs driver, or
 * docker-<64 hex>.scope under systemd's. One that user space has not told of
 * is index 0; any other cgroup is the host's.
 *
 * Where `workloads` is full, a birth cannot be recorded. Then `settings.lost`
 * is set, and from then on decisions of cgroups without an entry ask `identify`,
 * which gives the same answer from the kernel's own structs.
 */
#define HOST -1
#define MAX_DEPTH 16
#define ID_LEN 64
#define SCOPE_LEN 77 /* docker- + 64 + .scope */

#define BYTES(b) (0x0101010101010101ULL * (b))

/* Has bit 7 in every byte of a word that is no lower-case hex digit. A byte
 * below 128 plus 128 - x has bit 7 where it is x or more. Eight at a time: the
 * verifier would follow every character of a loop. */
static __always_inline u64 not_hex(u64 w)
{
	u64 low = w & BYTES(0x7f);
	u64 digits = (low + BYTES(128 - '0')) & ~(low + BYTES(128 - '9' - 1));
	u64 letters = (low + BYTES(128 - 'a')) & ~(low + BYTES(128 - 'f' - 1));

	return (~(digits | letters) | w) & BYTES(0x80);
}

/* Copies the id in a cgroup's name; returns 0 if it has none. */
static __noinline int read_id(const char *name, struct container_id *id)
{
	u64 *word = (u64 *)id->hex, bad = 0;
	char text[SCOPE_LEN + 3] = {};
	long len;
	u32 i;

	len = bpf_probe_read_kernel_str(text, sizeof(text), name) - 1;
	if (len == SCOPE_LEN) {
		if (__builtin_memcmp(text, "docker-", 7) ||
		    __builtin_memcmp(text + 7 + ID_LEN, ".scope", 6))
			return 0;
		name += 7;
	} else if (len != ID_LEN) {
		return 0;
	}
	if (bpf_probe_read_kernel(id->hex, ID_LEN, name))
		return 0;
	for (i = 0; i < ID_LEN / 8; i++)
		bad |= not_hex(word[i]);
	return !bad;
}

/* Walks up from a cgroup: an entry answers, else the outermost container's name,
 * as its descendants would have inherited. */
static __noinline int identify(struct cgroup *cgrp)
{
	struct cgroup_subsys_state *parent;
	struct kernfs_node *kn;
	struct container_id id;
	int found = HOST, i;
	const char *name;
	u32 *index;
	u64 ino;

	for (i = 0; i < MAX_DEPTH && cgrp; i++) {
		if (read_field(&kn, cgrp, kn) || read_field(&ino, kn, id))
			break;
		index = bpf_map_lookup_elem(&workloads, &ino);
		if (index)
			return *index;
		if (!read_field(&name, kn, name) && read_id(name, &id)) {
			index = bpf_map_lookup_elem(&containers, &id);
			found = index ? *index : 0;
		}
		if (read_field(&parent, cgrp, self.parent) || !parent)
			break;
		if (read_field(&cgrp, parent, cgroup))
			break;
	}
	return found;
}

/* The index of the current task, or HOST. */
static __always_inline int current_index(u64 cgroup_id)
{
	struct task_struct *task;
	struct css_set *css;
	struct cgroup *cgrp;
	struct setting *s;
	u32 *index;

	index = bpf_map_lookup_elem(&workloads, &cgroup_id);
	if (index)
		return *index;
	s = gate_settings();
	if (!s || !READ_ONCE(s->lost))
		return HOST;
	task = (void *)bpf_get_current_task();
	if (read_field(&css, task, cgroups) || read_field(&cgrp, css, dfl_cgrp))
		return 0; /* cannot be; closed */
	return identify(cgrp);
}

static __always_inline void count_birth(u32 what)
{
	u64 *n = bpf_map_lookup_elem(&births, &what);

	if (n)
		add(n, 1);
}

static __always_inline void birth_lost(void)
{
	struct setting *s = gate_settings();

	if (s)
		add(&s->lost, 1);
	count_birth(BIRTH_LOST);
}

/* Runs before any process can be in the new cgroup. */
SEC("tp_btf/cgroup_mkdir")
int cgroup_mkdir(u64 *ctx)
{
	struct cgroup *cgrp = (void *)ctx[0];
	u32 *known, index = 0, what = BIRTHS;
	struct cgroup_subsys_state *parent;
	struct container_id id;
	u64 ino, parent_ino;
	long err;

	if (cgrp->root->hierarchy_id != 0)
		return 0; /* another hierarchy than v2's */
	ino = cgrp->kn->id;
	parent = cgrp->self.parent;
	if (!parent)
		return 0;
	parent_ino = parent->cgroup->kn->id;
	known = bpf_map_lookup_elem(&workloads, &parent_ino);
	if (known) {
		index = *known;
	} else if (read_id(cgrp->kn->name, &id)) {
		known = bpf_map_lookup_elem(&containers, &id);
		what = known ? BIRTH_KNOWN : BIRTH_UNKNOWN;
		index = known ? *known : 0;
	} else {
		return 0;
	}
	err = bpf_map_update_elem(&workloads, &ino, &index, BPF_NOEXIST);
	if (err == -EEXIST)
		return 0; /* two versions of this program, during an update */
	if (err)
		birth_lost();
	if (what < BIRTHS)
		count_birth(what);
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int cgroup_rmdir(u64 *ctx)
{
	struct cgroup *cgrp = (void *)ctx[0];
	u64 ino;

	if (cgrp->root->hierarchy_id != 0)
		return 0;
	ino = cgrp->kn->id;
	bpf_map_delete_elem(&workloads, &ino);
	return 0;
}

#endif
