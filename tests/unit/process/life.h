/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_PROCESS_LIFE_H
#define VGPU_TESTS_PROCESS_LIFE_H

/* A device process' state and what keeps it, seen from the keeper's end of its channel. */

#include "../device/fake_renderer.h"

#include "base/loop.h"
#include "base/packet.h"
#include "device/device.h"
#include "process/connections.h"
#include "process/succession_private.h"
#include "protocol/stats.h"

struct life {
	struct renderer_ops ops;
	struct vgpu_stats stats;
	struct device *dev;
	struct loop *loop;
	struct succession *s;
	struct connections *connections;
	int keeper, channel;
	unsigned released; /* so many RELEASE of rounds were seen */
};

int life_setup(void **state);
int life_teardown(void **state);

/* Takes everything up to the next message of that type; false: there is none. */
bool life_told(struct life *life, uint32_t type, struct packet *ret);
/* The keeper says so. */
void life_say(struct life *life, uint32_t type, const void *payload, size_t size, int fd);
/* Somebody is connected: there is a journal. */
void life_keep(struct life *life);
/* So much comes into the journal. */
void life_put(struct life *life, size_t bytes);
/* So much is uploaded, and an image is made. */
void life_upload(struct life *life, size_t bytes);

#endif
