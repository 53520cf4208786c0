/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_STASH_H
#define VGPU_PROCESS_STASH_H

/*
 * Descriptors that the keeper gave back, until who they belong to asks for them. Items are told
 * apart by kind, index and `a` (0 for the kinds that have none).
 */

#include "protocol/keeper.h"

#include <stdbool.h>
#include <stddef.h>

struct stash_item {
	struct keeper_custody what;
	int fd; /* -1: taken */
};

struct stash {
	struct stash_item *items;
	size_t n, room;
	bool sorted;
};

void stash_finish(struct stash *stash); /* closes what nobody took */

/* Takes `fd`, also on failure. -ENOMEM, -ENOSPC beyond KEEPER_MAX_CUSTODY and some. */
int stash_put(struct stash *stash, const struct keeper_custody *what, int fd);
/*
 * The descriptor of what->kind, ->index and (for kinds that are there many times) ->a, the
 * caller's; *what is filled in. -ENOENT.
 */
int stash_take(struct stash *stash, struct keeper_custody *what);
/* The same, but it stays: a duplicate. */
int stash_dup(struct stash *stash, struct keeper_custody *what);

#endif
