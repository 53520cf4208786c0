/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VHOST_USER_MEMORY_H
#define VGPU_FRONTEND_VHOST_USER_MEMORY_H

/*
 * The guest's memory: files the front end passed, mapped shared. Two address spaces lead in: guest
 * physical (descriptors, backings) and the front end's own virtual one (ring addresses).
 *
 * A region is taken only when its file is a regular one (memfd, tmpfs, hugetlbfs) that is at least
 * that large; a file truncated later is caught by the guard. (Sealing it
 * against that would change what is somebody else's, and cannot be done for tmpfs or hugetlbfs
 * files.) What a mapping holds can change at any
 * moment: read once, then use the copy.
 */

#include "guard.h"

#include "protocol/keeper.h"
#include "protocol/vhost_user.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct guest_region {
	struct vhost_user_region at; /* size 0: free slot */
	dev_t dev;
	ino_t ino;
	uint8_t *hva; /* of at.gpa */
	void *map;
	size_t map_len;
	struct guard *guard;
};

struct guest_memory {
	struct guest_region slot[KEEPER_MAX_MEMORY];
	unsigned last; /* slot of the last hit: most addresses come in runs */
};

void guest_memory_init(struct guest_memory *mem);
void guest_memory_finish(struct guest_memory *mem); /* unmaps everything */

/*
 * Maps a region into a free slot. `fd` stays the caller's. -EINVAL and -ENOSPC set *ret_reason to a
 * constant text.
 */
int guest_memory_add(struct guest_memory *mem, const struct vhost_user_region *at, int fd,
	unsigned *ret_slot, const char **ret_reason);
/*
 * Puts a region that a predecessor had into its slot again. `fd` is its file, or any other or -1:
 * then memory without a file stands in for it, as it is going to be replaced. -EINVAL.
 */
int guest_memory_restore(
	struct guest_memory *mem, unsigned slot, const struct guest_region *was, int fd);
void guest_memory_remove(struct guest_memory *mem, unsigned slot);
/* The slot of exactly that region, in the same file if `fd` is not -1; -ENOENT. */
int guest_memory_find(const struct guest_memory *mem, const struct vhost_user_region *at, int fd);

/* Host address of a range of the front end's address space that lies in one region, or NULL. */
void *guest_memory_from_uva(struct guest_memory *mem, uint64_t uva, uint64_t len);
/* Entries filled, -EFAULT when any of it is outside guest memory, -E2BIG. `len` 0 fills none. */
int guest_memory_translate(
	struct guest_memory *mem, uint64_t gpa, uint64_t len, struct iovec *iov, unsigned max);
/* Copies from guest memory; 0 or -EFAULT. */
int guest_memory_read(struct guest_memory *mem, uint64_t gpa, void *buf, size_t len);

/* A file under one of the regions was cut short. */
bool guest_memory_broken(const struct guest_memory *mem);

#endif
