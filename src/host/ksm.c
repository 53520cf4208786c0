/* SPDX-License-Identifier: Apache-2.0 */
#include "host/ksm.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KSM_FOLDER "kernel/mm/ksm"
#define STEP_MS    20u
#define MIB        (1ull << 20)

static const struct {
	const char *name;
	size_t at;
} numbers[] = {
#define X(field) {#field, offsetof(struct ksm, field)},
	KSM_NUMBERS(X)
#undef X
};

void ksm_read(const struct host_roots *roots, struct ksm *ret)
{
	char path[SYSFS_PATH_MAX];

	*ret = (struct ksm){0};
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		*(uint64_t *)(void *)((char *)ret + numbers[i].at) = KSM_UNSAID;
	snprintf(path, sizeof(path), "%s/" KSM_FOLDER, roots->sys);
	cleanup_close int dir = sysfs_open(AT_FDCWD, path);
	if (dir < 0) {
		ret->code = dir;
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		uint64_t *to = (uint64_t *)(void *)((char *)ret + numbers[i].at);
		int r = sysfs_number(dir, numbers[i].name, 10, KSM_UNSAID - 1, to);
		if (r < 0 && !strcmp(numbers[i].name, "run"))
			ret->code = r;
	}
}

uint64_t ksm_saved_bytes(const struct ksm *ksm)
{
	uint64_t bytes, page = (uint64_t)sysconf(_SC_PAGESIZE);

	if (ksm->pages_sharing == KSM_UNSAID || !checked_mul(ksm->pages_sharing, page, &bytes))
		return 0;
	return bytes;
}

/* Why it could not be written. */
static int switch_refused(int code, const char *what, struct error *err)
{
	switch (code) {
	case -ENOENT:
		return error_set(err, ENOENT,
			"%s: this kernel has no KSM (use one built with CONFIG_KSM)", what);
	case -EROFS:
		return error_set(err, EROFS,
			"%s: /sys is mounted read-only here (run vgpud outside of the container, "
			"or "
			"remount it)",
			what);
	case -ETIMEDOUT:
		return error_set(err, ETIMEDOUT,
			"%s: the kernel is still at it (see pages_shared in `vgpuctl node show`, "
			"and try again)",
			what);
	default:
		return error_set(err, -code, "%s: /sys/kernel/mm/ksm/run: %s (%s)", what,
			sysfs_why(code), sysfs_remedy(code));
	}
}

static bool switched(const struct ksm *ksm, enum ksm_run run)
{
	bool merged = ksm->pages_shared != KSM_UNSAID && ksm->pages_shared;

	return ksm->code == 0 && ksm->run == run && (run != KSM_UNMERGED || !merged);
}

int ksm_switch(const struct host_roots *roots, const struct vfio_kernel *kernel, enum ksm_run run,
	uint64_t available, uint64_t keep_free, const char *what, struct ksm *ret_after,
	struct error *err)
{
	char path[SYSFS_PATH_MAX], text[8];
	unsigned limit_ms = run == KSM_UNMERGED ? KSM_UNMERGE_MS : KSM_SWITCH_MS;
	uint64_t end = clock_ms() + limit_ms, needed;

	ksm_read(roots, ret_after);
	if (ret_after->code)
		return switch_refused(ret_after->code, what, err);
	uint64_t saved = run == KSM_UNMERGED ? ksm_saved_bytes(ret_after) : 0;
	if (saved && (!checked_add(saved, keep_free, &needed) || needed > available))
		return error_set(err, EBUSY,
			"%s: KSM saves %llu MiB, which would be needed again, and of %llu MiB "
			"available %llu shall stay free (end a VM, or add memory or swap)",
			what, (unsigned long long)(saved / MIB),
			(unsigned long long)(available / MIB),
			(unsigned long long)(keep_free / MIB));
	snprintf(path, sizeof(path), "%s/" KSM_FOLDER "/run", roots->sys);
	snprintf(text, sizeof(text), "%d", (int)run);
	int r = kernel->write(kernel->data, path, text, limit_ms);
	if (r < 0)
		return switch_refused(r, what, err);
	for (;;) {
		ksm_read(roots, ret_after);
		if (switched(ret_after, run))
			return 0;
		if (clock_ms() >= end || ret_after->run != run)
			return error_set(err, EIO,
				"%s: %d was written to /sys/kernel/mm/ksm/run and it shows %llu, "
				"%llu pages shared (see who else writes it: ksmtuned?)",
				what, (int)run, (unsigned long long)ret_after->run,
				(unsigned long long)ret_after->pages_shared);
		nanosleep(&(struct timespec){.tv_nsec = STEP_MS * 1000000}, NULL);
	}
}
