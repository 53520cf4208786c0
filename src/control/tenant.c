/* SPDX-License-Identifier: Apache-2.0 */
#include "control/tenant.h"

#include "base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TENANT_FOLDER_MAX 80
#define REMOVE_TRIES      3 /* a keeper that ends may just be writing a file */

/* The kinds have names that cannot meet, whatever a tenant is called. */
static void folder_name(const struct definition *def, char *ret, size_t size)
{
	if (def->tenant[0])
		snprintf(ret, size, "tenant-%.63s", def->tenant);
	else
		snprintf(ret, size, "vgpu-%.39s", def->uuid);
}

void tenant_folder(const struct vgpud *d, const struct definition *def, char *ret, size_t size)
{
	char name[TENANT_FOLDER_MAX];

	ret[0] = '\0';
	if (!d->shaders_dir[0] || !d->config.shader_cache_mib)
		return;
	folder_name(def, name, sizeof(name));
	int n = snprintf(ret, size, "%s/%s", d->shaders_dir, name);
	int r = n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
	if (!r && mkdir(ret, 0700) < 0 && errno != EEXIST)
		r = -errno;
	if (r < 0) {
		log_warning("%s: its compiled shaders are not kept: %s: %s", def->name, ret,
			strerror(-r));
		ret[0] = '\0';
	}
}

static void remove_files(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!dir) {
		close_fd(&fd);
		return;
	}
	while ((entry = readdir(dir))) {
		if (entry->d_type != DT_DIR)
			unlinkat(fd, entry->d_name, 0);
	}
	closedir(dir);
}

static int remove_folder(int parent, const char *name)
{
	int r = -ENOTEMPTY;

	for (unsigned i = 0; r == -ENOTEMPTY && i < REMOVE_TRIES; i++) {
		remove_files(parent, name);
		r = unlinkat(parent, name, AT_REMOVEDIR) < 0 ? -errno : 0;
	}
	return r == -ENOENT ? 0 : r;
}

static void say_it_stays(const char *name, int r)
{
	if (r < 0)
		log_warning("compiled shaders in %s cannot be removed, which the next start tries "
			    "again: %s",
			name, strerror(-r));
}

static bool folder_used(const struct vgpud *d, const char *name)
{
	char used[TENANT_FOLDER_MAX];

	for (const struct vgpu *v = d->vgpus; v; v = v->next) {
		folder_name(&v->def, used, sizeof(used));
		if (!strcmp(used, name))
			return true;
	}
	return false;
}

int tenant_remove_folder(const struct vgpud *d, const struct definition *def)
{
	char name[TENANT_FOLDER_MAX];

	folder_name(def, name, sizeof(name));
	if (!d->shaders_dir[0] || folder_used(d, name))
		return 0;
	cleanup_close int parent = open(d->shaders_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (parent < 0)
		return errno == ENOENT ? 0 : -errno;
	return remove_folder(parent, name);
}

void tenant_forget(struct vgpud *d, const struct definition *def)
{
	char name[TENANT_FOLDER_MAX];

	tenant_let_go(d, def->tenant);
	folder_name(def, name, sizeof(name));
	say_it_stays(name, tenant_remove_folder(d, def));
}

void tenant_clean(const struct vgpud *d)
{
	DIR *dir = d->shaders_dir[0] ? opendir(d->shaders_dir) : NULL;
	const struct dirent *entry;
	struct error err;

	if (d->store && store_clean_tenants(d->store, "start", &err) < 0)
		log_warning("%s", err.text);
	while (dir && (entry = readdir(dir))) {
		const char *name = entry->d_name;
		bool ours = !strncmp(name, "tenant-", 7) || !strncmp(name, "vgpu-", 5);
		if (ours && (!d->config.shader_cache_mib || !folder_used(d, name)))
			say_it_stays(name, remove_folder(dirfd(dir), name));
	}
	if (dir)
		closedir(dir);
}
