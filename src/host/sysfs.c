/* SPDX-License-Identifier: Apache-2.0 */
#include "host/sysfs.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

const struct host_roots host_roots_real = {
	.sys = "/sys", .proc = "/proc", .dev = "/dev", .modules = "/lib/modules"};

/* --- what cannot be read --- */

/* Row 0 answers for every other code. */
static const struct {
	int code;
	const char *why, *remedy;
} reasons[] = {
	{0, "the kernel refuses it", "see the kernel's log (dmesg)"},
	{-EACCES, "vgpud's user may not", "run vgpud as root"},
	{-EPERM, "vgpud's user may not", "run vgpud as root"},
	{-EIO, "the device does not answer", "wake or reset it; see the kernel's log (dmesg)"},
	{-ENODEV, "the device is gone", "plug it in again"},
	{-ENXIO, "the device is gone", "plug it in again"},
	{-ETIMEDOUT, "the device does not answer", "wake or reset it; see the kernel's log"},
	{-EBUSY, "its driver is busy with it", "try again"},
	{-EAGAIN, "its driver is busy with it", "try again"},
	{-EINVAL, "it is no text file", "see what is mounted there"},
	{-EISDIR, "it is a folder", "see what is mounted there"},
	{-ELOOP, "it is a link where a value belongs", "see what is mounted there"},
	{-EFBIG, "it is longer than any known driver makes it", "report this driver"},
	{-EBADMSG, "it says what cannot be", "report this driver"},
	{-ENAMETOOLONG, "its name is longer than any known", "report this driver"},
	{-E2BIG, "it holds more than is looked at", "look at it yourself"},
	{-ENOMEM, "vgpud is out of memory", "free some"},
	{-EMFILE, "vgpud has too many files open", "raise its limit (LimitNOFILE)"},
	{-ENFILE, "the node has too many files open", "end something"},
	{-EOPNOTSUPP, "its driver does not offer it", "use a newer driver"},
};

static size_t reason_of(int code)
{
	for (size_t i = 1; i < ARRAY_SIZE(reasons); i++) {
		if (reasons[i].code == code)
			return i;
	}
	return 0;
}

const char *sysfs_why(int code)
{
	return reasons[reason_of(code)].why;
}

const char *sysfs_remedy(int code)
{
	return reasons[reason_of(code)].remedy;
}

/* As it is kept in a trouble: long names lose their beginning. */
static const char *trouble_name(const char *file)
{
	size_t len = strlen(file);

	return len < SYSFS_NAME_MAX ? file : file + len - SYSFS_NAME_MAX + 1;
}

bool sysfs_troubled(const struct sysfs_troubles *troubles, const char *file)
{
	for (size_t i = 0; i < troubles->count; i++) {
		if (!strcmp(troubles->list[i].file, trouble_name(file)))
			return true;
	}
	return false;
}

void sysfs_trouble(struct sysfs_troubles *troubles, const char *file, int code)
{
	if (code >= 0 || code == -ENOENT || code == -ENOTDIR || sysfs_troubled(troubles, file) ||
		troubles->count == SYSFS_TROUBLES_MAX)
		return;
	struct sysfs_trouble *trouble = &troubles->list[troubles->count++];
	trouble->code = code;
	snprintf(trouble->file, sizeof(trouble->file), "%s", trouble_name(file));
}

/* --- values --- */

int sysfs_open(int at, const char *path)
{
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

/* All that the file has, or until `ret` is full; -errno. */
static ssize_t read_all(int fd, char *ret, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, ret + len, size - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

static void make_printable(char *text)
{
	for (char *p = text; *p; p++) {
		if (*p != '\n' && *p != '\t' && (*p & 0x80 || *p < 0x20 || *p == 0x7f))
			*p = '?';
	}
}

int sysfs_read(int dir, const char *name, char *ret, size_t size)
{
	struct stat file;

	ret[0] = '\0';
	/* A FIFO must not keep us; a value is no link. */
	cleanup_close int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &file) < 0)
		return -errno;
	if (!S_ISREG(file.st_mode))
		return S_ISDIR(file.st_mode) ? -EISDIR : -EINVAL;
	ssize_t n = read_all(fd, ret, size);
	int r = n < 0                          ? (int)n
		: (size_t)n == size            ? -EFBIG
		: memchr(ret, '\0', (size_t)n) ? -EINVAL
					       : 0;
	if (r < 0) {
		ret[0] = '\0';
		return r;
	}
	while (n > 0 && strchr(" \t\r\n", ret[n - 1]))
		n--;
	ret[n] = '\0';
	make_printable(ret);
	return 0;
}

int sysfs_number(int dir, const char *name, int base, uint64_t most, uint64_t *ret)
{
	char text[64];

	int r = sysfs_read(dir, name, text, sizeof(text));
	if (r < 0)
		return r == -EFBIG ? -EBADMSG : r;
	return parse_number(text, base, most, ret) ? 0 : -EBADMSG;
}

int sysfs_link(int dir, const char *name, char *ret, size_t size)
{
	char target[SYSFS_PATH_MAX];

	ret[0] = '\0';
	ssize_t n = readlinkat(dir, name, target, sizeof(target));
	if (n < 0)
		return -errno;
	if ((size_t)n == sizeof(target))
		return -EFBIG;
	target[n] = '\0';
	const char *slash = strrchr(target, '/');
	const char *last = slash ? slash + 1 : target;
	if (strlen(last) >= size)
		return -EFBIG;
	memcpy(ret, last, strlen(last) + 1);
	make_printable(ret);
	return 0;
}

bool sysfs_exists(int dir, const char *name)
{
	struct stat file;

	return fstatat(dir, name, &file, 0) == 0;
}

void sysfs_want(int dir, const char *name, char *ret, size_t size, struct sysfs_troubles *troubles)
{
	sysfs_trouble(troubles, name, sysfs_read(dir, name, ret, size));
}

uint64_t sysfs_want_number(int dir, const char *name, int base, uint64_t most, uint64_t otherwise,
	struct sysfs_troubles *troubles)
{
	uint64_t number = otherwise;

	sysfs_trouble(troubles, name, sysfs_number(dir, name, base, most, &number));
	return number;
}

void sysfs_want_link(
	int dir, const char *name, char *ret, size_t size, struct sysfs_troubles *troubles)
{
	int r = sysfs_link(dir, name, ret, size);

	sysfs_trouble(troubles, name, r == -EINVAL ? -EBADMSG : r); /* it is there, and no link */
}

/* --- folders --- */

static int compare_names(const void *a, const void *b)
{
	return strverscmp(a, b);
}

static int add_name(struct sysfs_names *names, size_t *room, const char *name)
{
	if (names->count == *room) {
		size_t more = MAX(*room * 2, (size_t)32);
		void *grown = reallocarray(names->name, more, SYSFS_NAME_MAX);
		if (!grown)
			return -ENOMEM;
		names->name = grown;
		*room = more;
	}
	memcpy(names->name[names->count++], name, strlen(name) + 1);
	return 0;
}

/* A name with control characters is nothing that the kernel made. */
static bool name_fits(const char *name)
{
	size_t len = strlen(name);

	for (const char *p = name; *p; p++) {
		if (*p & 0x80 || *p < 0x20)
			return false;
	}
	return len && len < SYSFS_NAME_MAX;
}

int sysfs_list(int dir, const char *name, struct sysfs_names *ret)
{
	const struct dirent *entry;
	size_t room = 0;
	int r = 0;

	*ret = (struct sysfs_names){0};
	int fd = sysfs_open(dir, name);
	if (fd < 0)
		return fd;
	DIR *stream = fdopendir(fd);
	if (!stream) {
		close(fd);
		return -ENOMEM;
	}
	while (r == 0 && (errno = 0, entry = readdir(stream))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (ret->count == SYSFS_LIST_MAX || !name_fits(entry->d_name)) {
			ret->more = true;
			if (ret->count == SYSFS_LIST_MAX)
				break;
			continue;
		}
		r = add_name(ret, &room, entry->d_name);
	}
	if (r == 0 && !entry && errno)
		r = -errno;
	closedir(stream);
	if (r < 0)
		sysfs_names_free(ret);
	else if (ret->count)
		qsort(ret->name, ret->count, SYSFS_NAME_MAX, compare_names);
	return r;
}

void sysfs_names_free(struct sysfs_names *names)
{
	free(names->name);
	*names = (struct sysfs_names){0};
}
