/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include "base/checked.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define GUEST_PAGE 4096u

void guest_memory_init(struct guest_memory *mem)
{
	*mem = (struct guest_memory){0};
}

void guest_memory_finish(struct guest_memory *mem)
{
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++)
		guest_memory_remove(mem, i);
}

void guest_memory_remove(struct guest_memory *mem, unsigned slot)
{
	struct guest_region *region = &mem->slot[slot];

	if (!region->at.size)
		return;
	guard_remove(region->guard);
	munmap(region->map, region->map_len);
	*region = (struct guest_region){0};
}

static bool ranges_meet(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b ? b - a < a_len : a - b < b_len;
}

static const char *guest_region_check(
	const struct guest_memory *mem, const struct vhost_user_region *at)
{
	uint64_t end;

	if (!at->size)
		return "memory region of no size";
	if ((at->gpa | at->size | at->uva | at->offset) % GUEST_PAGE)
		return "memory region is not page-aligned";
	if (!checked_add(at->gpa, at->size, &end) || !checked_add(at->uva, at->size, &end) ||
		!checked_add(at->offset, at->size, &end) || end > INT64_MAX)
		return "memory region is beyond the address space";
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++) {
		const struct vhost_user_region *other = &mem->slot[i].at;
		if (other->size && (ranges_meet(at->gpa, at->size, other->gpa, other->size) ||
					   ranges_meet(at->uva, at->size, other->uva, other->size)))
			return "memory regions overlap";
	}
	return NULL;
}

/* The unit in which the file can be mapped: huge pages on hugetlbfs, which st_blksize tells. */
static uint64_t file_page(const struct stat *st)
{
	uint64_t size = (uint64_t)st->st_blksize;
	bool huge = size > GUEST_PAGE && size <= (1ull << 34) && !(size & (size - 1));
	return huge ? size : GUEST_PAGE;
}

/* Guards what region->map is. */
static const char *guest_region_guard(struct guest_region *region)
{
	if (guard_add(region->map, region->map_len, &region->guard) < 0) {
		munmap(region->map, region->map_len);
		return "too many memory regions in this process";
	}
	/* A core dump is no place for a guest's memory; a refusal changes nothing else. */
	(void)madvise(region->map, region->map_len, MADV_DONTDUMP);
	return NULL;
}

static const char *guest_region_map(struct guest_region *region, int fd)
{
	const struct vhost_user_region *at = &region->at;
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return "memory region is not a file that can be shared";
	if (st.st_size < 0 || !range_inside(at->offset, at->size, (uint64_t)st.st_size))
		return "memory region is larger than its file";
	region->dev = st.st_dev;
	region->ino = st.st_ino;

	uint64_t page = file_page(&st);
	uint64_t lead = at->offset % page;
	uint64_t len = (lead + at->size + page - 1) & ~(page - 1);
	region->map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
		(off_t)(at->offset - lead));
	if (region->map == MAP_FAILED)
		return "memory region cannot be mapped";
	region->map_len = len;
	region->hva = (uint8_t *)region->map + lead;
	return guest_region_guard(region);
}

int guest_memory_add(struct guest_memory *mem, const struct vhost_user_region *at, int fd,
	unsigned *ret_slot, const char **ret_reason)
{
	unsigned slot = 0;

	*ret_reason = guest_region_check(mem, at);
	if (*ret_reason)
		return -EINVAL;
	while (slot < KEEPER_MAX_MEMORY && mem->slot[slot].at.size)
		slot++;
	if (slot == KEEPER_MAX_MEMORY) {
		*ret_reason = "too many memory regions";
		return -ENOSPC;
	}
	struct guest_region region = {.at = *at};
	*ret_reason = guest_region_map(&region, fd);
	if (*ret_reason)
		return -EINVAL;
	mem->slot[slot] = region;
	*ret_slot = slot;
	return 0;
}

int guest_memory_restore(
	struct guest_memory *mem, unsigned slot, const struct guest_region *was, int fd)
{
	struct guest_region region = {.at = was->at, .dev = was->dev, .ino = was->ino};
	struct stat st;

	if (slot >= KEEPER_MAX_MEMORY || mem->slot[slot].at.size ||
		guest_region_check(mem, &was->at))
		return -EINVAL;
	bool same =
		fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == was->dev && st.st_ino == was->ino;
	const char *reason = NULL;
	if (same) {
		reason = guest_region_map(&region, fd);
	} else {
		region.map_len = was->at.size;
		region.map = mmap(NULL, region.map_len, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (region.map == MAP_FAILED)
			return -ENOMEM;
		region.hva = region.map;
		reason = guest_region_guard(&region);
	}
	if (reason)
		return -EINVAL;
	mem->slot[slot] = region;
	return 0;
}

int guest_memory_find(const struct guest_memory *mem, const struct vhost_user_region *at, int fd)
{
	struct stat st = {0};

	if (fd >= 0 && fstat(fd, &st) < 0)
		return -ENOENT;
	for (int i = 0; i < KEEPER_MAX_MEMORY; i++) {
		const struct guest_region *region = &mem->slot[i];
		if (!at->size || region->at.gpa != at->gpa || region->at.size != at->size ||
			region->at.uva != at->uva)
			continue;
		if (fd < 0)
			return i;
		if (region->at.offset == at->offset && region->dev == st.st_dev &&
			region->ino == st.st_ino)
			return i;
	}
	return -ENOENT;
}

void *guest_memory_from_uva(struct guest_memory *mem, uint64_t uva, uint64_t len)
{
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++) {
		const struct guest_region *region = &mem->slot[i];
		if (uva >= region->at.uva &&
			range_inside(uva - region->at.uva, len, region->at.size) && region->at.size)
			return region->hva + (uva - region->at.uva);
	}
	return NULL;
}

/* Host address of gpa and how many bytes follow it in its region, or NULL. */
static uint8_t *guest_memory_at(struct guest_memory *mem, uint64_t gpa, uint64_t *ret_avail)
{
	for (unsigned n = 0; n < KEEPER_MAX_MEMORY; n++) {
		unsigned i = (mem->last + n) % KEEPER_MAX_MEMORY;
		const struct guest_region *region = &mem->slot[i];
		if (gpa >= region->at.gpa && gpa - region->at.gpa < region->at.size) {
			mem->last = i;
			*ret_avail = region->at.size - (gpa - region->at.gpa);
			return region->hva + (gpa - region->at.gpa);
		}
	}
	return NULL;
}

int guest_memory_translate(
	struct guest_memory *mem, uint64_t gpa, uint64_t len, struct iovec *iov, unsigned max)
{
	unsigned n = 0;

	while (len) {
		uint64_t avail;
		uint8_t *hva = guest_memory_at(mem, gpa, &avail);
		if (!hva)
			return -EFAULT;
		if (n == max)
			return -E2BIG;
		avail = MIN(avail, len);
		iov[n++] = (struct iovec){.iov_base = hva, .iov_len = avail};
		len -= avail;
		if (len && !checked_add(gpa, avail, &gpa))
			return -EFAULT;
	}
	return (int)n;
}

int guest_memory_read(struct guest_memory *mem, uint64_t gpa, void *buf, size_t len)
{
	uint8_t *to = buf;

	while (len) {
		uint64_t avail;
		const uint8_t *hva = guest_memory_at(mem, gpa, &avail);
		if (!hva)
			return -EFAULT;
		avail = MIN(avail, len);
		memcpy(to, hva, avail);
		to += avail;
		len -= avail;
		if (len && !checked_add(gpa, avail, &gpa))
			return -EFAULT;
	}
	/* The compiler may not go back to guest memory for what was copied. */
	__asm__ volatile("" ::: "memory");
	return 0;
}

bool guest_memory_broken(const struct guest_memory *mem)
{
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++) {
		if (guard_broken(mem->slot[i].guard))
			return true;
	}
	return false;
}
