/* SPDX-License-Identifier: Apache-2.0 */
#include "shaders/internal.h"

#include "base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_NAME    ".lock"
#define ARCHIVES_MAX 16u

int folder_lock(int folder)
{
	cleanup_close int fd =
		openat(folder, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return -errno;
	return TAKE_FD(fd);
}

struct folder_use {
	uint64_t bytes;
	unsigned archives;
	char oldest[NAME_BYTES]; /* "": none but the one that stays */
	struct timespec used;
};

static bool is_fresh(const char *name)
{
	size_t n = strlen(name), suffix = strlen(FRESH_SUFFIX);
	return n > suffix && !strcmp(name + n - suffix, FRESH_SUFFIX);
}

static bool earlier(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

static void folder_count(int folder, const char *name, const char *stays, struct folder_use *use)
{
	struct stat st;

	if (name[0] == '.' || fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (is_fresh(name) || strlen(name) >= sizeof(use->oldest)) {
		unlinkat(folder, name, 0); /* of one that was killed: the lock is ours */
		return;
	}
	use->bytes += (uint64_t)st.st_size;
	use->archives++;
	if (strcmp(name, stays) != 0 && (!use->oldest[0] || earlier(&st.st_mtim, &use->used))) {
		snprintf(use->oldest, sizeof(use->oldest), "%s", name);
		use->used = st.st_mtim;
	}
}

static int folder_look(int folder, const char *stays, struct folder_use *ret)
{
	const struct dirent *entry;

	*ret = (struct folder_use){0};
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		int r = -errno;
		close_fd(&fd);
		return r;
	}
	while ((entry = readdir(dir)))
		folder_count(folder, entry->d_name, stays, ret);
	closedir(dir);
	return 0;
}

int folder_make_room(int folder, const char *stays, uint64_t budget)
{
	struct folder_use use;
	int r = folder_look(folder, stays, &use);

	while (!r && use.oldest[0] && (use.bytes > budget || use.archives > ARCHIVES_MAX)) {
		r = unlinkat(folder, use.oldest, 0) < 0 ? -errno : 0;
		if (!r)
			r = folder_look(folder, stays, &use);
	}
	return r;
}
