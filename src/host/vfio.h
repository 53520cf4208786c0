/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_VFIO_H
#define VGPU_HOST_VFIO_H

/*
 * A PCI function changes hands: from its own driver to vfio-pci and back.
 *
 * There is no list of steps to be done in order. Each step is chosen by what the kernel shows of
 * the function now (its driver, its driver_override), taken, and judged by what it shows
 * afterwards, because `drivers_probe` says yes to what a driver then refuses. So an attempt that
 * was cut off anywhere is finished, or taken back, by asking again; and what was done already is
 * not done twice.
 *
 * A function that somebody has open is refused before anything is changed: letting go of it would
 * wait until they close it. Runs for as long as its steps take, in a process that may wait.
 */

#include "base/error.h"
#include "host/holder.h"
#include "host/pci.h"

#define VFIO_DRIVER  "vfio-pci"
#define VFIO_STEP_MS 10000u /* for each request to the kernel */

enum vfio_step {
	VFIO_LOOK,     /* read what it is, and who has it open */
	VFIO_OVERRIDE, /* say which driver alone may have it */
	VFIO_CLEAR,    /* let any driver have it */
	VFIO_UNBIND,   /* take it from its driver */
	VFIO_PROBE,    /* offer it to drivers */
	VFIO_DONE,
	VFIO_STEP_COUNT
};

extern const char *const vfio_step_names[VFIO_STEP_COUNT];

/* How requests get to the kernel; a test has a kernel of its own. Results as sysfs_write(). */
struct vfio_kernel {
	int (*write)(void *data, const char *path, const char *text, unsigned limit_ms);
	void *data;
};

extern const struct vfio_kernel vfio_kernel_real;

struct vfio_change {
	enum vfio_step step;         /* at which it ended */
	int code;                    /* 0, or -errno of that step */
	char before[PCI_DRIVER_MAX]; /* the driver it had; "" : none */
	char driver[PCI_DRIVER_MAX]; /* the one it has now */
	char address[PCI_ADDRESS_MAX];
	unsigned requests;      /* that were fulfilled */
	bool taken_back;        /* and undone again */
	struct holders holders; /* code -EBUSY: who has it open */
};

/*
 * The driver that a function has and the one that alone may have it; "" : none, any. Both have
 * PCI_DRIVER_MAX bytes. 0; -ENODEV: it is gone; -errno.
 */
int vfio_read(
	const struct host_roots *roots, const char *address, char *ret_driver, char *ret_override);

/*
 * To vfio-pci. 0, or the code: -EBUSY: somebody has it open (nothing was changed); -ENODEV: it is
 * not there; -ETIMEDOUT: a request did not return; -ENXIO: vfio-pci does not take it; -errno.
 * Unless it is -ETIMEDOUT or -ENODEV, its own driver has been offered the function again.
 */
int vfio_take(const struct host_roots *roots, const struct vfio_kernel *kernel, const char *address,
	struct vfio_change *ret);

/*
 * Back to its own driver. `ret->driver` is "" afterwards if no driver on this node wants it, which
 * is no error. Codes as above.
 */
int vfio_give_back(const struct host_roots *roots, const struct vfio_kernel *kernel,
	const char *address, struct vfio_change *ret);

/* The same for a function that had no driver: it is left without one, and none is asked. */
int vfio_release(const struct host_roots *roots, const struct vfio_kernel *kernel,
	const char *address, struct vfio_change *ret);

/* Says it in one line: what failed, why, what to do. `what` begins it. Returns change->code. */
int vfio_explain(const struct vfio_change *change, const char *what, struct error *err);

#endif
