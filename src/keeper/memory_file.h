/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_MEMORY_FILE_H
#define VGPU_KEEPER_MEMORY_FILE_H

/*
 * A file that a VM's memory is in, looked at without asking its file system: whoever runs a VM can
 * hand in a file of a file system that is a program of theirs (FUSE) and does not answer, or of a
 * server that is gone. What the kernel remembers of it is enough to tell it from others.
 *
 * Closing such a file asks its file system as well, and nothing can be done about that: then the
 * keeper of that VM's own vGPU waits, until that program answers or ends.
 */

#include <stdint.h>
#include <sys/types.h>

struct memory_look {
	dev_t dev;
	ino_t ino;
	uint64_t size, there; /* bytes; `there`: of them allocated */
};

/* 0 or -errno. */
int memory_file_look(int fd, struct memory_look *ret);

enum memory_file_kind {
	MEMORY_FILE_OTHER,  /* on a disk, or anybody's: nothing of it can be locked */
	MEMORY_FILE_SHARED, /* memfd, tmpfs */
	MEMORY_FILE_HUGE,   /* of huge pages */
};

enum memory_file_kind memory_file_kind(int fd);

#endif
