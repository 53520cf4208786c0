/* SPDX-License-Identifier: Apache-2.0 */
#include "host/headroom.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 1024

/* What each version of control groups calls it. */
static const struct names {
	const char *controller; /* in /proc/self/cgroup */
	const char *mount;      /* below the hierarchies' place */
	const char *limit, *used, *reclaimable;
} versions[] = {
	{":memory:", "/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
		"total_inactive_file"},
	{"::", "", "memory.max", "memory.current", "inactive_file"},
};

/* The number behind `key` at the beginning of a line; `key` "": the first line's. */
static bool file_number(const char *dir, const char *file, const char *key, uint64_t *ret)
{
	char path[PATH_MAX], line[LINE_BYTES];
	size_t len = strlen(key);

	int n = snprintf(path, sizeof(path), "%s/%s", dir, file);
	cleanup_fclose FILE *f = n > 0 && (size_t)n < sizeof(path) ? fopen(path, "re") : NULL;
	while (f && fgets(line, sizeof(line), f)) {
		const char *at = line + len;
		if (strncmp(line, key, len) == 0 && parse_next(&at, 10, UINT64_MAX, ret))
			return true;
	}
	return false;
}

/* What one group may still use; UINT64_MAX: no limit. */
static uint64_t group_left(const char *dir, const struct names *names)
{
	uint64_t limit, used, reclaimable = 0;
	char key[32];

	if (!file_number(dir, names->limit, "", &limit) ||
		!file_number(dir, names->used, "", &used))
		return UINT64_MAX;
	snprintf(key, sizeof(key), "%s ", names->reclaimable);
	file_number(dir, "memory.stat", key, &reclaimable);
	used -= MIN(reclaimable, used);
	return limit > used ? limit - used : 0;
}

/* The least of a group and those above it. A path that is not seen from here: the topmost. */
static uint64_t groups_left(const char *sys, const struct names *names, const char *group)
{
	char dir[PATH_MAX];
	uint64_t left = UINT64_MAX;

	int n = snprintf(dir, sizeof(dir), "%s%s%s", sys, names->mount, group);
	size_t top = strlen(sys) + strlen(names->mount);
	if (n < 0 || (size_t)n >= sizeof(dir))
		return left;
	for (;;) {
		left = MIN(left, group_left(dir, names));
		char *slash = strrchr(dir, '/');
		if (strlen(dir) <= top || !slash || (size_t)(slash - dir) < top)
			return left;
		*slash = '\0';
	}
}

uint64_t host_headroom(const char *proc, const char *sys)
{
	char path[PATH_MAX], line[LINE_BYTES];
	uint64_t kib, left = UINT64_MAX;

	if (file_number(proc, "meminfo", "MemAvailable:", &kib))
		left = kib << 10;
	snprintf(path, sizeof(path), "%.200s/self/cgroup", proc);
	cleanup_fclose FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
			const char *colon = strchr(line, ':');
			size_t len = strlen(versions[i].controller);
			if (colon && strncmp(colon, versions[i].controller, len) == 0)
				left = MIN(left, groups_left(sys, &versions[i], colon + len));
		}
	}
	return left;
}

uint64_t host_memory_total(const char *proc)
{
	uint64_t kib;

	return file_number(proc, "meminfo", "MemTotal:", &kib) ? kib << 10 : 0;
}
