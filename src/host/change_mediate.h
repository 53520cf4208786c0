/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_CHANGE_MEDIATE_H
#define VGPU_HOST_CHANGE_MEDIATE_H

/* What the rows of slices share (change_mdev.c, change_sriov.c, change_vendor.c). */

#include "host/change_private.h"

extern const struct change_row change_row_mdev, change_row_autoprobe, change_row_vfs,
	change_row_nvidia, change_row_xe;

/* What an errno means for one request to one interface. */
struct change_saying {
	int code; /* -errno; 0 ends the list */
	const char *why, *remedy;
};

/*
 * "WHAT: VERB SUBJECT: WHY (WHAT TO DO)" by the first saying of that code, else as
 * change_explain(). Returns `code`.
 */
int change_say(const struct change_saying *sayings, int code, const char *what, const char *verb,
	const char *subject, struct error *err);

/*
 * 0 when nobody has a VFIO file of the device open, whose folder below sysfs this is; else -EBUSY
 * and who. The kernel would let whoever takes the device away wait until they close it.
 */
int change_unheld(const struct change_node *node, const char *folder, const char *what,
	const char *verb, const char *subject, struct error *err);

#endif
