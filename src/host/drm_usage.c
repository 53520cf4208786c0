/* SPDX-License-Identifier: Apache-2.0 */
#include "host/drm_usage.h"

#include "base/cleanup.h"
#include "base/parse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FDINFO_MAX 4096

static const char client_key[] = "drm-client-id:", engine_key[] = "drm-engine-";

/* Reads it anew; false: it cannot be read. */
static bool fdinfo_read(int fd, char *ret, size_t size)
{
	ssize_t n = pread(fd, ret, size - 1, 0);

	ret[n < 0 ? 0 : n] = '\0';
	return n > 0;
}

/* Value of a line "key: VALUE ..."; false: it has none. */
static bool line_number(const char *line, uint64_t *ret)
{
	const char *at = strchr(line, ':');
	const char *end = strchr(line, '\n');

	if (!at || (end && end < at))
		return false;
	at++;
	while (*at == ' ' || *at == '\t')
		at++;
	return parse_next(&at, 10, UINT64_MAX, ret);
}

/* Adds up the lines that begin with `key`; false: there is none. */
static bool fdinfo_sum(const char *text, const char *key, uint64_t *ret)
{
	bool any = false;

	*ret = 0;
	for (const char *line = text; line; line = strchr(line, '\n')) {
		uint64_t value;
		line += *line == '\n';
		/* drm-engine-capacity-… says how many engines there are. */
		if (strncmp(line, key, strlen(key)) != 0 ||
			!strncmp(line, "drm-engine-capacity-", 20) || !line_number(line, &value))
			continue;
		*ret += value;
		any = true;
	}
	return any;
}

/* By the name of what it is open on, which asks no driver. */
static bool is_drm(int fds, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(fds, name, target, sizeof(target) - 1);

	target[n < 0 ? 0 : n] = '\0';
	const char *slash = strrchr(target, '/');
	return slash && (!strncmp(slash, "/renderD", 8) || !strncmp(slash, "/card", 5));
}

static int open_folder(const char *proc, pid_t pid, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%.80s/%d/%s", proc, (int)pid, name);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

bool drm_usage_open(const char *proc, pid_t pid, struct drm_usage *ret)
{
	cleanup_close int infos = open_folder(proc, pid, "fdinfo");
	int fds = open_folder(proc, pid, "fd");
	DIR *dir = fds < 0 ? NULL : fdopendir(fds);
	const struct dirent *entry;

	*ret = (struct drm_usage){0};
	while (dir && ret->n < DRM_USAGE_FILES && (entry = readdir(dir))) {
		if (!is_drm(fds, entry->d_name))
			continue;
		int fd = openat(infos, entry->d_name, O_RDONLY | O_CLOEXEC);
		if (fd >= 0)
			ret->fds[ret->n++] = fd;
	}
	if (dir)
		closedir(dir);
	else
		close_fd(&fds);
	return ret->n != 0;
}

static bool is_known(const uint64_t *clients, unsigned n, uint64_t client)
{
	while (n > 0 && clients[n - 1] != client)
		n--;
	return n > 0;
}

bool drm_usage_read(const struct drm_usage *usage, uint64_t *ret_ns)
{
	uint64_t clients[DRM_USAGE_FILES], client, ns;
	char text[FDINFO_MAX];
	unsigned n = 0;

	*ret_ns = 0;
	for (unsigned i = 0; i < usage->n; i++) {
		if (!fdinfo_read(usage->fds[i], text, sizeof(text)) ||
			!fdinfo_sum(text, client_key, &client) ||
			!fdinfo_sum(text, engine_key, &ns) || is_known(clients, n, client))
			continue;
		clients[n++] = client;
		*ret_ns += ns;
	}
	return n != 0;
}

void drm_usage_close(struct drm_usage *usage)
{
	for (unsigned i = 0; i < usage->n; i++)
		close_fd(&usage->fds[i]);
	usage->n = 0;
}
