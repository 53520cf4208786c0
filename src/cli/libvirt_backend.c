/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvirt chooses the program that serves a vhost-user GPU by description files, as QEMU's
 * docs/interop/vhost-user.json says: the first by name of those of type gpu. A file hides those of
 * the same name in later folders; an empty one hides and describes nothing.
 */
#include "cli/libvirt.h"

#include "base/checked.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define HELPER    "vgpu-libvirt-helper"
#define FILES_MAX 64
#define SIZE_MAX_ 65536

struct description {
	char name[NAME_MAX + 1];
	char path[PATH_MAX];
};

struct descriptions {
	struct description list[FILES_MAX];
	size_t count;
};

static bool known(const struct descriptions *d, const char *name)
{
	for (size_t i = 0; i < d->count; i++) {
		if (!strcmp(d->list[i].name, name))
			return true;
	}
	return false;
}

static void read_folder(struct descriptions *d, const char *folder)
{
	const struct dirent *entry;
	DIR *dir = opendir(folder);

	while (dir && (entry = readdir(dir)) && d->count < FILES_MAX) {
		const char *end = strrchr(entry->d_name, '.');
		if (entry->d_name[0] == '.' || !end || strcmp(end, ".json") != 0 ||
			known(d, entry->d_name))
			continue;
		struct description *one = &d->list[d->count];
		snprintf(one->name, sizeof(one->name), "%s", entry->d_name);
		d->count += (size_t)snprintf(one->path, sizeof(one->path), "%s/%s", folder,
				    entry->d_name) < sizeof(one->path);
	}
	if (dir)
		closedir(dir);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct description *)a)->name, ((const struct description *)b)->name);
}

/* The program that a file describes for GPUs; "": none. */
static void read_program(const char *path, char *ret, size_t size)
{
	struct stat file;
	json_t *json;

	ret[0] = '\0';
	if (stat(path, &file) < 0 || !S_ISREG(file.st_mode) || file.st_size > SIZE_MAX_)
		return;
	json = json_load_file(path, 0, NULL);
	const char *type = json_string_value(json_object_get(json, "type"));
	const char *binary = json_string_value(json_object_get(json, "binary"));
	if (type && binary && !strcmp(type, "gpu"))
		snprintf(ret, size, "%s", binary);
	json_decref(json);
}

static bool is_ours(const char *program)
{
	const char *slash = strrchr(program, '/');

	return !strcmp(slash ? slash + 1 : program, HELPER);
}

void libvirt_backend_check(const char *root, bool session, struct domain_findings *findings)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	struct descriptions *d = calloc(1, sizeof(*d));
	char folder[PATH_MAX], program[512] = "", remedy[DOMAIN_TEXT_MAX];
	size_t i = 0;

	if (!d)
		return;
	if (session && (config || home)) {
		snprintf(folder, sizeof(folder), "%s%s%s/qemu/vhost-user", root,
			config ? config : home, config ? "" : "/.config");
		read_folder(d, folder);
	}
	snprintf(folder, sizeof(folder), "%s/etc/qemu/vhost-user", root);
	read_folder(d, folder);
	snprintf(folder, sizeof(folder), "%s/usr/share/qemu/vhost-user", root);
	read_folder(d, folder);
	qsort(d->list, d->count, sizeof(d->list[0]), by_name);
	for (; i < d->count && !program[0]; i++)
		read_program(d->list[i].path, program, sizeof(program));
	if (!program[0]) {
		domain_find(findings, true,
			"install vgpud's 50-vgpud.json into /usr/share/qemu/vhost-user",
			"libvirt finds no program that serves vhost-user GPUs");
	} else if (!is_ours(program)) {
		snprintf(remedy, sizeof(remedy),
			"hide that: an empty file /etc/qemu/vhost-user/%.100s",
			d->list[i - 1].name);
		domain_find(findings, true, remedy,
			"libvirt would have it served by %.120s, which knows no vGPUs", program);
	}
	free(d);
}
