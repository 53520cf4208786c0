/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_CHANGE_PRIVATE_H
#define VGPU_HOST_CHANGE_PRIVATE_H

/*
 * The rows of the table of changes, one for each kind; each interface of the kernel has its file.
 *
 * A row knows how its subject is read and written. What follows from that (is it there already, did
 * somebody else change it, is it to be undone) is decided in one place for all (change.c): `apply`
 * is called when the node shows `before`, or half of the way; `undo` when it shows `after`, or half
 * of the way. Afterwards the node is looked at again, because the kernel says yes to what then
 * changes nothing: a change made that does not show has failed. So a row need not read again.
 *
 * A row runs in a process that may wait. It makes requests to the kernel through change_write()
 * only, so that each has its limit and is seen by tests. A row whose undoing would destroy what
 * others have (VFs, when there is one in use) looks for that itself and refuses with -EBUSY.
 */

#include "host/change.h"

struct change_row {
	/* What a value is, in a sentence: "the driver". */
	const char *noun;
	/* Are the subject and both values well formed? Each is a string that ends in its array. */
	bool (*valid)(const struct change *change);
	/*
	 * Reads the value that the node shows; `ret_now` has CHANGE_VALUE_MAX bytes. 0; -ENODEV:
	 * its subject is not there; -errno: it cannot be read. *ret_half: it is on the way from one
	 * value to the other, as only a change cut off in the middle leaves it.
	 */
	int (*look)(const struct change_node *node, const struct change *change, char *ret_now,
		bool *ret_half);
	/* From `before` to `after`, and back. 0, or -errno and one line that begins with `what`. */
	int (*apply)(const struct change_node *node, const struct change *change, const char *what,
		struct error *err);
	int (*undo)(const struct change_node *node, const struct change *change, const char *what,
		struct error *err);
	/*
	 * Would undoing wait for somebody? -EBUSY and who. Asked of each change that is to be
	 * undone before the first is, so that what somebody uses stays whole. NULL: it never waits.
	 */
	int (*unheld)(const struct change_node *node, const struct change *change, const char *what,
		struct error *err);
	/* Is what the node shows that value? NULL: when they are the same string. */
	bool (*shows)(const char *now, const char *value);
};

/* change_vfio.c, change_owner.c */
extern const struct change_row change_row_vfio, change_row_owner, change_row_cdev;

/*
 * Writes `text` to a file below the node's sysfs ("bus/pci/drivers_probe"). 0; -errno as
 * sysfs_write().
 */
int change_write(const struct change_node *node, const char *file, const char *text)
	__attribute__((warn_unused_result));

/* Opens a folder below the node's sysfs. A descriptor; -errno. */
int change_open(const struct change_node *node, const char *folder);

/*
 * For a request that failed with `code` and of which the row has nothing better to say:
 * "WHAT: VERB SUBJECT: WHY (WHAT TO DO)". Returns `code`.
 */
int change_explain(
	int code, const char *what, const char *verb, const char *subject, struct error *err);

/* A whole number in decimal digits, without sign, spaces or leading zeroes, of at most `most`. */
bool change_number(const char *text, uint64_t most, uint64_t *ret);

#endif
