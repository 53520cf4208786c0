/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_SCRUB_WAKE_H
#define VGPU_HOST_SCRUB_WAKE_H

/*
 * A function is woken so that its memory answers: its power (runtime power management), the bridges
 * above it (`enable`, of one without a driver), the decoding of its addresses. Private to
 * host/scrub.
 */

#include "host/vfio.h"

/* What it was before; what is false or "" was not changed. */
struct scrub_asleep {
	char power[16]; /* of power/control */
	bool disabled;
	bool deaf;
	uint16_t command;
};

/* 0; -ETIMEDOUT: it does not wake; -EIO: it does not answer; -errno. `ret` is filled in any case.
 */
int scrub_wake(const struct host_roots *roots, const struct vfio_kernel *kernel,
	const struct pci_device *device, struct scrub_asleep *ret);
/* As it was, as far as it can be: it may be gone, and a function that is awake does no harm. */
void scrub_sleep(const struct host_roots *roots, const struct vfio_kernel *kernel,
	const struct pci_device *device, const struct scrub_asleep *was);

#endif
