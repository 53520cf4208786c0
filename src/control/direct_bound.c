/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who has a VFIO file of a vGPU open: its group's, or, with a VMM that uses iommufd, a device's
 * own. The kernel says when one is opened and closed (inotify), and then the holder is looked for,
 * by a process of its own, since that reads through all of /proc. Now and then it is looked for
 * without a word: the notice of a file can be lost with its file.
 */
#include "control/direct_private.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"
#include "protocol/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#define SCAN_MS      5000u
#define CMDLINE_READ 65536u
#define STATUS_READ  8192u
#define STATUS_MOST  (UINT64_MAX >> 12) /* KiB */

/* --- in the scan's process --- */

/* The domain's name, if that process is a libvirt VM or has -name guest=NAME. */
static void read_domain(const struct host_roots *roots, uint32_t pid, char *ret, size_t size)
{
	char path[SYSFS_PATH_MAX];
	size_t len = 0;
	ssize_t n;

	ret[0] = '\0';
	snprintf(path, sizeof(path), "%s/%u/cmdline", roots->proc, pid);
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	cleanup_free char *text = malloc(CMDLINE_READ + 1);
	if (fd < 0 || !text)
		return;
	while (len < CMDLINE_READ && (n = read(fd, text + len, CMDLINE_READ - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	for (size_t at = 0; at < len; at += strlen(text + at) + 1) {
		const char *value = text + at + sizeof("-name");
		if (strcmp(text + at, "-name") != 0 || value >= text + len)
			continue;
		if (!strncmp(value, "guest=", 6))
			value += 6;
		size_t end = strcspn(value, ",");
		if (end < size) {
			memcpy(ret, value, end);
			ret[end] = '\0';
		}
		if (!name_valid(ret))
			ret[0] = '\0';
		return;
	}
}

/* "" where it cannot be read: the process has ended. */
static void read_status(const struct host_roots *roots, uint32_t pid, char ret[STATUS_READ])
{
	char path[SYSFS_PATH_MAX];

	ret[0] = '\0';
	snprintf(path, sizeof(path), "%s/%u", roots->proc, pid);
	cleanup_close int dir = sysfs_open(AT_FDCWD, path);
	if (dir >= 0)
		(void)sysfs_read(dir, "status", ret, STATUS_READ);
}

/* Of a line "KEY:  NUMBER"; 0 where there is none. */
static uint64_t status_number(const char *text, const char *key)
{
	size_t len = strlen(key);
	uint64_t number;

	while (text && *text) {
		const char *at = text + len + 1;
		if (!strncmp(text, key, len) && text[len] == ':') {
			at += strspn(at, " \t");
			return parse_next(&at, 10, STATUS_MOST, &number) ? number : 0;
		}
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	return 0;
}

/*
 * The lock of the GPU: a job has it, and so has what it started, which may open the GPU to reset it
 * and goes on when its vgpud has ended. Nobody else can open the lock.
 */
static bool has_lock(const struct vgpu *v, uint32_t pid)
{
	char path[VGPUD_PATH_MAX], folder[PATH_MAX], file[TYPES_NAME_MAX + sizeof(".lock")];
	struct host_roots roots = v->d->roots;
	const char *const files[] = {file};
	struct holders holders;

	snprintf(path, sizeof(path), "%.79s/gpus", v->d->run_dir);
	snprintf(file, sizeof(file), "%.63s.lock", v->def.gpu);
	roots.dev = realpath(path, folder);
	if (!roots.dev)
		return false;
	holders_find(&roots, files, ARRAY_SIZE(files), &holders);
	for (size_t i = 0; i < holders.count; i++) {
		if (holders.list[i].pid == pid)
			return true;
	}
	return false;
}

static bool has_ended(const struct host_roots *roots, uint32_t pid)
{
	char path[SYSFS_PATH_MAX];

	snprintf(path, sizeof(path), "%s/%u", roots->proc, pid);
	cleanup_close int dir = sysfs_open(AT_FDCWD, path);
	return dir == -ENOENT;
}

/* A process of vgpud's own, or of an earlier one, which has the file in hand, and is no VM. */
static bool is_ours(const struct vgpu *v, uint32_t pid)
{
	char text[STATUS_READ];

	read_status(&v->d->roots, pid, text);
	if (!text[0] && has_ended(&v->d->roots, pid))
		return true;
	return status_number(text, "PPid") == (uint64_t)getppid() || has_lock(v, pid);
}

/*
 * What VFIO has pinned of its memory, which the kernel counts as locked (type1) or as pinned
 * (iommufd). Type1 counts what is locked besides a second time, so it is at most what is there.
 */
static uint64_t pinned_bytes(const struct host_roots *roots, uint32_t pid)
{
	char text[STATUS_READ];

	read_status(roots, pid, text);
	uint64_t kib = status_number(text, "VmLck") + status_number(text, "VmPin");
	return MIN(kib, status_number(text, "VmRSS")) << 10;
}

static json_t *scan_work(const void *data)
{
	const struct vgpu *v = data;
	struct holders holders;
	const struct direct_files *own = &v->direct->files;
	char domain[VGPU_NAME_LONGEST + 1];
	const char *files[DIRECT_FILES_MAX];

	for (size_t n = 0; n < own->count; n++)
		files[n] = own->name[n];
	holders_find(&v->d->roots, files, own->count, &holders);
	size_t i = 0;
	while (i < holders.count && is_ours(v, holders.list[i].pid))
		i++;
	if (i == holders.count) /* that nobody has it is said only of all processes */
		return holders.complete && holders.total == holders.count ? json_object() : NULL;
	const struct holder *first = &holders.list[i];
	read_domain(&v->d->roots, first->pid, domain, sizeof(domain));
	json_t *comm = json_string(first->comm);
	return json_pack("{s:i, s:o, s:s, s:I}", "pid", (int)first->pid, "comm",
		comm ? comm : json_string("?"), "domain", domain, "pinned",
		(json_int_t)(pinned_bytes(&v->d->roots, first->pid) & INT64_MAX));
}

/* --- in vgpud --- */

static void direct_look_in(struct vgpu *v, unsigned seconds)
{
	if (!v->direct->look)
		return;
	sd_event_source_set_time_relative(v->direct->look, seconds * 1000000ull);
	sd_event_source_set_enabled(v->direct->look, SD_EVENT_ONESHOT);
}

/* The vGPU may be gone when its scan is done, and another have its name. */
struct scan {
	struct vgpud *d;
	char name[VGPU_NAME_LONGEST + 1], uuid[40];
};

static void scan_take(struct vgpu *v, json_t *json)
{
	struct direct *x = v->direct;
	const char *comm = "?", *domain = "";
	json_int_t pinned = 0;
	int pid = 0;

	x->scanning = false;
	if (x->scan_again) { /* it is old already */
		direct_scan(v);
		return;
	}
	if (!json || !x->watching) /* not in time; or nobody wants to know any more */
		return;
	json_unpack(json, "{s:i, s:s, s:s, s:I}", "pid", &pid, "comm", &comm, "domain", &domain,
		"pinned", &pinned);
	bool opened = x->opened;
	x->opened = false;
	x->seen_pid = (uint32_t)MAX(pid, 0);
	snprintf(x->domain, sizeof(x->domain), "%s", pid ? domain : "");
	if (x->domain[0])
		snprintf(x->seen, sizeof(x->seen), HANDOVER_LABEL "%s", x->domain);
	else
		snprintf(x->seen, sizeof(x->seen), "%.31s[%d]", comm, pid);
	if (pid && x->seen_pid != v->vm.pid)
		direct_event(v, DIRECT_OPENED, NULL);
	else if (!pid && (opened || v->vm.pid))
		direct_event(v, DIRECT_LEFT, NULL);
	/* It opens the file first and maps its memory then. */
	if (v->vm.pid && (v->vm.pinned != (uint64_t)pinned || !pinned))
		direct_look_in(v, DIRECT_LOOK_SOON_S);
	v->vm.pinned = v->vm.pid ? (uint64_t)pinned : 0;
}

static void on_scanned(void *data, json_t *json)
{
	struct scan *scan = data;
	struct vgpu *v = vgpud_find_vgpu(scan->d, scan->name);

	if (v && v->direct && !strcmp(v->def.uuid, scan->uuid))
		scan_take(v, json);
	json_decref(json);
	free(scan);
}

void direct_scan(struct vgpu *v)
{
	struct direct *x = v->direct;

	x->scan_again = x->scanning;
	if (x->scanning || !x->files.count)
		return;
	struct scan *scan = calloc(1, sizeof(*scan));
	if (!scan)
		return;
	scan->d = v->d;
	memcpy(scan->name, v->def.name, sizeof(scan->name));
	memcpy(scan->uuid, v->def.uuid, sizeof(scan->uuid));
	int r = child_start(&v->d->children, v->d->event, scan_work, v, SCAN_MS, on_scanned, scan);
	x->scanning = r == 0;
	if (r < 0) {
		log_warning("%s: who has it open is looked at again in %u s: %s", v->def.name,
			DIRECT_LOOK_S, strerror(-r));
		free(scan);
	}
}

static int on_file(sd_event_source *source, const struct inotify_event *event, void *data)
{
	struct vgpu *v = data;
	struct direct *x = v->direct;

	if (event->mask & IN_OPEN) {
		x->opened = true;
		x->released = false;
		x->touched |= x->progress->emptying;
	}
	direct_scan(v);
	return 0;
}

static int on_look(sd_event_source *source, uint64_t usec, void *data)
{
	direct_scan(data);
	direct_look_in(data, DIRECT_LOOK_S);
	return 0;
}

/* Else what is done to it is seen only when somebody looks. One that is not there is no news. */
static void watch_file(struct vgpu *v, size_t i)
{
	struct direct *x = v->direct;
	char path[SYSFS_PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", v->d->roots.dev, x->files.name[i]);
	int r = sd_event_add_inotify(
		v->d->event, &x->inotify[i], path, IN_OPEN | IN_CLOSE, on_file, v);
	if (r >= 0) /* who opened it is known before anything is decided by that nobody has */
		r = sd_event_source_set_priority(x->inotify[i], SD_EVENT_PRIORITY_IMPORTANT);
	if (r < 0 && r != -ENOENT)
		log_warning("%s: %s is not watched, but looked at every %u s: %s", v->def.name,
			path, DIRECT_LOOK_S, strerror(-r));
}

void direct_watch(struct vgpu *v)
{
	struct direct *x = v->direct;

	if (x->watching)
		return;
	x->watching = true;
	for (size_t i = 0; i < x->files.count; i++)
		watch_file(v, i);
	if (sd_event_add_time_relative(v->d->event, &x->look, CLOCK_MONOTONIC,
		    DIRECT_LOOK_S * 1000000ull, 1000000, on_look, v) < 0)
		log_warning("%s: no timer", v->def.name);
}

void direct_unwatch(struct vgpu *v)
{
	struct direct *x = v->direct;

	x->watching = false;
	x->released = false;
	for (size_t i = 0; i < DIRECT_FILES_MAX; i++)
		x->inotify[i] = sd_event_source_disable_unref(x->inotify[i]);
	x->look = sd_event_source_disable_unref(x->look);
	x->opened = false;
	x->seen_pid = 0;
	x->domain[0] = '\0';
}

void direct_look(struct vgpud *d)
{
	for (struct vgpu *v = d->vgpus; v; v = v->next) {
		if (v->direct && v->direct->watching)
			direct_scan(v);
	}
}

void direct_take_files(struct vgpu *v, const struct direct_files *files)
{
	struct direct *x = v->direct;
	bool same = x->files.count == files->count;

	for (size_t i = 0; same && i < files->count; i++)
		same = !strcmp(x->files.name[i], files->name[i]);
	if (same)
		return;
	direct_unwatch(v);
	x->files = *files;
}
