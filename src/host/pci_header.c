/* SPDX-License-Identifier: Apache-2.0 */
#include "host/pci_header.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>

#define AT_VENDOR  0x00
#define AT_DEVICE  0x02
#define AT_COMMAND 0x04
#define AT_CLASS   0x08 /* above a byte of revision */
#define AT_BARS    0x10

static int open_config(const struct host_roots *roots, const char *address, int flags)
{
	cleanup_close int dir = pci_open(roots, address);

	if (dir < 0)
		return dir;
	int fd = openat(dir, "config", flags | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

static uint16_t le16(const uint8_t *at)
{
	return (uint16_t)(at[0] | at[1] << 8);
}

static uint32_t le32(const uint8_t *at)
{
	return le16(at) | (uint32_t)le16(at + 2) << 16;
}

int pci_header_read(const struct host_roots *roots, const char *address, struct pci_header *ret)
{
	uint8_t bytes[PCI_HEADER_BYTES];

	cleanup_close int fd = open_config(roots, address, O_RDONLY);
	if (fd < 0)
		return fd;
	ssize_t n = pread(fd, bytes, sizeof(bytes), 0);
	if (n < 0)
		return -errno;
	if (n != (ssize_t)sizeof(bytes))
		return -EBADMSG;
	*ret = (struct pci_header){.vendor = le16(bytes + AT_VENDOR),
		.device = le16(bytes + AT_DEVICE),
		.command = le16(bytes + AT_COMMAND),
		.class = le32(bytes + AT_CLASS) >> 8};
	for (unsigned i = 0; i < PCI_BARS; i++)
		ret->bars[i] = le32(bytes + AT_BARS + i * 4);
	return ret->vendor == PCI_NO_ANSWER ? -EIO : 0;
}

int pci_command_write(const struct host_roots *roots, const char *address, uint16_t command)
{
	const uint8_t bytes[2] = {(uint8_t)command, (uint8_t)(command >> 8)};

	cleanup_close int fd = open_config(roots, address, O_RDWR);
	if (fd < 0)
		return fd;
	ssize_t n = pwrite(fd, bytes, sizeof(bytes), AT_COMMAND);
	return n < 0 ? -errno : n == (ssize_t)sizeof(bytes) ? 0 : -EIO;
}
