/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_CHANGE_H
#define VGPU_HOST_CHANGE_H

/*
 * What has to be different on a node so that a VM can be given hardware, as a list of changes.
 *
 * Who gives a GPU, or a slice of one, plans first: from the facts (host/facts.h) it makes a list of
 * changes, each with what the node shows before and what it shall show after. The plan is put into
 * the store, on the disk, before the first change is made; so whoever is killed at any point leaves
 * behind what was wanted and what was there before. A plan is carried out in its order and undone
 * in the reverse order. Both look at what the node shows first: a change that is there already is
 * not made again, one that is not there (any more) is not undone, and one that somebody else made
 * in between is left and said.
 *
 * What vgpud did not make it does not undo: a change whose `before` is what it shall be (a function
 * that the operator had put on vfio-pci) is planned as it is and undone to the same.
 *
 * Carrying out and undoing may wait inside the kernel, so it is done in a process of its own
 * (control/child.h), of which each request to the kernel has its own limit (host/sysfs_write.h).
 *
 * A change may take several requests, and whoever makes them can be killed between two. What the
 * node shows then is neither value: the row tells it from what somebody else did (CHANGE_IS_HALF),
 * and both carrying out and undoing go on from there.
 *
 * One table has a row for each kind: what its subject and values are, apply, undo, and look
 * (host/change_private.h).
 */

#include "base/error.h"
#include "host/sysfs.h"
#include "host/vfio.h"

#include <stdbool.h>
#include <stdint.h>

#define CHANGES_MAX         96 /* in one plan: a group's functions, or a VF and what it needs */
#define CHANGE_SUBJECT_MAX  192
#define CHANGE_VALUE_MAX    64
#define CHANGE_SENTENCE_MAX 320

/* X(name, word in the store: never changed, what its subject is) */
#define CHANGE_KINDS(X)                                                                            \
	X(VFIO, "vfio", "PCI function; values: drivers, \"\" for none")                            \
	X(OWNER, "owner",                                                                          \
		"PCI function or UUID, of whose group the VFIO file is; values: UID:GID:MODE "     \
		"(octal), before also \"\": there is no such file, and whose it is matters not")   \
	X(CDEV, "cdev",                                                                            \
		"PCI function or UUID, whose own VFIO file it is (CONFIG_VFIO_DEVICE_CDEV); "      \
		"values as of owner; where there is no such file there is nothing to change")      \
	X(MDEV, "mdev", "PARENT/TYPE/UUID; values: \"0\", \"1\": is it there")                     \
	X(SRIOV_AUTOPROBE, "autoprobe", "PCI function of a PF; values: \"0\", \"1\"")              \
	X(SRIOV_VFS, "vfs", "PCI function of a PF; values: how many VFs are enabled")              \
	X(NVIDIA_TYPE, "nvidia",                                                                   \
		"PCI function of a VF; values: number of a vGPU type, \"0\" none")                 \
	X(XE_PROFILE, "xe", "PF/vfN/ATTRIBUTE below sriov_admin; values: what the file holds")

#define CHANGE_ENUM(name, word, subject) CHANGE_##name,
enum change_kind { CHANGE_KINDS(CHANGE_ENUM) CHANGE_KIND_COUNT };
#undef CHANGE_ENUM

struct change {
	enum change_kind kind;
	/* Several plans may have the same change of the same subject (VFs of one PF): it is undone
	 * with the last of them. Set by the planner. */
	bool shared;
	char subject[CHANGE_SUBJECT_MAX];
	char before[CHANGE_VALUE_MAX];
	char after[CHANGE_VALUE_MAX];
};

struct change_plan {
	struct change list[CHANGES_MAX];
	uint32_t count;
	/* What the VM is told of: PCI function(s) or mediated device. */
	char device[CHANGE_SUBJECT_MAX]; /* "0000:03:00.0", or UUID of a mediated device */
};

enum change_verdict {
	CHANGE_IS_BEFORE,
	CHANGE_IS_AFTER, /* the node shows `after`, which may be the same as `before` */
	CHANGE_IS_HALF,  /* on the way from one to the other */
	CHANGE_IS_OTHER, /* neither: somebody else changed it */
	CHANGE_IS_GONE,  /* its subject is not there: a device that vanished */
	CHANGE_UNREADABLE,
	CHANGE_VERDICT_COUNT
};

extern const char *const change_verdict_names[CHANGE_VERDICT_COUNT];

struct change_result {
	int code;      /* 0 or -errno of the change at which it ended */
	uint32_t at;   /* its number in the list */
	uint32_t done; /* changes made (or undone) now; the others were so already */
	uint32_t left; /* undo: changes that are not as before, and are left so */
	char sentence[CHANGE_SENTENCE_MAX]; /* what failed, why, what to do; or what was left first
					     */
};

/* What a node gives the rows of the table; tests have their own. */
struct change_node {
	const struct host_roots *roots;
	const struct vfio_kernel *kernel; /* &vfio_kernel_real */
	unsigned limit_ms;                /* for each request to the kernel */
	/* Told before each change is made or undone, for progress; may be NULL. */
	void (*step)(void *data, uint32_t at, const struct change *change);
	void *data;
};

/* "vfio", ...; CHANGE_KIND_COUNT when there is no such word. */
const char *change_kind_word(enum change_kind kind);
enum change_kind change_kind_from_word(const char *word);
/* Does it say who may open a VFIO file? Those are given last and taken first. */
bool change_is_gift(const struct change *change);
/* Is it well formed (a valid address, UUID, number)? Rows from the store are checked by this. */
bool change_valid(const struct change *change);

/* What the node shows of it now; *ret_now (CHANGE_VALUE_MAX, may be NULL): the value. */
enum change_verdict change_look(
	const struct change_node *node, const struct change *change, char *ret_now);

/*
 * Is all as the plan wants it? 0; else -errno, and `ret` says of the first change that is not what
 * it is and what it should be: -ENODEV: gone; -ESTALE: anything else. Changes nothing.
 */
int change_check(const struct change_node *node, const struct change_plan *plan, const char *what,
	struct change_result *ret);

/* Whose a VFIO file is that is there already, as the plan's `before`: no facts tell that. */
void change_plan_settle(const struct change_node *node, struct change_plan *plan);

/*
 * Makes the changes in order. 0, or `ret->code` and the sentence; then nothing was taken back: the
 * caller undoes the plan, which is the same as after a crash. -EBUSY: somebody holds it, and who is
 * in the sentence; -ETIMEDOUT: the kernel does not return.
 */
int change_apply(const struct change_node *node, const struct change_plan *plan, const char *what,
	struct change_result *ret);

/*
 * Undoes in reverse order, but nothing while somebody has open what would be taken away (-EBUSY and
 * who), and ends at the first change that cannot be undone, because those before
 * it may be what it stands on. What somebody else made other, or what is gone, is passed over and
 * counted as left. `keep[i]`: change i is another plan's, too, and stays (NULL: none is).
 */
int change_undo(const struct change_node *node, const struct change_plan *plan, const bool *keep,
	const char *what, struct change_result *ret);

#endif
