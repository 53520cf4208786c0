/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_SYSFS_H
#define VGPU_HOST_SYSFS_H

/*
 * Reading what the kernel shows as files, with bounds.
 *
 * A driver may print anything, a device may go while it is read, a container may show half of a
 * tree, and a test shows one that nobody should have. So: a value has a largest size and longer
 * ones are refused, not cut; a list has a largest length and says when it is not all; only regular
 * files are read, symbolic links are read and never followed as values; what is not printable ASCII
 * becomes '?'. Whatever cannot be read is noted with its errno as a trouble, for people to see;
 * that something is not there is no trouble.
 *
 * Reading may still wait in a driver. Who cannot wait does it in a process of its own.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the kernel's folders are: on the node, in a container that sees the host's, in a test. */
struct host_roots {
	const char *sys, *proc, *dev;
	const char *modules; /* holds a folder for each kernel release */
};

extern const struct host_roots host_roots_real;

#define SYSFS_PATH_MAX     1024
#define SYSFS_NAME_MAX     64   /* longer names are left out of lists */
#define SYSFS_LIST_MAX     8192 /* names in a folder */
#define SYSFS_TROUBLES_MAX 16

/* A file or folder that could not be read. */
struct sysfs_trouble {
	char file[SYSFS_NAME_MAX]; /* as it was named to us, cut at the front */
	int code;                  /* -errno */
};

struct sysfs_troubles {
	struct sysfs_trouble list[SYSFS_TROUBLES_MAX];
	size_t count; /* of those in the list; more are not kept */
};

/* Notes it, once for each file, unless `code` says that it is not there (-ENOENT, -ENOTDIR). */
void sysfs_trouble(struct sysfs_troubles *troubles, const char *file, int code);
/* Is there one about this file? */
bool sysfs_troubled(const struct sysfs_troubles *troubles, const char *file);
/* What a code means to somebody who wants to read: "the device does not answer", ... */
const char *sysfs_why(int code);
/* What can be done about it. */
const char *sysfs_remedy(int code);

/* A folder below `at` (a folder or AT_FDCWD), for the functions below. A descriptor; -errno. */
int sysfs_open(int at, const char *path);

/*
 * The text of a file, without white space at its end. 0; -EFBIG: it has `size` bytes or more;
 * -EINVAL: no regular file, or a NUL in it; -errno. `ret` is "" unless 0 is returned.
 */
int sysfs_read(int dir, const char *name, char *ret, size_t size);
/* A file that is one number ("0x" allowed with base 16). -EBADMSG: it is none, or above `most`. */
int sysfs_number(int dir, const char *name, int base, uint64_t most, uint64_t *ret);
/* The last part of what a link points to. As sysfs_read(). */
int sysfs_link(int dir, const char *name, char *ret, size_t size);
bool sysfs_exists(int dir, const char *name);

/* The three with the trouble noted: what cannot be read is "", `otherwise`, "". */
void sysfs_want(int dir, const char *name, char *ret, size_t size, struct sysfs_troubles *troubles);
uint64_t sysfs_want_number(int dir, const char *name, int base, uint64_t most, uint64_t otherwise,
	struct sysfs_troubles *troubles);
void sysfs_want_link(
	int dir, const char *name, char *ret, size_t size, struct sysfs_troubles *troubles);

/* What a folder holds, sorted by name, numbers in it by value; without "." and "..". */
struct sysfs_names {
	char (*name)[SYSFS_NAME_MAX]; /* malloc'd; sysfs_names_free() */
	size_t count;
	bool more; /* there was more than SYSFS_LIST_MAX, or a name too long */
};

/* 0 or -errno; `ret` is empty then. `dir`: see sysfs_open(). */
int sysfs_list(int dir, const char *name, struct sysfs_names *ret);
void sysfs_names_free(struct sysfs_names *names);
#define cleanup_names __attribute__((cleanup(sysfs_names_free)))

#endif
