/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VHOST_USER_GUARD_H
#define VGPU_FRONTEND_VHOST_USER_GUARD_H

/*
 * Guards mappings of files that somebody else can truncate: touching what is no longer there
 * raises SIGBUS. The handler puts zeroed private memory over the whole mapping, so the access goes
 * on with zeros, and remembers it; the owner asks guard_broken() and drops the connection.
 *
 * Process-wide by nature, as signal dispositions are. A SIGBUS anywhere else ends the process, by
 * abort(). Only data is guarded: a system call given a lost address answers EFAULT as ever.
 */

#include <stdbool.h>
#include <stddef.h>

#define GUARD_MAX 256 /* mappings at a time, over the whole process */

struct guard; /* a slot of the process' table */

/*
 * Installs the SIGBUS handler: once in a process, before lock-down and before any connection. May
 * be called again. 0 or -errno.
 */
int guard_install_sigbus_handler(void);

/* Guards a mapping of whole pages. -ENOSPC. Not thread-safe. */
int guard_add(void *start, size_t len, struct guard **ret);
/* Before the mapping is undone. NULL-safe. */
void guard_remove(struct guard *guard);
/* True when the mapping lost its file's memory at some time. */
bool guard_broken(const struct guard *guard);

#endif
