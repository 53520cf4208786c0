/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_DRM_USAGE_H
#define VGPU_HOST_DRM_USAGE_H

/*
 * How long a GPU's engines worked for a process, as its kernel driver says in the fdinfo of the
 * process' DRM descriptors (Documentation/gpu/drm-usage-stats.rst). The process has no say in it,
 * and cannot open another one once it is locked down.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define DRM_USAGE_FILES 16

struct drm_usage {
	int fds[DRM_USAGE_FILES]; /* fdinfo files; several may be of one client of the driver */
	unsigned n;
};

/*
 * Finds the DRM descriptors of that process below `proc` ("/proc"), without asking their driver
 * anything. False: there are none, or we may not look; `ret` is empty then.
 */
bool drm_usage_open(const char *proc, pid_t pid, struct drm_usage *ret);
/*
 * Asks the driver, which may keep us waiting for as long as it likes: adds up all engines of each
 * client, ns. False: it does not tell, of none. Allocates nothing.
 */
bool drm_usage_read(const struct drm_usage *usage, uint64_t *ret_ns);
void drm_usage_close(struct drm_usage *usage); /* of an empty one, too */

#endif
