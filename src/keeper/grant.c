/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time slices are between vgpud and the device process (protocol/slice_pages.h); the keeper holds
 * the descriptors, so that each process that begins to serve has them, without vgpud. And it knows
 * first that vgpud is gone, which it says in the claim: who waits for a slice then goes on.
 *
 * The claim is the device process', too. It is only ever written to, by pwrite(), and the page is
 * read by pread(): whatever is done to the files, no memory of this process goes away.
 */
#include "keeper/keeper.h"

#include "base/cleanup.h"
#include "protocol/slice_pages.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void grant_init(struct keeper *k)
{
	for (unsigned i = 0; i < KEEPER_GRANT_PARTS; i++)
		k->grant_fds[i] = -1;
}

static bool grant_is_whole(const struct keeper *k)
{
	for (unsigned i = 0; i < KEEPER_GRANT_PARTS; i++) {
		if (k->grant_fds[i] < 0)
			return false;
	}
	return true;
}

/* Phases in which the current process takes over, ends or is not there. */
static const bool grant_later[PHASE_COUNT] = {
	[PHASE_RECOVER_START] = true,
	[PHASE_RECOVER_LOAD] = true,
	[PHASE_HIBERNATE_END] = true,
	[PHASE_ASLEEP] = true,
	[PHASE_WAKE_START] = true,
	[PHASE_WAKE_LOAD] = true,
};

void grant_give(struct keeper *k)
{
	struct device_process *d = k->current;

	if (!grant_is_whole(k) || !d->pid || !d->ready || grant_later[k->takeover.phase])
		return;
	for (uint32_t i = 0; i < KEEPER_GRANT_PARTS; i++) {
		const struct keeper_grant grant = {.part = i};
		outbox_message(d, KEEPER_DEVICE_GRANT, &grant, sizeof(grant), k->grant_fds[i]);
	}
}

/* 0: vgpud is there. */
static void grant_say_orphaned(const struct keeper *k, uint64_t at)
{
	(void)!pwrite(k->grant_fds[KEEPER_GRANT_CLAIM], &at, sizeof(at),
		offsetof(struct slice_claim, orphaned_at));
}

/* A word of a file is named by where it is mapped; it is not looked at. */
static void grant_wake(const struct keeper *k)
{
	struct slice_page *page = mmap(
		NULL, SLICE_PAGE_SIZE, PROT_READ, MAP_SHARED, k->grant_fds[KEEPER_GRANT_PAGE], 0);

	if (page == MAP_FAILED)
		return;
	syscall(SYS_futex, &page->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	munmap(page, SLICE_PAGE_SIZE);
}

void grant_orphaned(const struct keeper *k)
{
	uint64_t alive;

	if (!grant_is_whole(k) || pread(k->grant_fds[KEEPER_GRANT_PAGE], &alive, sizeof(alive),
					  offsetof(struct slice_page, alive_ns)) != sizeof(alive))
		return;
	grant_say_orphaned(k, alive);
	grant_wake(k);
}

int grant_take(struct keeper *k, const struct keeper_grant *grant, int fd)
{
	if (grant->part >= KEEPER_GRANT_PARTS)
		return -EPROTO;
	close_fd(&k->grant_fds[grant->part]);
	k->grant_fds[grant->part] = fd;
	if (grant->part != KEEPER_GRANT_WAKE)
		return 0;
	grant_say_orphaned(k, 0);
	grant_give(k);
	return 0;
}
