/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_BASE_CLEANUP_H
#define VGPU_BASE_CLEANUP_H

/*
 * Scope-bound ownership. A variable marked with one of these is released when it leaves its scope;
 * hand it on with TAKE_PTR() or TAKE_FD(), which leave NULL or -1 behind.
 */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_fn(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close_fn(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_fclose_fn(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define cleanup_free   __attribute__((cleanup(cleanup_free_fn)))
#define cleanup_close  __attribute__((cleanup(cleanup_close_fn)))
#define cleanup_fclose __attribute__((cleanup(cleanup_fclose_fn)))

#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) taken_ = (p);                                                        \
		(p) = NULL;                                                                        \
		taken_;                                                                            \
	})

#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int taken_ = (fd);                                                                 \
		(fd) = -1;                                                                         \
		taken_;                                                                            \
	})

/* Closes *fd if it is one, and leaves -1. */
static inline void close_fd(int *fd)
{
	cleanup_close_fn(fd);
	*fd = -1;
}

#endif
