/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_LEDGER_H
#define VGPU_CONTROL_LEDGER_H

/*
 * The node's memory as an account: what there is, and whose it is. Pure arithmetic: nothing is
 * read here, and sums that would not fit 64 bits are refused.
 *
 * An entry *reserves* (vGPU VMs while memory is over-committed, passthrough, mediated: their pages
 * are pinned or locked, so nobody else can have them) or is only *known* (any other VM). Bytes that
 * are reserved and not yet resident are its *missing*: promised, and still counted as available by
 * the kernel.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEDGER_NAME_MAX    256
#define LEDGER_ENTRIES_MAX 4096

enum ledger_kind { LEDGER_VM, LEDGER_VGPU, LEDGER_PASSTHROUGH, LEDGER_MEDIATED, LEDGER_KIND_COUNT };
extern const char *const ledger_kind_names[LEDGER_KIND_COUNT];

struct ledger_entry {
	enum ledger_kind kind;
	bool reserves;
	char name[LEDGER_NAME_MAX]; /* of the VM; one entry a name */
	uint64_t bytes, missing;
};

/* What the node says. */
struct ledger_node {
	uint64_t physical, available; /* bytes */
	uint64_t keep_free;           /* shall stay available */
};

struct ledger {
	struct ledger_node node;
	struct ledger_entry *list; /* malloc'd */
	size_t n, room;
	uint64_t known, reserved, missing; /* sums over the list */
};

void ledger_init(struct ledger *ledger, const struct ledger_node *node);
void ledger_finish(struct ledger *ledger);

/*
 * Adds an entry, or replaces the one of that name. 0; -EINVAL: no name, no such kind, or more
 * missing than there is; -EOVERFLOW; -ENOSPC: LEDGER_ENTRIES_MAX; -ENOMEM.
 */
int ledger_put(struct ledger *ledger, const struct ledger_entry *entry);
const struct ledger_entry *ledger_find(const struct ledger *ledger, const char *name);
void ledger_drop(struct ledger *ledger, const char *name);

/* All VMs that are known together have so much more than the node. */
uint64_t ledger_overcommitted(const struct ledger *ledger);

/*
 * May that VM reserve so much, so much of it not yet resident? Whatever it has in the ledger is not
 * counted against it. 0, or -ENOMEM with the figures in one line that `what` begins.
 */
int ledger_fits(const struct ledger *ledger, const char *name, uint64_t bytes, uint64_t missing,
	const char *what, struct error *err);
/* The same, and then it is in the ledger as reserving, all of it missing. */
int ledger_reserve(struct ledger *ledger, enum ledger_kind kind, const char *name, uint64_t bytes,
	const char *what, struct error *err);

#endif
