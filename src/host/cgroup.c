/* SPDX-License-Identifier: Apache-2.0 */
#include "host/cgroup.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096
#define SHARES_OF_ONE  1024u /* version 1: of a process outside of all groups */
#define SHARES_LEAST   2u
#define SHARES_MOST    262144u

/* --- where --- */

/* Is `word` one of those that commas or blanks separate? */
static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = list; (at = strstr(at, word)); at += len) {
		bool begins = at == list || strchr(", ", at[-1]);
		if (begins && strchr(", \n", at[len]))
			return true;
	}
	return false;
}

/* The group this process is in, by /proc/self/cgroup: "ID:CONTROLLERS:PATH" lines. */
static int read_own(const char *proc, char *ret, size_t size, unsigned *ret_version)
{
	char path[CGROUP_PATH_MAX], line[LINE_MAX_BYTES];

	snprintf(path, sizeof(path), "%s/cgroup", proc);
	cleanup_fclose FILE *f = fopen(path, "re");
	if (!f)
		return -errno;
	*ret_version = 0;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		char *controllers = strchr(line, ':');
		char *group = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!group)
			continue;
		*controllers++ = *group++ = '\0';
		group[-1] = '\0';
		bool cpu = has_word(controllers, "cpu");
		if (!cpu && (*controllers || *ret_version == 1))
			continue;
		*ret_version = cpu ? 1 : 2;
		snprintf(ret, size, "%s", group);
	}
	return *ret_version ? 0 : -ENOENT;
}

struct mount {
	char root[CGROUP_PATH_MAX], point[CGROUP_PATH_MAX];
};

/* A line of /proc/self/mountinfo: "ID PARENT DEV ROOT POINT OPTIONS ... - TYPE SOURCE OPTIONS". */
static bool mount_fits(const char *line, unsigned version, struct mount *ret)
{
	char type[32] = "", options[LINE_MAX_BYTES] = "";
	const char *rest = strstr(line, " - ");

	if (!rest || sscanf(rest, " - %31s %*s %4095s", type, options) != 2 ||
		sscanf(line, "%*s %*s %*s %511s %511s", ret->root, ret->point) != 2)
		return false;
	return version == 2 ? !strcmp(type, "cgroup2")
			    : !strcmp(type, "cgroup") && has_word(options, "cpu");
}

static int find_mount(const char *proc, unsigned version, struct mount *ret)
{
	char path[CGROUP_PATH_MAX], line[LINE_MAX_BYTES];

	snprintf(path, sizeof(path), "%s/mountinfo", proc);
	cleanup_fclose FILE *f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		if (mount_fits(line, version, ret))
			return 0;
	}
	return -ENOENT;
}

static bool controls_cpu(const struct cgroup *cgroup)
{
	char path[CGROUP_PATH_MAX + 32], line[LINE_MAX_BYTES] = "";

	if (cgroup->version == 1)
		return true;
	snprintf(path, sizeof(path), "%s/cgroup.controllers", cgroup->dir);
	cleanup_fclose FILE *f = fopen(path, "re");
	return f && fgets(line, sizeof(line), f) && has_word(line, "cpu");
}

int cgroup_find(struct cgroup *ret, const char *proc, char *why, size_t size)
{
	struct cgroup cgroup = {0};
	char own[CGROUP_PATH_MAX];
	struct mount mount;

	int r = read_own(proc, own, sizeof(own), &cgroup.version);
	if (r == 0)
		r = find_mount(proc, cgroup.version, &mount);
	if (r < 0) {
		snprintf(why, size, "no control groups are mounted");
		return r;
	}
	/* In a container, what is mounted may be a part of the tree. */
	size_t root = strcmp(mount.root, "/") != 0 ? strlen(mount.root) : 0;
	const char *below = root && !strncmp(own, mount.root, root) ? own + root : own;
	int n = snprintf(cgroup.dir, sizeof(cgroup.dir), "%s%s", mount.point,
		strcmp(below, "/") != 0 ? below : "");
	if (n < 0 || (size_t)n >= sizeof(cgroup.dir)) {
		snprintf(why, size, "the path of this control group is too long");
		return -ENAMETOOLONG;
	}
	if (!controls_cpu(&cgroup)) {
		snprintf(why, size, "the cpu controller is not delegated to %.200s", cgroup.dir);
		return -EOPNOTSUPP;
	}
	if (access(cgroup.dir, W_OK) < 0) {
		r = -errno;
		snprintf(why, size, "%.200s: %s", cgroup.dir, strerror(errno));
		return r;
	}
	*ret = cgroup;
	return 0;
}

/* --- files --- */

static int cgroup_path(
	const struct cgroup *cgroup, const char *name, const char *file, char *ret, size_t size)
{
	int n = snprintf(ret, size, "%s%s%s%s%s", cgroup->dir, *name ? "/" : "", name,
		*file ? "/" : "", file);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static int cgroup_write(const struct cgroup *cgroup, const char *name, const char *file,
	const char *format, ...) __attribute__((format(printf, 4, 5)));

static int cgroup_write(
	const struct cgroup *cgroup, const char *name, const char *file, const char *format, ...)
{
	char path[CGROUP_PATH_MAX], text[64];
	va_list args;

	int r = cgroup_path(cgroup, name, file, path, sizeof(path));
	if (r < 0)
		return r;
	va_start(args, format);
	int n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	return write(fd, text, (size_t)n) == n ? 0 : -errno;
}

int cgroup_procs(const struct cgroup *cgroup, const char *name, char *ret, size_t size)
{
	return cgroup_path(cgroup, name, "cgroup.procs", ret, size);
}

bool cgroup_exists(const struct cgroup *cgroup, const char *name)
{
	char path[CGROUP_PATH_MAX];

	return cgroup_path(cgroup, name, "", path, sizeof(path)) == 0 && access(path, F_OK) == 0;
}

/* --- groups --- */

/* One folder, of which `above` is there. */
static int make_one(const struct cgroup *cgroup, const char *above, const char *name)
{
	char path[CGROUP_PATH_MAX];

	int r = cgroup_path(cgroup, name, "", path, sizeof(path));
	if (r < 0)
		return r;
	if (mkdir(path, 0755) < 0)
		return errno == EEXIST ? 0 : -errno;
	if (cgroup->version == 1)
		return 0;
	r = cgroup_write(cgroup, name, "cgroup.type", "threaded");
	return r < 0 ? r : cgroup_write(cgroup, above, "cgroup.subtree_control", "+cpu");
}

int cgroup_make(const struct cgroup *cgroup, const char *name)
{
	char part[CGROUP_PATH_MAX], above[CGROUP_PATH_MAX] = "";
	size_t len = 0;

	if (strlen(name) >= sizeof(part))
		return -ENAMETOOLONG;
	for (int r; name[len]; snprintf(above, sizeof(above), "%s", part)) {
		len += strcspn(name + len + (len > 0), "/") + (len > 0);
		snprintf(part, sizeof(part), "%.*s", (int)len, name);
		r = make_one(cgroup, above, part);
		if (r < 0)
			return r;
	}
	return 0;
}

int cgroup_set_weight(const struct cgroup *cgroup, const char *name, uint32_t weight)
{
	uint64_t shares = (uint64_t)weight * SHARES_OF_ONE / CGROUP_WEIGHT_1;

	if (!weight || weight > CGROUP_WEIGHT_MAX)
		return -EINVAL;
	if (cgroup->version == 2)
		return cgroup_write(cgroup, name, "cpu.weight", "%u", weight);
	shares = MAX(MIN(shares, SHARES_MOST), SHARES_LEAST);
	return cgroup_write(cgroup, name, "cpu.shares", "%u", (unsigned)shares);
}

/* Of "6.18.2-cloud". */
static bool kernel_is_at_least(const char *release, uint64_t major, uint64_t minor)
{
	uint64_t version, patch;

	if (!parse_next(&release, 10, UINT32_MAX, &version) || *release++ != '.' ||
		!parse_next(&release, 10, UINT32_MAX, &patch))
		return false;
	return version > major || (version == major && patch >= minor);
}

int cgroup_set_gives_way(const struct cgroup *cgroup, const char *name, bool gives_way)
{
	struct utsname kernel;

	if (gives_way && (uname(&kernel) < 0 || !kernel_is_at_least(kernel.release, 6, 15)))
		return -EOPNOTSUPP;
	int r = cgroup_write(cgroup, name, "cpu.idle", "%d", gives_way);
	return r == -ENOENT && !gives_way ? 0 : r;
}

static int limit_version_1(
	const struct cgroup *cgroup, const char *name, const struct cgroup_cpu *cpu)
{
	/* A new period is checked against the quota there is, so that goes first. */
	int r = cgroup_write(cgroup, name, "cpu.cfs_quota_us", "-1");
	if (r < 0 || cpu->quota_us == CGROUP_NO_LIMIT)
		return r;
	r = cgroup_write(cgroup, name, "cpu.cfs_period_us", "%u", cpu->period_us);
	return r < 0 ? r : cgroup_write(cgroup, name, "cpu.cfs_quota_us", "%u", cpu->quota_us);
}

int cgroup_set(const struct cgroup *cgroup, const char *name, const struct cgroup_cpu *cpu)
{
	bool limit = cpu->quota_us != CGROUP_NO_LIMIT;

	if (limit && (cpu->quota_us < CGROUP_QUOTA_MIN || cpu->period_us < CGROUP_QUOTA_MIN ||
			     cpu->period_us > CGROUP_PERIOD_MAX))
		return -EINVAL;
	int r = cgroup_set_weight(cgroup, name, cpu->weight);
	if (r < 0)
		return r;
	if (cgroup->version == 1)
		return limit_version_1(cgroup, name, cpu);
	return limit ? cgroup_write(cgroup, name, "cpu.max", "%u %u", cpu->quota_us, cpu->period_us)
		     : cgroup_write(cgroup, name, "cpu.max", "max");
}

int cgroup_remove(const struct cgroup *cgroup, const char *name)
{
	char path[CGROUP_PATH_MAX];

	int r = cgroup_path(cgroup, name, "", path, sizeof(path));
	if (r < 0)
		return r;
	return rmdir(path) < 0 && errno != ENOENT ? -errno : 0;
}

void cgroup_sweep(const struct cgroup *cgroup, const char *name,
	bool (*keep)(void *data, const char *entry), void *data)
{
	char path[CGROUP_PATH_MAX];
	const struct dirent *entry;

	if (cgroup_path(cgroup, name, "", path, sizeof(path)) < 0)
		return;
	DIR *dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.' &&
			!keep(data, entry->d_name))
			unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
	}
	if (dir)
		closedir(dir);
}

/* One of its threads: 1, and 0 if there is none; -errno. */
static int any_thread(const struct cgroup *cgroup, const char *name, uint64_t *ret)
{
	const char *file = cgroup->version == 1 ? "tasks" : "cgroup.threads";
	char path[CGROUP_PATH_MAX], line[32];

	int r = cgroup_path(cgroup, name, file, path, sizeof(path));
	if (r < 0)
		return r;
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
	if (n < 0)
		return -errno;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return parse_number(line, 10, INT32_MAX, ret);
}

int cgroup_move(const struct cgroup *cgroup, const char *from, const char *to)
{
	uint64_t thread = 0;

	for (unsigned i = 0; i < CGROUP_MOVES_MAX; i++) {
		int r = any_thread(cgroup, from, &thread);
		if (r <= 0)
			return r;
		/* The whole process goes; one that ends meanwhile does anyway. */
		r = cgroup_write(cgroup, to, "cgroup.procs", "%u", (unsigned)thread);
		if (r < 0 && r != -ESRCH)
			return r;
	}
	return -EBUSY;
}

/* --- what they use --- */

/* Calls `add` for each number in a file of the group. */
static int each_number(const struct cgroup *cgroup, const char *name, const char *file,
	void (*add)(uint64_t *sum, uint64_t number), uint64_t *sum)
{
	char path[CGROUP_PATH_MAX], line[32];
	uint64_t number;

	int r = cgroup_path(cgroup, name, file, path, sizeof(path));
	if (r < 0)
		return r;
	cleanup_fclose FILE *f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		if (parse_number(line, 10, INT32_MAX, &number))
			add(sum, number);
	}
	return 0;
}

static void add_process(uint64_t *sum, uint64_t pid)
{
	struct timespec ran;
	clockid_t clock;

	if (clock_getcpuclockid((pid_t)pid, &clock) == 0 && clock_gettime(clock, &ran) == 0)
		*sum += (uint64_t)ran.tv_sec * 1000000000u + (uint64_t)ran.tv_nsec;
}

/* /proc/TID/schedstat: "RAN WAITED SLICES", ns. */
static uint64_t wait_of(uint64_t tid)
{
	char path[64], line[96];
	uint64_t ran, waited;

	snprintf(path, sizeof(path), "/proc/%u/schedstat", (unsigned)tid);
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
	if (n < 0)
		return 0;
	line[n] = '\0';
	const char *at = line;
	bool known =
		parse_next(&at, 10, UINT64_MAX, &ran) && parse_next(&at, 10, UINT64_MAX, &waited);
	return known ? waited : 0;
}

static void add_wait(uint64_t *sum, uint64_t tid)
{
	*sum += wait_of(tid);
}

/* Version 2 counts what all have used, those that ended too. */
static int usage_version_2(const struct cgroup *cgroup, const char *name, uint64_t *ret_ns)
{
	static const char key[] = "usage_usec ";
	char path[CGROUP_PATH_MAX], line[96];
	uint64_t us;

	int r = cgroup_path(cgroup, name, "cpu.stat", path, sizeof(path));
	if (r < 0)
		return r;
	cleanup_fclose FILE *f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, key, strlen(key)) &&
			parse_number(line + strlen(key), 10, UINT64_MAX / 1000, &us)) {
			*ret_ns = us * 1000;
			return 0;
		}
	}
	return -ENODATA;
}

int cgroup_usage(const struct cgroup *cgroup, const char *name, uint64_t *ret_ran_ns,
	uint64_t *ret_waited_ns)
{
	const char *threads = cgroup->version == 1 ? "tasks" : "cgroup.threads";
	uint64_t ran = 0, waited = 0;

	int r = cgroup->version == 1 ? each_number(cgroup, name, "cgroup.procs", add_process, &ran)
				     : usage_version_2(cgroup, name, &ran);
	if (r == 0)
		r = each_number(cgroup, name, threads, add_wait, &waited);
	if (r < 0)
		return r;
	*ret_ran_ns = ran;
	*ret_waited_ns = waited;
	return 0;
}

int cgroup_try(const struct cgroup *cgroup, const char *name)
{
	const struct cgroup_cpu cpu = {
		.weight = CGROUP_WEIGHT_1, .quota_us = 10000, .period_us = 10000};

	int r = cgroup_make(cgroup, name);
	if (r == 0)
		r = cgroup_set(cgroup, name, &cpu);
	int removed = cgroup_remove(cgroup, name);
	return r < 0 ? r : removed;
}
