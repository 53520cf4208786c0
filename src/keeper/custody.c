/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/custody.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/file.h>
#include <sys/stat.h>

#define LOCK_TRIES 16 /* a lock file may be removed between its opening and its locking */

struct custody_place {
	unsigned first, count;
};

static const struct custody_place places[KEEPER_CUSTODY_KIND_COUNT] = {
	[KEEPER_CUSTODY_MEMORY] = {0, KEEPER_MAX_MEMORY},
	[KEEPER_CUSTODY_KICK] = {KEEPER_MAX_MEMORY, KEEPER_MAX_RINGS},
	[KEEPER_CUSTODY_CALL] = {KEEPER_MAX_MEMORY + KEEPER_MAX_RINGS, KEEPER_MAX_RINGS},
	[KEEPER_CUSTODY_ERR] = {KEEPER_MAX_MEMORY + 2 * KEEPER_MAX_RINGS, KEEPER_MAX_RINGS},
	[KEEPER_CUSTODY_INFLIGHT] = {KEEPER_MAX_MEMORY + 3 * KEEPER_MAX_RINGS, 1},
	[KEEPER_CUSTODY_GPU_SOCKET] = {KEEPER_MAX_MEMORY + 3 * KEEPER_MAX_RINGS + 1, 1},
	[KEEPER_CUSTODY_SCREEN] = {KEEPER_MAX_MEMORY + 3 * KEEPER_MAX_RINGS + 2, KEEPER_MAX_HEADS},
};

/* -1: there is no such place. */
static int custody_index(uint32_t kind, uint32_t index)
{
	if (kind >= KEEPER_CUSTODY_KIND_COUNT || index >= places[kind].count)
		return -1;
	return (int)(places[kind].first + index);
}

void custody_init(struct custody *custody, int vms_dir)
{
	custody->vms_dir = vms_dir;
	for (unsigned i = 0; i < CUSTODY_SLOTS; i++)
		custody->slots[i] = (struct custody_slot){.fd = -1};
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++)
		custody->locks[i] = (struct custody_lock){.fd = -1};
}

static void custody_lock_name(char *ret, size_t size, dev_t dev, ino_t ino)
{
	snprintf(ret, size, "%llx-%llx", (unsigned long long)dev, (unsigned long long)ino);
}

static void custody_unlock(struct custody *custody, struct custody_lock *lock)
{
	char name[64];

	if (lock->fd < 0)
		return;
	/* Removed while still locked: whoever opened it before looks again (custody_lock_file). */
	custody_lock_name(name, sizeof(name), lock->dev, lock->ino);
	unlinkat(custody->vms_dir, name, 0);
	close_fd(&lock->fd);
}

void custody_finish(struct custody *custody)
{
	for (unsigned i = 0; i < CUSTODY_SLOTS; i++)
		close_fd(&custody->slots[i].fd);
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++)
		custody_unlock(custody, &custody->locks[i]);
}

int custody_put(struct custody *custody, const struct keeper_custody *what, int fd)
{
	int i = custody_index(what->kind, what->index);
	if (i < 0)
		return -EINVAL;
	close_fd(&custody->slots[i].fd);
	custody->slots[i] = (struct custody_slot){.fd = fd, .what = *what};
	return 0;
}

int custody_release(struct custody *custody, const struct keeper_custody *what)
{
	int i = custody_index(what->kind, what->index);
	if (i < 0)
		return -EINVAL;
	close_fd(&custody->slots[i].fd);
	return 0;
}

const struct custody_slot *custody_get(
	const struct custody *custody, enum keeper_custody_kind kind, uint32_t index)
{
	int i = custody_index(kind, index);
	return i >= 0 && custody->slots[i].fd >= 0 ? &custody->slots[i] : NULL;
}

void custody_release_guest(struct custody *custody)
{
	for (unsigned i = 0; i < places[KEEPER_CUSTODY_SCREEN].first; i++)
		close_fd(&custody->slots[i].fd);
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++)
		custody_unlock(custody, &custody->locks[i]);
}

static int custody_lock_file(struct custody *custody, dev_t dev, ino_t ino)
{
	char name[64];

	custody_lock_name(name, sizeof(name), dev, ino);
	for (int i = 0; i < LOCK_TRIES; i++) {
		struct stat opened, named;
		cleanup_close int fd = openat(
			custody->vms_dir, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0)
			return errno == EWOULDBLOCK ? -EBUSY : -errno;
		if (fstat(fd, &opened) < 0)
			return -errno;
		if (fstatat(custody->vms_dir, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
			opened.st_ino == named.st_ino && opened.st_dev == named.st_dev)
			return TAKE_FD(fd);
	}
	return -EAGAIN;
}

/* Moves the claim on that file from `old` to `locks`, or makes one. */
static int custody_claim_file(struct custody *custody, const struct stat *file,
	struct custody_lock *old, struct custody_lock *locks, unsigned *n_locks)
{
	for (unsigned i = 0; i < *n_locks; i++) {
		if (locks[i].dev == file->st_dev && locks[i].ino == file->st_ino)
			return 0;
	}
	struct custody_lock lock = {.fd = -1, .dev = file->st_dev, .ino = file->st_ino};
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY && lock.fd < 0; i++) {
		if (old[i].fd >= 0 && old[i].dev == lock.dev && old[i].ino == lock.ino)
			lock.fd = TAKE_FD(old[i].fd);
	}
	if (lock.fd < 0)
		lock.fd = custody_lock_file(custody, lock.dev, lock.ino);
	if (lock.fd < 0)
		return lock.fd;
	locks[(*n_locks)++] = lock;
	return 0;
}

int custody_claim_memory(struct custody *custody)
{
	struct custody_lock locks[KEEPER_MAX_MEMORY];
	unsigned n_locks = 0;
	int r = 0;

	for (unsigned i = 0; i < KEEPER_MAX_MEMORY && r == 0; i++) {
		struct stat file;
		int fd = custody->slots[i].fd; /* memory is the first kind in the table */
		if (fd < 0)
			continue;
		r = fstat(fd, &file) < 0
			    ? -errno
			    : custody_claim_file(custody, &file, custody->locks, locks, &n_locks);
	}
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++) {
		custody_unlock(custody, &custody->locks[i]);
		custody->locks[i] = i < n_locks ? locks[i] : (struct custody_lock){.fd = -1};
	}
	if (r < 0) {
		for (unsigned i = 0; i < n_locks; i++)
			custody_unlock(custody, &custody->locks[i]);
	}
	return r;
}
