/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_FAKE_DEVICE_H
#define VGPU_TESTS_FAKE_DEVICE_H

/*
 * Stands in for the device and its command interpreter: records what the front end calls, answers
 * at once or when told to. A request's response is its own readable bytes plus one, as many as fit.
 */

#include "device/virtio_gpu.h"

#define FAKE_ORDER_MAX 64

struct device {
	const struct display_ops *display;
	void *display_data;
	struct virtio_gpu *gpu; /* the one interpreter */
	uint32_t heads;
	struct display_mode preferred[DISPLAY_MAX_HEADS];
	/* behaviour */
	bool hold; /* requests wait for fake_release() */
	bool release_on_poll;
	bool ask_info; /* each request asks for the display's modes */
	uint32_t config_size;
	/* record */
	unsigned requests, cursor_requests, resets, changes_begun, changes_ended, polls, info_ready;
	uint64_t waited_ns;
	uint64_t driver_features;
	unsigned n_order;
	uint32_t order[FAKE_ORDER_MAX]; /* first word of each request */
	uint64_t last_out_bytes, last_in_bytes;
	int translated; /* of the address and length at bytes 8 and 16 of the last request */
	uint8_t config[64];
	uint64_t history[2]; /* of each queue's; with `remember` it is in each response */
	bool remember;
	const uint8_t *screen; /* what head 0 shows to a display that is added; NULL: nothing */
	uint32_t screen_width, screen_height;
};

void fake_device_init(struct device *dev);
/* Completes up to `n` held requests, oldest first; returns how many. */
unsigned fake_release(struct device *dev, unsigned n);

#endif
