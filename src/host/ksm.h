/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_KSM_H
#define VGPU_HOST_KSM_H

/*
 * KSM, the kernel's memory over-commit: pages of equal content become one, copied again when
 * written (Documentation/admin-guide/mm/ksm.rst).
 *
 * It merges private anonymous memory that asked for it (madvise MADV_MERGEABLE, which QEMU does for
 * its guests unless mem-merge=off, or prctl PR_SET_MEMORY_MERGE), and nothing else: never shared
 * memory (memfd, tmpfs, hugetlbfs), so never the memory of a vhost-user VM, and never huge pages.
 * What it saves is needed again when guests write, at any time.
 *
 * `run`: 0 stopped, what is merged stays so; 1 running; 2 stopped and all unmerged.
 */

#include "base/error.h"
#include "host/sysfs.h"
#include "host/vfio.h"

enum ksm_run { KSM_STOPPED, KSM_RUNNING, KSM_UNMERGED };

#define KSM_UNSAID     UINT64_MAX
#define KSM_SWITCH_MS  5000u   /* to start */
#define KSM_UNMERGE_MS 120000u /* a copy of every merged page */

/* X(field): a file of that name each; KSM_UNSAID where this kernel has none. */
#define KSM_NUMBERS(X)                                                                             \
	X(run)                                                                                     \
	X(pages_to_scan)                                                                           \
	X(sleep_millisecs)                                                                         \
	X(pages_shared)                                                                            \
	X(pages_sharing)                                                                           \
	X(pages_unshared)                                                                          \
	X(pages_volatile)                                                                          \
	X(full_scans)                                                                              \
	X(merge_across_nodes)                                                                      \
	X(max_page_sharing)                                                                        \
	X(use_zero_pages)

struct ksm {
	int code; /* 0; -ENOENT: this kernel has no KSM; -errno: it cannot be read */
#define X(field) uint64_t field;
	KSM_NUMBERS(X)
#undef X
};

void ksm_read(const struct host_roots *roots, struct ksm *ret);
/* Bytes that are saved now, and needed to unmerge; 0 where it is not known. */
uint64_t ksm_saved_bytes(const struct ksm *ksm);

/*
 * To `run`, and reads back until it shows. 0; -EBUSY: to unmerge, what is saved and `keep_free`
 * bytes must fit into `available`, and do not; -EROFS, -EACCES, -EPERM, -ENOENT: it cannot be
 * written; -ETIMEDOUT; -EIO: it was written and does not show. `err` says so in one line that
 * `what` begins. May wait: KSM_UNMERGE_MS. `ret_after`: as it is then, whatever came of it.
 */
int ksm_switch(const struct host_roots *roots, const struct vfio_kernel *kernel, enum ksm_run run,
	uint64_t available, uint64_t keep_free, const char *what, struct ksm *ret_after,
	struct error *err);

#endif
