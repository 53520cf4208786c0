/* SPDX-License-Identifier: Apache-2.0 */
#include "process/formats.h"

#include "process/channel.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "device/device.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void formats_read(struct formats *formats, const char *path)
{
	struct stat file;

	*formats = (struct formats){.path = path};
	if (!path)
		return;
	/* Whatever lies there, opening and reading it ends. */
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return;
	ssize_t n = fd < 0 || fstat(fd, &file) < 0 ? -1 : 0;
	if (n == 0 && S_ISREG(file.st_mode) && file.st_size <= (off_t)sizeof(formats->bytes))
		n = read(fd, formats->bytes, sizeof(formats->bytes));
	if (n <= 0)
		log_warning(
			"%s cannot be read, or is not what it should be: it is passed over", path);
	else
		formats->size = (size_t)n;
}

void formats_use(struct formats *formats, struct device *dev)
{
	int err = device_fidelity_load(dev, formats->bytes, formats->size);

	formats->known = err == 0;
	if (err < 0 && formats->size)
		log_info("%s is %s: formats are tried again", formats->path,
			err == -ESTALE ? "of another driver, program or processor" : "broken");
}

void formats_tell(const struct formats *formats, struct device *dev, int channel_fd)
{
	struct keeper_formats told = {0};

	if (formats->known || !formats->path)
		return;
	int size = device_fidelity_save(dev, told.bytes, sizeof(told.bytes));
	if (size <= 0)
		return;
	told.size = (uint32_t)size;
	int err = channel_send(channel_fd, KEEPER_DEVICE_FORMATS, &told, -1);
	if (err < 0)
		log_warning("what was found out about formats is not kept: %s", strerror(-err));
}
