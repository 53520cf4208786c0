/* SPDX-License-Identifier: Apache-2.0 */
#include "host/drm_usage.h"

#include "base/cleanup.h"
#include "base/parse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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

static bool usage_has_client(const struct drm_usage *usage, uint64_t client)
{
	char text[FDINFO_MAX];
	uint64_t id;

	for (unsigned i = 0; i < usage->n; i++) {
		if (fdinfo_read(usage->fds[i], text, sizeof(text)) &&
			fdinfo_sum(text, client_key, &id) && id == client)
			return true;
	}
	return false;
}

/* Takes in one descriptor of the process, if it is a client of its own. */
static void usage_add(struct drm_usage *usage, int dir, const char *name)
{
	char text[FDINFO_MAX];
	uint64_t client, ns;

	cleanup_close int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || !fdinfo_read(fd, text, sizeof(text)) ||
		!fdinfo_sum(text, client_key, &client) || !fdinfo_sum(text, engine_key, &ns) ||
		usage_has_client(usage, client))
		return;
	usage->fds[usage->n++] = TAKE_FD(fd);
}

bool drm_usage_open(const char *proc, pid_t pid, struct drm_usage *ret)
{
	const struct dirent *entry;
	char path[128];

	*ret = (struct drm_usage){0};
	snprintf(path, sizeof(path), "%.80s/%d/fdinfo", proc, (int)pid);
	DIR *dir = opendir(path);
	while (dir && ret->n < DRM_USAGE_FILES && (entry = readdir(dir))) {
		if (entry->d_name[0] != '.')
			usage_add(ret, dirfd(dir), entry->d_name);
	}
	if (dir)
		closedir(dir);
	return ret->n != 0;
}

bool drm_usage_read(const struct drm_usage *usage, uint64_t *ret_ns)
{
	char text[FDINFO_MAX];
	uint64_t ns;

	*ret_ns = 0;
	for (unsigned i = 0; i < usage->n; i++) {
		if (!fdinfo_read(usage->fds[i], text, sizeof(text)) ||
			!fdinfo_sum(text, engine_key, &ns))
			return false;
		*ret_ns += ns;
	}
	return usage->n != 0;
}

void drm_usage_close(struct drm_usage *usage)
{
	for (unsigned i = 0; i < usage->n; i++)
		close_fd(&usage->fds[i]);
	usage->n = 0;
}
