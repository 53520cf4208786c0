/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_ISOLATION_SYSCALLS_H
#define VGPU_ISOLATION_SYSCALLS_H

/*
 * Every system call a locked-down device may make: the one list. What no row allows kills the
 * process. Rows of one call are alternatives. Where a row answers with an error instead of killing,
 * a driver is known to try the call and to live with the answer.
 *
 * Adding a row: the reason says who calls and when; the condition is as narrow as that caller.
 */

#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>

/* Sanitizers make calls of their own, in both processes. Such a build is for tests only. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZER_BUILD 1
#else
#define SANITIZER_BUILD 0
#endif

enum syscall_when {
	SYSCALL_ALWAYS,
	SYSCALL_RENDER_NODE, /* a real GPU draws */
	SYSCALL_THREADS,     /* isolation_config.threads_later */
	SYSCALL_NO_THREADS,  /* not */
	/* Drawing is on the CPU, no other process' threads can be named, and no mask confines it.
	 */
	SYSCALL_OWN_THREADS,
	SYSCALL_NOT_OWN_THREADS,
};

/* What arguments must be like. Numbers count from 0. */
enum syscall_condition {
	SYSCALL_ANY,
	SYSCALL_ARG_IS,      /* (arg & mask) == value */
	SYSCALL_ARG_AT_MOST, /* arg <= value */
	SYSCALL_ARG0_SELF,   /* argument 0 is the process' own id */
};

struct syscall_row {
	int number;
	enum syscall_when when;
	uint16_t answer_errno; /* 0: allowed */
	enum syscall_condition condition;
	unsigned arg;
	uint64_t mask, value;
	const char *reason;
};

extern const struct syscall_row syscall_rows[];
extern const size_t syscall_row_count;

#endif
