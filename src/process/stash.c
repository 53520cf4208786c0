/* SPDX-License-Identifier: Apache-2.0 */
#include "process/stash.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define STASH_MAX (KEEPER_MAX_CUSTODY + 256u)

static bool stash_kind_has_key(uint32_t kind)
{
	return kind == KEEPER_CUSTODY_SHARED || kind == KEEPER_CUSTODY_EVENT ||
	       kind == KEEPER_CUSTODY_REGION;
}

static int stash_compare(const void *a, const void *b)
{
	const struct keeper_custody *x = &((const struct stash_item *)a)->what;
	const struct keeper_custody *y = &((const struct stash_item *)b)->what;
	bool key = stash_kind_has_key(x->kind);

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->index != y->index)
		return x->index < y->index ? -1 : 1;
	if (key && x->a != y->a)
		return x->a < y->a ? -1 : 1;
	return 0;
}

void stash_finish(struct stash *stash)
{
	for (size_t i = 0; i < stash->n; i++)
		close_fd(&stash->items[i].fd);
	free(stash->items);
	*stash = (struct stash){0};
}

int stash_put(struct stash *stash, const struct keeper_custody *what, int fd)
{
	cleanup_close int owned = fd;

	if (stash->n >= STASH_MAX)
		return -ENOSPC;
	if (stash->n == stash->room) {
		size_t room = stash->room ? 2 * stash->room : 64;
		struct stash_item *grown = realloc(stash->items, room * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		stash->items = grown;
		stash->room = room;
	}
	stash->items[stash->n++] = (struct stash_item){.what = *what, .fd = TAKE_FD(owned)};
	stash->sorted = false;
	return 0;
}

static struct stash_item *stash_find(struct stash *stash, const struct keeper_custody *what)
{
	const struct stash_item wanted = {.what = *what};

	if (!stash->n)
		return NULL;
	if (!stash->sorted)
		qsort(stash->items, stash->n, sizeof(*stash->items), stash_compare);
	stash->sorted = true;
	struct stash_item *found =
		bsearch(&wanted, stash->items, stash->n, sizeof(*stash->items), stash_compare);
	return found && found->fd >= 0 ? found : NULL;
}

int stash_take(struct stash *stash, struct keeper_custody *what)
{
	struct stash_item *item = stash_find(stash, what);

	if (!item)
		return -ENOENT;
	*what = item->what;
	return TAKE_FD(item->fd);
}

int stash_dup(struct stash *stash, struct keeper_custody *what)
{
	const struct stash_item *item = stash_find(stash, what);

	if (!item)
		return -ENOENT;
	*what = item->what;
	int fd = fcntl(item->fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}
