/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include "virtqueue.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define WIRE_MAGIC   0x52495756u /* "VWIR" */
#define WIRE_VERSION 1u
#define WIRE_SEALS   (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

_Static_assert(WIRE_RING_SIZE == VIRTQUEUE_MAX_SIZE, "every ring can be tracked");

struct wire *wire_create_private(void)
{
	struct wire *wire = aligned_alloc(64, sizeof(*wire));

	if (wire)
		memset(wire, 0, sizeof(*wire));
	return wire;
}

static int wire_map(int fd, struct wire **ret)
{
	struct wire *wire =
		mmap(NULL, sizeof(*wire), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);

	if (wire == MAP_FAILED)
		return -errno;
	*ret = wire;
	return 0;
}

int wire_create(int *ret_fd, struct wire **ret)
{
	cleanup_close int fd = memfd_create("vgpu-wire", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, sizeof(struct wire)) < 0 ||
		fcntl(fd, F_ADD_SEALS, WIRE_SEALS) < 0)
		return -errno;
	int err = wire_map(fd, ret);
	if (err)
		return err;
	(*ret)->version = WIRE_VERSION;
	(*ret)->magic = WIRE_MAGIC;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int wire_open(int fd, struct wire **ret)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	/* What can be cut short would end this process at any access. */
	if (seals < 0 || (seals & WIRE_SEALS) != WIRE_SEALS || fstat(fd, &st) < 0 ||
		st.st_size != (off_t)sizeof(struct wire))
		return -EBADMSG;
	int err = wire_map(fd, ret);
	if (err)
		return err;
	if ((*ret)->magic != WIRE_MAGIC || (*ret)->version != WIRE_VERSION) {
		wire_destroy(*ret, true);
		return -EBADMSG;
	}
	return 0;
}

void wire_destroy(struct wire *wire, bool shared)
{
	if (shared && wire)
		munmap(wire, sizeof(*wire));
	else
		free(wire);
}
