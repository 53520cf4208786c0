/* SPDX-License-Identifier: Apache-2.0 */
#include "base/iov.h"

#include "base/checked.h"

#include <string.h>

uint64_t iov_size(const struct iovec *iov, size_t n)
{
	uint64_t total = 0;
	for (size_t i = 0; i < n; i++) {
		if (!checked_add(total, iov[i].iov_len, &total))
			return UINT64_MAX;
	}
	return total;
}

static size_t iov_copy(
	const struct iovec *iov, size_t n, uint64_t offset, char *buf, size_t len, bool to_iov)
{
	size_t done = 0;

	for (size_t i = 0; i < n && done < len; i++) {
		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		size_t part = MIN(iov[i].iov_len - (size_t)offset, len - done);
		char *at = (char *)iov[i].iov_base + offset;
		if (to_iov)
			memcpy(at, buf + done, part);
		else
			memcpy(buf + done, at, part);
		done += part;
		offset = 0;
	}
	return done;
}

size_t iov_read(const struct iovec *iov, size_t n, uint64_t offset, void *buf, size_t len)
{
	return iov_copy(iov, n, offset, buf, len, false);
}

size_t iov_write(const struct iovec *iov, size_t n, uint64_t offset, const void *buf, size_t len)
{
	return iov_copy(iov, n, offset, (char *)(uintptr_t)buf, len, true);
}
