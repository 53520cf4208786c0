/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_RESIDENT_H
#define VGPU_PROCESS_RESIDENT_H

/*
 * How many bytes of memory this process has in use that are nobody else's: pages of its own that
 * were touched, without files, shared memory and memory of guests. From a descriptor of
 * /proc/self/statm that is opened before paths are gone.
 */

#include <stdint.h>

struct resident {
	int fd;
};

/* 0 or -errno: nothing is known then. */
int resident_open(struct resident *r);
void resident_close(struct resident *r);
/* `data`: a struct resident; 0: not known. */
uint64_t resident_bytes(void *data);

#endif
