/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_HANDOVER_H
#define VGPU_CONTROL_HANDOVER_H

/*
 * Takes vhost-user connections over from libvirt's helper (protocol/handover.h): finds the vGPU
 * named after the domain, creates it where the configuration says so, and gives the connection to
 * its keeper. Who may connect is decided by the socket's mode and group.
 */

#include "control/vgpud.h"

#define HANDOVER_HELPERS 64u
#define HANDOVER_MS      10000u /* from connecting to the offer */

struct handover;

/* Takes `listen_fd`. */
int handover_create(struct vgpud *d, int listen_fd, struct handover **ret);
void handover_destroy(struct handover *handover); /* NULL-safe */

#endif
