/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose a VFIO file is: a group's, or a device's own, by which a VMM that uses iommufd opens it
 * without its group. The file is there while a driver of VFIO has a device of the group, or that
 * device; the kernel makes it root's. Whoever opens it has the device, so it is never root's and
 * open to others in between: its mode is taken away first and given last.
 *
 * The file is found by the number of the group or device, below a folder of the node, and changed
 * by a descriptor that follows no link and opens no device. Kernels without files of devices' own
 * have one file less, which is no fault: there is nothing to give then.
 */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"
#include "host/change_private.h"
#include "host/holder.h"
#include "host/mdev.h"
#include "host/pci.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODE_NONE 0600u /* root can open it anyway */
#define MODE_MOST 0660u

struct owner {
	uint32_t uid, gid, mode;
};

static void print_owner(const struct owner *owner, char *ret)
{
	snprintf(ret, CHANGE_VALUE_MAX, "%u:%u:%04o", owner->uid, owner->gid, owner->mode);
}

/* As print_owner() writes it, and no other way. */
static bool parse_owner(const char *text, struct owner *ret)
{
	char again[CHANGE_VALUE_MAX];
	const char *at = text;
	uint64_t uid, gid, mode;

	if (!parse_next(&at, 10, UINT32_MAX - 1, &uid) || *at++ != ':' ||
		!parse_next(&at, 10, UINT32_MAX - 1, &gid) || *at++ != ':' ||
		!parse_next(&at, 8, 07777, &mode))
		return false;
	*ret = (struct owner){(uint32_t)uid, (uint32_t)gid, (uint32_t)mode};
	print_owner(ret, again);
	return !strcmp(text, again);
}

static bool owner_valid(const struct change *c)
{
	struct owner owner;

	return (pci_address_valid(c->subject) || mdev_uuid_valid(c->subject)) &&
	       (!c->before[0] || parse_owner(c->before, &owner)) && parse_owner(c->after, &owner) &&
	       !(owner.mode & ~MODE_MOST);
}

/* Where its group's file is, below /dev. 0 or -errno. */
static int group_file(int device, char ret[static HOLDER_FILE_MAX])
{
	char group[16];
	uint64_t number;

	int r = sysfs_link(device, "iommu_group", group, sizeof(group));
	if (r < 0)
		return r;
	if (!change_number(group, INT_MAX, &number))
		return -EBADMSG;
	snprintf(ret, HOLDER_FILE_MAX, "vfio/%s", group);
	return 0;
}

/* "vfio/7" or "vfio/devices/vfio0" below a folder, by whose parts no link is followed. */
static int open_below(const char *folder, const char *file)
{
	const int flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
	char part[HOLDER_FILE_MAX];

	cleanup_close int at = sysfs_open(AT_FDCWD, folder);
	for (const char *end; at >= 0 && (end = strchr(file, '/')); file = end + 1) {
		snprintf(part, sizeof(part), "%.*s", (int)(end - file), file);
		int next = openat(at, part, flags | O_DIRECTORY);
		int code = next < 0 ? -errno : next;
		close_fd(&at);
		at = code;
	}
	if (at < 0)
		return at;
	int fd = openat(at, file, flags);
	return fd < 0 ? -errno : fd;
}

/*
 * The subject's file, opened so that it can be named and not used. -ENODEV: no such subject;
 * -ENOENT: it has no such file.
 */
static int open_file(const struct change_node *node, const struct change *c)
{
	char path[SYSFS_PATH_MAX], file[HOLDER_FILE_MAX];
	int r;

	snprintf(path, sizeof(path), "bus/%s/devices/%s",
		pci_address_valid(c->subject) ? "pci" : "mdev", c->subject);
	cleanup_close int device = change_open(node, path);
	if (device < 0)
		return device == -ENOENT ? -ENODEV : device;
	if (c->kind == CHANGE_CDEV)
		r = holder_vfio_own(device, file) ? 0 : -ENOENT;
	else
		r = group_file(device, file);
	return r < 0 ? r : open_below(node->roots->dev, file);
}

/* A device; in a test's tree, a plain file. -ELOOP: a link, or anything else. */
static int read_owner(int fd, struct owner *ret)
{
	struct stat file;

	if (fstat(fd, &file) < 0)
		return -errno;
	if (!S_ISCHR(file.st_mode) && !S_ISREG(file.st_mode))
		return -ELOOP;
	*ret = (struct owner){file.st_uid, file.st_gid, file.st_mode & 07777u};
	return 0;
}

static bool same_owner(const struct owner *a, const struct owner *b)
{
	return a->uid == b->uid && a->gid == b->gid;
}

static int owner_look(
	const struct change_node *node, const struct change *c, char *ret_now, bool *ret_half)
{
	struct owner now = {0}, before = {0}, after = {0};

	cleanup_close int fd = open_file(node, c);
	if (fd == -ENOENT || fd == -ENODEV) /* the file, its group, or the device */
		return c->before[0] && c->kind == CHANGE_OWNER ? -ENODEV : 0;
	int r = fd < 0 ? fd : read_owner(fd, &now);
	if (r < 0)
		return r;
	print_owner(&now, ret_now);
	parse_owner(c->after, &after);
	/* Where there was none, undoing leaves it as the kernel made it. */
	bool known = c->before[0] && parse_owner(c->before, &before);
	if (!known && now.uid == geteuid() && now.gid == getegid() && now.mode == MODE_NONE)
		return 0;
	/* Whoever it was given to may change its mode and group, and has it still. */
	bool given = now.uid == after.uid;
	*ret_half = strcmp(ret_now, c->after) != 0 && strcmp(ret_now, c->before) != 0 &&
		    (given || (now.mode == MODE_NONE && known && same_owner(&now, &before)));
	return 0;
}

/* What it was before there was a file is of no account. */
static bool owner_shows(const char *now, const char *value)
{
	return !value[0] || !strcmp(now, value);
}

static int set_owner(const struct change_node *node, const struct change *c, const char *value,
	const char *what, struct error *err)
{
	static const char verb[] = "set who may open the VFIO file of";
	struct owner now, owner = {0};
	char path[64];

	cleanup_close int fd = open_file(node, c);
	int r = fd < 0 ? fd : read_owner(fd, &now);
	if (r < 0)
		return change_explain(r, what, verb, c->subject, err);
	parse_owner(value, &owner);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (chmod(path, MODE_NONE) < 0 ||
		fchownat(fd, "", owner.uid, owner.gid, AT_EMPTY_PATH) < 0 ||
		chmod(path, owner.mode) < 0)
		return change_explain(-errno, what, verb, c->subject, err);
	return 0;
}

static int owner_apply(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	return set_owner(node, c, c->after, what, err);
}

static int owner_undo(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	const struct owner ours = {geteuid(), getegid(), MODE_NONE};
	char value[CHANGE_VALUE_MAX];

	print_owner(&ours, value);
	return set_owner(node, c, c->before[0] ? c->before : value, what, err);
}

/* And a file that is not there is as it shall be. */
static bool cdev_shows(const char *now, const char *value)
{
	return !*now || owner_shows(now, value);
}

const struct change_row change_row_owner = {
	.noun = "who may open the VFIO file",
	.valid = owner_valid,
	.look = owner_look,
	.apply = owner_apply,
	.undo = owner_undo,
	.shows = owner_shows,
};

const struct change_row change_row_cdev = {
	.noun = "who may open its own VFIO file",
	.valid = owner_valid,
	.look = owner_look,
	.apply = owner_apply,
	.undo = owner_undo,
	.shows = cdev_shows,
};
