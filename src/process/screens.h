/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_SCREENS_H
#define VGPU_PROCESS_SCREENS_H

/*
 * The display that is always there: each head's pixels in a memfd (protocol/screen.h) that the
 * keeper holds, so that a screenshot asks nothing of this process and works after its death.
 */

#include "display/display.h"

struct screens;

/* `channel_fd`: the keeper's channel, not owned. */
int screens_create(int channel_fd, struct screens **ret);
void screens_destroy(struct screens *screens); /* NULL-safe */

extern const struct display_ops screens_display_ops; /* data: struct screens */

#endif
