/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_RESET_H
#define VGPU_HOST_RESET_H

/*
 * A PCI function is reset between two tenants, by the kernel's `reset` file, and looked at
 * afterwards: the kernel's word that it was done is not taken for a function that answers again
 * with what it was. It stops what the last tenant left running and forgets its registers. It does
 * not empty the function's memory: that is host/scrub.h.
 *
 * Refused before anything is done while somebody has the function open or a driver of the host has
 * it: both would find their device changed under their hands. Waits in the kernel, so it is for a
 * process that may.
 */

#include "base/error.h"
#include "host/holder.h"
#include "host/vfio.h"

#define PCI_RESET_MS    10000u /* what a caller without an opinion gives it */
#define PCI_SLOT_OTHERS 7      /* functions of a slot, without the one that is asked about */

enum reset_step {
	RESET_LOOK,   /* who has it, and what it is before */
	RESET_WRITE,  /* the kernel resets it */
	RESET_VERIFY, /* does it answer, is it what it was, has it its addresses again? */
	RESET_DONE,
	RESET_STEP_COUNT
};

extern const char *const reset_step_names[RESET_STEP_COUNT];

struct reset_result {
	char address[PCI_ADDRESS_MAX];
	enum reset_step step;        /* at which it ended */
	int code;                    /* 0, or -errno of that step */
	char driver[PCI_DRIVER_MAX]; /* that it has: "" or one of VFIO's, else it is refused */
	char methods[64];            /* "flr bus": the kernel takes the first that works */
	unsigned took_ms;            /* of the kernel's part */
	bool answers;                /* afterwards; false too where nobody looked */
	/* Functions of its slot; `touched`: they were reset with it, which alone it cannot be. */
	char others[PCI_SLOT_OTHERS][PCI_ADDRESS_MAX];
	size_t n_others;
	bool touched;
	int together_code;      /* code -ENOTTY: why that did not work; 0: it was not tried */
	struct holders holders; /* code -EBUSY: who has it open; none: its driver is the reason */
};

/*
 * 0, or the code: -EBUSY: see above; -ENODEV: it is not there, or not any more; -ENOENT: it has no
 * way to be reset; -ENOTTY: none of its ways worked; -ETIMEDOUT: the kernel has not returned after
 * `limit_ms` (and may still); -EIO: it does not answer since; -ESTALE: it answers, and not as what
 * it was; -errno. A function that failed must not go to another tenant.
 */
int pci_reset(const struct host_roots *roots, const struct vfio_kernel *kernel, const char *address,
	unsigned limit_ms, struct reset_result *ret);

/* Says it in one line: what failed, why, what to do. `what` begins it. Returns result->code. */
int pci_reset_explain(const struct reset_result *result, const char *what, struct error *err);

#endif
