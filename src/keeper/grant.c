/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time slices are between vgpud and the device process (protocol/slice_pages.h); the keeper holds
 * the descriptors, so that each process that begins to serve has them, without vgpud.
 */
#include "keeper/keeper.h"

#include "base/cleanup.h"

#include <errno.h>

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

int grant_take(struct keeper *k, const struct keeper_grant *grant, int fd)
{
	if (grant->part >= KEEPER_GRANT_PARTS)
		return -EPROTO;
	close_fd(&k->grant_fds[grant->part]);
	k->grant_fds[grant->part] = fd;
	if (grant->part == KEEPER_GRANT_WAKE)
		grant_give(k);
	return 0;
}
