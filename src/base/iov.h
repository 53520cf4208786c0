/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_BASE_IOV_H
#define VGPU_BASE_IOV_H

/*
 * Scatter lists over memory that another party can change at any time. Callers copy out once and
 * work on the copy.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Sum of all lengths; UINT64_MAX when it does not fit. */
uint64_t iov_size(const struct iovec *iov, size_t n);

/*
 * Copies up to `len` bytes from `offset` of the scatter list into `buf`, or from `buf` into the
 * list. Returns the bytes copied, fewer than `len` only where the list ends.
 */
size_t iov_read(const struct iovec *iov, size_t n, uint64_t offset, void *buf, size_t len);
size_t iov_write(const struct iovec *iov, size_t n, uint64_t offset, const void *buf, size_t len);

#endif
