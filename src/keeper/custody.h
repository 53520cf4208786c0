/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_CUSTODY_H
#define VGPU_KEEPER_CUSTODY_H

/*
 * Duplicates of the descriptors a guest gave to the device process, and of the shared memory in
 * which that process keeps what its successor needs: kept here so that they outlive it.
 *
 * Each kind has a range of indices, and SHARED, EVENT and REGION have a number (`a`) besides; what
 * is put under a key that is taken replaces what was there. An item that names a connection ends
 * with it. Items keep their place until they are let go, so a cursor stays good whatever is put or
 * let go meanwhile.
 *
 * A second table, *staged*, is what a device process puts while another one still counts: also
 * what it released is noted there, and both become true or nothing does (custody_merge).
 *
 * A VM is recognised by its memory: the device and inode of each guest-memory file, read from the
 * descriptors themselves and never from what the device process says. For each such file the
 * keeper holds an exclusive lock on a file of that name in a folder all keepers share, so no two
 * vGPUs serve one VM (rule 1 of the design).
 */

#include "protocol/keeper.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CUSTODY_BIT(kind) (1u << KEEPER_CUSTODY_##kind)
#define CUSTODY_ALL       ((1u << KEEPER_CUSTODY_KIND_COUNT) - 1)
/* What a guest or its VMM gave, and is gone with it. */
#define CUSTODY_GUEST                                                                              \
	(CUSTODY_BIT(MEMORY) | CUSTODY_BIT(KICK) | CUSTODY_BIT(CALL) | CUSTODY_BIT(ERR) |          \
		CUSTODY_BIT(INFLIGHT) | CUSTODY_BIT(GPU_SOCKET))
/* Those that come many times; `index` is their connection, 0: the binding. */
#define CUSTODY_MANY                                                                               \
	(CUSTODY_BIT(WIRE) | CUSTODY_BIT(SHARED) | CUSTODY_BIT(EVENT) | CUSTODY_BIT(REGION))
/* The state of a binding as its device process keeps it for a successor. */
#define CUSTODY_STATE                                                                              \
	(CUSTODY_BIT(ANCHOR) | CUSTODY_BIT(IMAGE) | CUSTODY_BIT(JOURNAL) | CUSTODY_BIT(PRECOPY) |  \
		CUSTODY_BIT(SHADERS))

enum custody_item_state { CUSTODY_FREE, CUSTODY_HELD, CUSTODY_RELEASED };

struct custody_item {
	struct keeper_custody what;
	int fd; /* CUSTODY_HELD */
	enum custody_item_state state;
	uint32_t next; /* item of the same bucket, or free one: its number + 1; 0: none */
};

struct custody_lock {
	int fd; /* -1: free */
	dev_t dev;
	ino_t ino;
};

struct custody {
	struct custody_item *items;
	uint32_t *buckets; /* number of the first item + 1; 0: none */
	uint32_t room;     /* of both; a power of two, or 0 */
	uint32_t used;     /* items beyond were never used */
	uint32_t first_free;
	uint32_t count; /* not free */
	uint32_t seed;
	struct custody_lock locks[KEEPER_MAX_MEMORY];
	int vms_dir; /* the shared folder; not owned */
};

void custody_init(struct custody *custody, int vms_dir);
void custody_finish(struct custody *custody); /* closes everything it holds, and is empty again */

/*
 * Takes `fd` on success, replacing what was in that place. -EINVAL: no such kind or index; -ENOSPC:
 * KEEPER_MAX_CUSTODY is reached; -ENOMEM.
 */
int custody_put(struct custody *custody, const struct keeper_custody *what, int fd);
/* Forgets; 0 also when the place was empty. -EINVAL: no such kind or index. */
int custody_release(struct custody *custody, const struct keeper_custody *what);
/* The same in a staged table, where it is noted for custody_merge(). Errors as of custody_put(). */
int custody_stage_release(struct custody *staged, const struct keeper_custody *what);
/*
 * What was staged becomes true in `custody`, and `staged` is empty. With `only_missing` nothing is
 * released or replaced: only places that are empty are filled, of the kinds in CUSTODY_STATE.
 */
void custody_merge(struct custody *custody, struct custody *staged, bool only_missing);

/* The place of that kind and index (number 0), or NULL when it is empty or there is none. */
const struct custody_item *custody_get(
	const struct custody *custody, enum keeper_custody_kind kind, uint32_t index);
/* The item at *cursor or the next after it, and *cursor its place; NULL: there is none. */
const struct custody_item *custody_at(const struct custody *custody, uint32_t *cursor);

void custody_drop_kinds(struct custody *custody, uint32_t kinds); /* bits 1 << kind */
void custody_drop_connection(struct custody *custody, uint32_t id);
/* Forgets what came from a VM (all but screens) and gives up its locks. */
void custody_release_guest(struct custody *custody);
/* Bytes of memory that items of these kinds hold. */
uint64_t custody_bytes(const struct custody *custody, uint32_t kinds);

/*
 * Claims the guest memory now in custody and gives up claims on memory that no longer is. Returns
 * 0; -EBUSY when another keeper has claimed some of it, then nothing stays claimed; -errno.
 */
int custody_claim_memory(struct custody *custody);
/* Is all memory in `staged` what `custody` has claimed? */
bool custody_has_claimed(const struct custody *custody, const struct custody *staged);

#endif
