/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/custody.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "keeper/memory_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#define FIRST_ROOM     64u
#define OF_OTHER_KINDS 128u /* more than there are places of the kinds that come once */
#define LOCK_TRIES     16   /* a lock file may be removed between its opening and its locking */

/* How many indices a kind has; of those that come many times it is a connection's number. */
static const uint32_t index_counts[KEEPER_CUSTODY_KIND_COUNT] = {
	[KEEPER_CUSTODY_MEMORY] = KEEPER_MAX_MEMORY,
	[KEEPER_CUSTODY_KICK] = KEEPER_MAX_RINGS,
	[KEEPER_CUSTODY_CALL] = KEEPER_MAX_RINGS,
	[KEEPER_CUSTODY_ERR] = KEEPER_MAX_RINGS,
	[KEEPER_CUSTODY_INFLIGHT] = 1,
	[KEEPER_CUSTODY_GPU_SOCKET] = 1,
	[KEEPER_CUSTODY_SCREEN] = KEEPER_MAX_HEADS,
	[KEEPER_CUSTODY_WIRE] = UINT32_MAX,
	[KEEPER_CUSTODY_SHARED] = UINT32_MAX,
	[KEEPER_CUSTODY_EVENT] = UINT32_MAX,
	[KEEPER_CUSTODY_REGION] = UINT32_MAX,
	[KEEPER_CUSTODY_ANCHOR] = 1,
	[KEEPER_CUSTODY_IMAGE] = KEEPER_IMAGES,
	[KEEPER_CUSTODY_JOURNAL] = KEEPER_IMAGES,
	[KEEPER_CUSTODY_PRECOPY] = KEEPER_MAX_PRECOPY,
	[KEEPER_CUSTODY_SHADERS] = KEEPER_MAX_SHADERS,
};

#define NUMBERED (CUSTODY_BIT(SHARED) | CUSTODY_BIT(EVENT) | CUSTODY_BIT(REGION))

static bool custody_place_exists(const struct keeper_custody *what)
{
	return what->kind < KEEPER_CUSTODY_KIND_COUNT && what->index < index_counts[what->kind];
}

static uint64_t custody_number(const struct keeper_custody *what)
{
	return (1u << what->kind & NUMBERED) ? what->a : 0;
}

static bool custody_same_place(const struct keeper_custody *x, const struct keeper_custody *y)
{
	return x->kind == y->kind && x->index == y->index && custody_number(x) == custody_number(y);
}

/* --- the table --- */

static uint32_t custody_bucket(const struct custody *custody, const struct keeper_custody *what)
{
	uint64_t h = custody->seed ^ what->kind ^ (uint64_t)what->index << 8;

	h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9u;
	h ^= custody_number(what);
	h = (h ^ h >> 30) * 0x94d049bb133111ebu;
	return (uint32_t)(h >> 32) & (custody->room - 1);
}

static struct custody_item *custody_find(
	const struct custody *custody, const struct keeper_custody *what)
{
	if (!custody->room)
		return NULL;
	uint32_t i = custody->buckets[custody_bucket(custody, what)];
	while (i && !custody_same_place(&custody->items[i - 1].what, what))
		i = custody->items[i - 1].next;
	return i ? &custody->items[i - 1] : NULL;
}

static void custody_link(struct custody *custody, uint32_t i)
{
	uint32_t *first = &custody->buckets[custody_bucket(custody, &custody->items[i].what)];

	custody->items[i].next = *first;
	*first = i + 1;
}

static int custody_grow(struct custody *custody)
{
	uint32_t room = custody->room ? 2 * custody->room : FIRST_ROOM;
	uint32_t *buckets = calloc(room, sizeof(*buckets));
	struct custody_item *items =
		buckets ? realloc(custody->items, room * sizeof(*items)) : NULL;

	if (!items) {
		free(buckets);
		return -ENOMEM;
	}
	if (!custody->room && getrandom(&custody->seed, sizeof(custody->seed), GRND_NONBLOCK) < 0)
		custody->seed = 0;
	free(custody->buckets);
	custody->buckets = buckets;
	custody->items = items;
	custody->room = room;
	for (uint32_t i = 0; i < custody->used; i++) /* it was full, so none of them is free */
		custody_link(custody, i);
	return 0;
}

/* The item of that place, made if there is none; NULL: *ret_error says why. */
static struct custody_item *custody_make(
	struct custody *custody, const struct keeper_custody *what, int *ret_error)
{
	struct custody_item *item = custody_find(custody, what);
	uint32_t i;

	if (item)
		return item;
	*ret_error = custody->count >= KEEPER_MAX_CUSTODY + OF_OTHER_KINDS ? -ENOSPC : 0;
	if (!*ret_error && custody->count == custody->room)
		*ret_error = custody_grow(custody);
	if (*ret_error)
		return NULL;
	if (custody->first_free) {
		i = custody->first_free - 1;
		custody->first_free = custody->items[i].next;
	} else {
		i = custody->used++;
	}
	custody->count++;
	custody->items[i] = (struct custody_item){.what = *what, .fd = -1};
	custody_link(custody, i);
	return &custody->items[i];
}

static void custody_remove(struct custody *custody, struct custody_item *item)
{
	uint32_t i = (uint32_t)(item - custody->items);
	uint32_t *at = &custody->buckets[custody_bucket(custody, &item->what)];

	while (*at != i + 1)
		at = &custody->items[*at - 1].next;
	*at = item->next;
	close_fd(&item->fd);
	item->state = CUSTODY_FREE;
	item->next = custody->first_free;
	custody->first_free = i + 1;
	custody->count--;
}

void custody_init(struct custody *custody, int vms_dir)
{
	*custody = (struct custody){.vms_dir = vms_dir};
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++)
		custody->locks[i] = (struct custody_lock){.fd = -1};
}

int custody_put(struct custody *custody, const struct keeper_custody *what, int fd)
{
	int error;

	if (!custody_place_exists(what))
		return -EINVAL;
	struct custody_item *item = custody_make(custody, what, &error);
	if (!item)
		return error;
	close_fd(&item->fd);
	item->what = *what;
	item->fd = fd;
	item->state = CUSTODY_HELD;
	return 0;
}

int custody_release(struct custody *custody, const struct keeper_custody *what)
{
	if (!custody_place_exists(what))
		return -EINVAL;
	struct custody_item *item = custody_find(custody, what);
	if (item)
		custody_remove(custody, item);
	return 0;
}

int custody_stage_release(struct custody *staged, const struct keeper_custody *what)
{
	int error;

	if (!custody_place_exists(what))
		return -EINVAL;
	struct custody_item *item = custody_make(staged, what, &error);
	if (!item)
		return error;
	close_fd(&item->fd);
	item->state = CUSTODY_RELEASED;
	return 0;
}

void custody_merge(struct custody *custody, struct custody *staged, bool only_missing)
{
	for (uint32_t i = 0; i < staged->used; i++) {
		struct custody_item *item = &staged->items[i];
		bool missing = 1u << item->what.kind & CUSTODY_STATE &&
			       !custody_find(custody, &item->what);

		if (only_missing && !missing)
			continue;
		if (item->state == CUSTODY_RELEASED && !only_missing)
			custody_release(custody, &item->what);
		if (item->state == CUSTODY_HELD && custody_put(custody, &item->what, item->fd) == 0)
			item->fd = -1;
	}
	custody_finish(staged);
}

const struct custody_item *custody_get(
	const struct custody *custody, enum keeper_custody_kind kind, uint32_t index)
{
	const struct keeper_custody what = {.kind = kind, .index = index};

	return custody_place_exists(&what) ? custody_find(custody, &what) : NULL;
}

const struct custody_item *custody_at(const struct custody *custody, uint32_t *cursor)
{
	for (; *cursor < custody->used; ++*cursor) {
		if (custody->items[*cursor].state == CUSTODY_HELD)
			return &custody->items[*cursor];
	}
	return NULL;
}

void custody_drop_kinds(struct custody *custody, uint32_t kinds)
{
	for (uint32_t i = 0; i < custody->used; i++) {
		struct custody_item *item = &custody->items[i];
		if (item->state != CUSTODY_FREE && 1u << item->what.kind & kinds)
			custody_remove(custody, item);
	}
}

void custody_drop_connection(struct custody *custody, uint32_t id)
{
	for (uint32_t i = 0; i < custody->used; i++) {
		struct custody_item *item = &custody->items[i];
		if (item->state != CUSTODY_FREE && 1u << item->what.kind & CUSTODY_MANY &&
			item->what.index == id)
			custody_remove(custody, item);
	}
}

uint64_t custody_bytes(const struct custody *custody, uint32_t kinds)
{
	const struct custody_item *item;
	uint64_t sum = 0;

	for (uint32_t i = 0; (item = custody_at(custody, &i)); i++) {
		struct stat file;
		if (1u << item->what.kind & kinds && fstat(item->fd, &file) == 0 &&
			S_ISREG(file.st_mode))
			sum += (uint64_t)file.st_blocks * 512;
	}
	return sum;
}

/* --- locks --- */

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
	for (uint32_t i = 0; i < custody->used; i++)
		close_fd(&custody->items[i].fd);
	free(custody->items);
	free(custody->buckets);
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++)
		custody_unlock(custody, &custody->locks[i]);
	custody_init(custody, custody->vms_dir);
}

void custody_release_guest(struct custody *custody)
{
	custody_drop_kinds(custody, CUSTODY_GUEST);
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
static int custody_claim_file(struct custody *custody, const struct memory_look *file,
	struct custody_lock *old, struct custody_lock *locks, unsigned *n_locks)
{
	for (unsigned i = 0; i < *n_locks; i++) {
		if (locks[i].dev == file->dev && locks[i].ino == file->ino)
			return 0;
	}
	struct custody_lock lock = {.fd = -1, .dev = file->dev, .ino = file->ino};
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
		struct memory_look file;
		const struct custody_item *item = custody_get(custody, KEEPER_CUSTODY_MEMORY, i);
		if (!item)
			continue;
		r = memory_file_look(item->fd, &file);
		if (r == 0)
			r = custody_claim_file(custody, &file, custody->locks, locks, &n_locks);
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

static bool custody_has_lock(const struct custody *custody, const struct memory_look *file)
{
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++) {
		const struct custody_lock *lock = &custody->locks[i];
		if (lock->fd >= 0 && lock->dev == file->dev && lock->ino == file->ino)
			return true;
	}
	return false;
}

bool custody_has_claimed(const struct custody *custody, const struct custody *staged)
{
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++) {
		struct memory_look file;
		const struct custody_item *item = custody_get(staged, KEEPER_CUSTODY_MEMORY, i);
		if (!item || item->state != CUSTODY_HELD)
			continue;
		if (memory_file_look(item->fd, &file) < 0 || !custody_has_lock(custody, &file))
			return false;
	}
	return true;
}
