/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "base/cleanup.h"
#include "control/slice_thread.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static int page_make(const char *name, void **ret_map)
{
	cleanup_close int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, SLICE_PAGE_SIZE) < 0)
		return -errno;
	void *map = mmap(NULL, SLICE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	*ret_map = map;
	return TAKE_FD(fd);
}

void slice_pages_finish(struct slice_pages *pages)
{
	if (!pages->page && !pages->claim)
		return;
	if (pages->page)
		munmap(pages->page, SLICE_PAGE_SIZE);
	if (pages->claim)
		munmap(pages->claim, SLICE_PAGE_SIZE);
	close_fd(&pages->page_fd);
	close_fd(&pages->claim_fd);
	close_fd(&pages->wake_fd);
	*pages = (struct slice_pages){.page_fd = -1, .claim_fd = -1, .wake_fd = -1};
}

int slice_pages_create(struct slice_pages *ret)
{
	const int size = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	struct slice_pages pages = {.claim_fd = -1, .wake_fd = -1};

	pages.page_fd = page_make("vgpu-slices", (void **)&pages.page);
	if (pages.page_fd >= 0)
		pages.claim_fd = page_make("vgpu-claim", (void **)&pages.claim);
	int err = MIN(pages.page_fd, pages.claim_fd);
	pages.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pages.page_fd >= 0 && pages.claim_fd >= 0)
		err = pages.wake_fd < 0 ||
				      /* Our own mapping is there already; there will be no other.
				       */
				      fcntl(pages.page_fd, F_ADD_SEALS,
					      size | F_SEAL_FUTURE_WRITE) < 0 ||
				      fcntl(pages.claim_fd, F_ADD_SEALS, size) < 0
			      ? -errno
			      : 0;
	if (err < 0) {
		slice_pages_finish(&pages);
		return err;
	}
	*ret = pages;
	return 0;
}
