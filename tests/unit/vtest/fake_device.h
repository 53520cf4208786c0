/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_FAKE_DEVICE_H
#define VGPU_TESTS_FAKE_DEVICE_H

/*
 * The part of the device interface that the vtest front end calls, keeping books instead of
 * drawing. Resources have 64 bytes of contents on the device's side; transfers copy them to and
 * from the backing or the given bytes.
 */

#include "device/device.h"

#define FAKE_CONTENTS 64

struct device {
	/* What the next call of that kind returns; back to 0 after it was returned once. */
	int fail_resource_create, fail_attach, fail_transfer, fail_submit, fail_context;
	bool lost;
	bool hold_fences; /* fences complete only in device_finish() */
	bool no_capset2;
	/* Called inside device_submit(), before it returns. */
	void (*on_submit)(struct device *dev, const uint32_t *dwords, size_t n);
	void *on_submit_data;

	unsigned clients, contexts, resources, attached;
	unsigned submits, flushes, finishes, fences, polls, frames, transfers;
	uint64_t hold_ns; /* what a frame is answered with */
	uint32_t capset, last_dword;
	size_t last_n;
	uint64_t waited_ns;
	uint64_t charged, quota; /* shared memory, bytes; quota 0: none */
	struct renderer_transfer last_transfer;
	char context_name[80];

	/* Called before and after every operation that changes something; may be NULL. */
	void (*point)(void);

	/* State. Clients that were loaded and not claimed; the journal; the record being replayed.
	 */
	struct device_client *loaded;
	uint32_t next_client;
	struct journal *journal;
	bool replaying, replay_executed;
};

void fake_device_init(struct device *dev);

/* The resource's bytes on the device's side, or NULL. */
uint8_t *fake_contents(struct device_client *client, uint32_t handle);

/* Everything a client did so far, in one number: commands executed twice, or never, show in it. */
uint64_t fake_history(const struct device_client *client);

/* One section's payload: all of one client, in place of what a real device would write. */
void fake_client_save(const struct device_client *client, struct state_writer *w);
int fake_client_load(struct device *dev, struct state_reader *r);
/* An empty one that waits to be claimed. */
int fake_client_loaded(struct device *dev, struct device_client **ret);

#endif
