/* SPDX-License-Identifier: Apache-2.0 */
#include "host/holder.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FDINFO_READ 4096u

struct search {
	const char *dev; /* where device files are here; others may call it /dev */
	const char *const *files;
	size_t n;
	struct holders *ret;
	bool *held; /* for each file, or NULL: the first of a process is enough */
};

/* Which file a link of a process is; `n`: none. */
static size_t file_of(const struct search *s, const char *target)
{
	const char *const places[] = {"/dev", s->dev};

	for (size_t p = 0; p < ARRAY_SIZE(places); p++) {
		size_t len = strlen(places[p]);
		if (strncmp(target, places[p], len) != 0 || target[len] != '/')
			continue;
		for (size_t i = 0; i < s->n; i++) {
			if (!strcmp(target + len + 1, s->files[i]))
				return i;
		}
	}
	return s->n;
}

static void add_holder(const struct search *s, int process, uint32_t pid, const char *file)
{
	struct holders *ret = s->ret;

	ret->total++;
	if (ret->count == HOLDERS_MAX)
		return;
	struct holder *holder = &ret->list[ret->count++];
	*holder = (struct holder){.pid = pid};
	snprintf(holder->file, sizeof(holder->file), "%s", file);
	if (sysfs_read(process, "comm", holder->comm, sizeof(holder->comm)) < 0)
		snprintf(holder->comm, sizeof(holder->comm), "?"); /* it just ended */
}

static bool only_names(const char *fdinfo)
{
	const char *at = strstr(fdinfo, "flags:");
	uint64_t flags;

	if (!at)
		return false;
	at += strlen("flags:");
	return parse_next(&at, 8, UINT32_MAX, &flags) && (flags & O_PATH);
}

/*
 * Is a descriptor good for more than to name its file? Not one of O_PATH: sd-event keeps such of
 * what vgpud watches until its loop goes on. Nor one that was closed meanwhile.
 */
static bool is_open(int process, int links, const char *name)
{
	char path[64], text[FDINFO_READ];
	struct stat link;

	if (fstatat(links, name, &link, AT_SYMLINK_NOFOLLOW) < 0)
		return errno != ENOENT && errno != ESRCH;
	if (link.st_mode & (S_IRUSR | S_IWUSR))
		return true;
	/* Neither to be read nor written: named, or opened for ioctls alone. */
	snprintf(path, sizeof(path), "fdinfo/%.32s", name);
	int r = sysfs_read(process, path, text, sizeof(text));
	if (r < 0)
		return r != -ENOENT && r != -ESRCH;
	return !only_names(text);
}

static void look_at(const struct search *s, int process, uint32_t pid)
{
	const struct dirent *entry;
	char target[PATH_MAX];
	unsigned looked = 0;
	bool added = false;

	int fd = sysfs_open(process, "fd");
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir) {
		/* A process that ended has nothing open. */
		s->ret->complete &= fd == -ENOENT || fd == -ESRCH;
		close_fd(&fd);
		return;
	}
	while ((entry = readdir(dir))) {
		if (looked++ == HOLDER_FDS_MAX) {
			s->ret->complete = false;
			break;
		}
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		size_t file = file_of(s, target);
		if (file == s->n || !is_open(process, dirfd(dir), entry->d_name))
			continue;
		if (!added)
			add_holder(s, process, pid, s->files[file]);
		added = true;
		if (!s->held)
			break;
		s->held[file] = true;
	}
	closedir(dir);
}

void holders_find_each(const struct host_roots *roots, const char *const *files, size_t n,
	bool *ret_held, struct holders *ret)
{
	const struct search s = {roots->dev, files, MIN(n, (size_t)HOLDER_FILES), ret, ret_held};
	const struct dirent *entry;
	unsigned pids = 0;
	uint64_t pid;

	*ret = (struct holders){.complete = n <= HOLDER_FILES};
	if (!n)
		return;
	int fd = sysfs_open(AT_FDCWD, roots->proc);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir) {
		ret->complete = false;
		close_fd(&fd);
		return;
	}
	while ((entry = readdir(dir))) {
		if (!parse_number(entry->d_name, 10, INT_MAX, &pid))
			continue;
		if (pids++ == HOLDER_PIDS_MAX) {
			ret->complete = false;
			break;
		}
		cleanup_close int process = sysfs_open(dirfd(dir), entry->d_name);
		if (process >= 0)
			look_at(&s, process, (uint32_t)pid);
		else
			ret->complete &= process == -ENOENT;
	}
	closedir(dir);
}

void holders_find(
	const struct host_roots *roots, const char *const *files, size_t n, struct holders *ret)
{
	holders_find_each(roots, files, n, NULL, ret);
}

/* "vfioN", as the kernel numbers them. */
static bool is_own_name(const char *name)
{
	uint64_t number;

	return !strncmp(name, "vfio", 4) && parse_number(name + 4, 10, INT_MAX, &number);
}

bool holder_vfio_own(int device, char ret[static HOLDER_FILE_MAX])
{
	cleanup_names struct sysfs_names names = {0};
	char number[SYSFS_NAME_MAX + 16];

	if (sysfs_list(device, "vfio-dev", &names) < 0 || !names.count ||
		!is_own_name(names.name[0]))
		return false;
	/* Without CONFIG_VFIO_DEVICE_CDEV it is there from 6.1 and has no file, so no number. */
	snprintf(number, sizeof(number), "vfio-dev/%s/dev", names.name[0]);
	if (!sysfs_exists(device, number))
		return false;
	snprintf(ret, HOLDER_FILE_MAX, HOLDER_VFIO_OWN "/%.32s", names.name[0]);
	return true;
}

size_t holder_vfio_files(int device, char ret[HOLDER_VFIO_MAX][HOLDER_FILE_MAX])
{
	char group[16];
	size_t n = 0;

	if (sysfs_link(device, "iommu_group", group, sizeof(group)) == 0)
		snprintf(ret[n++], HOLDER_FILE_MAX, "vfio/%s", group);
	return n + holder_vfio_own(device, ret[n]);
}
