/* SPDX-License-Identifier: Apache-2.0 */
#include "process/render_node.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define ADDRESS_MAX 16 /* with a domain of 32 bits */

/* What lies in one folder; not what its bits mean, which the kernel knows. */
static bool address_valid(const char *address)
{
	size_t len = strlen(address);

	return len && len < ADDRESS_MAX && strspn(address, "0123456789abcdef:.") == len &&
	       address[0] != '.';
}

/* Behind the last "pci:" that a word begins with; NULL: there is none. */
static const char *find_address(const char *name)
{
	const char *slash = strrchr(name, '/'), *word = slash ? slash + 1 : name;

	if (strncmp(word, RENDER_NODE_PCI, sizeof(RENDER_NODE_PCI) - 1) != 0)
		return NULL;
	return word + sizeof(RENDER_NODE_PCI) - 1;
}

int render_node_find(const char *name, char ret[static RENDER_NODE_MAX])
{
	const char *address = find_address(name);
	char path[RENDER_NODE_MAX];
	const struct dirent *entry;
	int r = -ENOENT;

	if (!address && name[0] == '/' && strlen(name) < RENDER_NODE_MAX) {
		memcpy(ret, name, strlen(name) + 1);
		return 0;
	}
	if (!address || !address_valid(address))
		return -EINVAL;
	size_t before = (size_t)(address - name) - (sizeof(RENDER_NODE_PCI) - 1);
	int root = (int)(before ? before - 1 : 0); /* its length, without the slash */
	int n = snprintf(
		path, sizeof(path), "%.*s/sys/bus/pci/devices/%s/drm", root, name, address);
	if ((size_t)n >= sizeof(path))
		return -EINVAL;
	DIR *dir = opendir(path);
	if (!dir) { /* does it lack the folder, or is it not there at all? */
		path[n - (int)strlen("/drm")] = '\0';
		dir = opendir(path);
		r = dir ? -ENOENT : -ENODEV;
	}
	while (dir && r == -ENOENT && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "renderD", 7) != 0)
			continue;
		snprintf(ret, RENDER_NODE_MAX, "%.*s/dev/dri/%.32s", root, name, entry->d_name);
		r = 0;
	}
	if (dir)
		closedir(dir);
	return r;
}
