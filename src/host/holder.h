/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_HOLDER_H
#define VGPU_HOST_HOLDER_H

/*
 * Which processes have a device file open, for the text of a refusal: found among the links in
 * /proc/PID/fd, as fuser(1) does, but for those of O_PATH, which do not open it. It is true of the
 * moment it was read. Whoever relies on nobody being there looks at `complete`, too.
 */

#include "host/sysfs.h"

#define HOLDERS_MAX     16
#define HOLDER_FILES    136        /* of all VFs of a PF */
#define HOLDER_VFIO_MAX 2          /* VFIO files of one device */
#define HOLDER_PIDS_MAX (1u << 22) /* the kernel has no more */
#define HOLDER_FDS_MAX  (1u << 20) /* looked at in one process */

#define HOLDER_FILE_MAX 64

struct holder {
	uint32_t pid;
	char comm[32];
	char file[HOLDER_FILE_MAX]; /* below /dev */
};

struct holders {
	struct holder list[HOLDERS_MAX]; /* one for each process */
	size_t count;
	size_t total;  /* processes, those not in the list too */
	bool complete; /* every process could be looked at (root can), and all of it */
};

/* `files`: below /dev, as "dri/card0"; HOLDER_FILES of them are looked for. */
void holders_find(
	const struct host_roots *roots, const char *const *files, size_t n, struct holders *ret);
/* The same, and ret_held[i]: somebody has files[i] open. */
void holders_find_each(const struct host_roots *roots, const char *const *files, size_t n,
	bool *ret_held, struct holders *ret);
#define HOLDER_VFIO_OWN "vfio/devices" /* the folder of devices' own */
/*
 * The files by which VFIO gives away a device, below /dev: that of its group and, from kernel 6.6,
 * its own. `device`: its folder. Returns how many; they need not be there.
 */
size_t holder_vfio_files(int device, char ret[HOLDER_VFIO_MAX][HOLDER_FILE_MAX]);
/* Its own alone, by which it is opened without its group; false: the kernel has none. */
bool holder_vfio_own(int device, char ret[static HOLDER_FILE_MAX]);

#endif
