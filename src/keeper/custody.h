/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_CUSTODY_H
#define VGPU_KEEPER_CUSTODY_H

/*
 * Duplicates of the descriptors a guest gave to the device process, kept so that they outlive it.
 * The table has a fixed place for each kind and index; whatever does not fit one is refused.
 *
 * A VM is recognised by its memory: the device and inode of each guest-memory file, read from the
 * descriptors themselves and never from what the device process says. For each such file the
 * keeper holds an exclusive lock on a file of that name in a folder all keepers share, so no two
 * vGPUs serve one VM (rule 1 of the design).
 */

#include "protocol/keeper.h"

#include <stddef.h>
#include <sys/types.h>

#define CUSTODY_SLOTS                                                                              \
	(KEEPER_MAX_MEMORY + 3 * KEEPER_MAX_RINGS + 1 /* inflight */ + 1 /* GPU socket */ +        \
		KEEPER_MAX_HEADS)

struct custody_slot {
	int fd; /* -1: free */
	struct keeper_custody what;
};

struct custody_lock {
	int fd; /* -1: free */
	dev_t dev;
	ino_t ino;
};

struct custody {
	struct custody_slot slots[CUSTODY_SLOTS];
	struct custody_lock locks[KEEPER_MAX_MEMORY];
	int vms_dir; /* the shared folder; not owned */
};

void custody_init(struct custody *custody, int vms_dir);
void custody_finish(struct custody *custody); /* closes everything it holds */

/* Takes `fd` on success, replacing what was in that place. -EINVAL: no such kind or index. */
int custody_put(struct custody *custody, const struct keeper_custody *what, int fd);
/* Forgets; 0 also when the place was empty. -EINVAL: no such kind or index. */
int custody_release(struct custody *custody, const struct keeper_custody *what);
/* The place of that kind and index, or NULL when it is empty or there is none. */
const struct custody_slot *custody_get(
	const struct custody *custody, enum keeper_custody_kind kind, uint32_t index);

/* Forgets what came from a VM (all but screens) and gives up its locks. */
void custody_release_guest(struct custody *custody);

/*
 * Claims the guest memory now in custody and gives up claims on memory that no longer is. Returns
 * 0; -EBUSY when another keeper has claimed some of it, then nothing stays claimed; -errno.
 */
int custody_claim_memory(struct custody *custody);

#endif
