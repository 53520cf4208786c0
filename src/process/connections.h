/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_CONNECTIONS_H
#define VGPU_PROCESS_CONNECTIONS_H

/*
 * The sockets the keeper hands over, each served by the front end of its kind. A front end only
 * says that its connection is over; it is destroyed by connections_reap(), outside of its own
 * calls.
 */

#include "base/loop.h"
#include "device/device.h"

/* Open descriptors of the process, where the host allows so many: every connection holds some. */
#define CONNECTIONS_MAX_FDS 65536u

struct connections;

int connections_create(
	struct device *dev, struct loop *loop, int channel_fd, struct connections **ret);
void connections_destroy(struct connections *connections); /* NULL-safe */
void connections_reap(struct connections *connections);

#endif
