/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_SUCCESSION_H
#define VGPU_PROCESS_SUCCESSION_H

/*
 * What this process leaves to its successor, and what it takes over from its predecessor
 * (docs/decisions/0009-state.md).
 *
 * Leaving. From the first connection on an anchor page and a journal are in the keeper's custody;
 * an image is added when the journal has grown, or when running it again would take long compared
 * with what an image costs. Image and journal have two slots each; they are written in the one that
 * does not count, and one store in the anchor makes both count.
 *
 *   serving ──PRECOPY──▶ copying ahead, still serving
 *   serving ──SAVE, SAVE_FILE──▶ frozen ──THAW──▶ serving
 *   frozen ──QUIT──▶ (a successor serves, or nobody until the vGPU wakes)
 *
 * Nobody serves a vGPU that sleeps until a byte or a kick comes: SAVE_FILE with `stop` waits, a
 * little, for a moment at which no connection owes anything, and is refused when there is none.
 *
 * Taking over. GIVE and RESUME only collect. LOAD reads rounds of precopied contents and the image,
 * makes the connections again, runs the journal if the predecessor died, and then serves.
 *
 * What was given is a predecessor's, who may have been taken over by a guest: every reader of it
 * treats it as hostile, and it can do no more here than that guest could.
 *
 * A journal is for the one binding this process serves. With `enabled` false nothing is kept, and
 * connections end with the process.
 */

#include "base/packet.h"
#include "frontend/keep.h"

struct connections;
struct device;
struct loop;
struct shader_cache;
struct state_reader;
struct state_writer;
struct succession;
struct vgpu_stats;

struct succession_config {
	struct device *device;
	struct loop *loop;        /* its timer is used here alone */
	struct vgpu_stats *stats; /* the page of counters, not owned */
	int channel_fd;
	bool enabled;
	struct shader_cache *shaders; /* not owned; NULL: compiled shaders are not kept */
	const char *drop_section;     /* for tests: passed over when loading; NULL: none */
};

int succession_create(const struct succession_config *config, struct succession **ret);
void succession_destroy(struct succession *s); /* NULL-safe */
/* Both know the other; called once, before any message. */
void succession_set_connections(struct succession *s, struct connections *connections);

/* For front ends; NULL when nothing is kept. */
const struct frontend_keep *succession_keep(struct succession *s);

/* Handles the keeper's messages about state, taking their descriptor; false: it is none. */
bool succession_message(struct succession *s, struct packet *packet);

/* A connection is about to be served: what is kept begins, and it is recorded. 0 or -errno. */
int succession_connected(struct succession *s, const struct keeper_connection *info);
void succession_closed(struct succession *s, uint32_t id);
bool succession_frozen(const struct succession *s);

/* From the loop's idle hook: images that are due, precopying. True: call again without blocking. */
bool succession_idle(struct succession *s);

/*
 * Its guest does nothing: gives back what memory can be done without, its own and the device's. Not
 * while it is about to leave, and not all of it when somebody comes meanwhile.
 */
void succession_rest(struct succession *s);

/*
 * A whole state to or from a file, for VMMs that ask (vhost-user DEVICE_STATE). When one is loaded
 * the device's clients must own nothing yet; `load` gets the section of the one vhost-user
 * connection in it.
 */
int succession_write_file(struct succession *s, int fd);
int succession_read_file(
	struct succession *s, int fd, int (*load)(void *data, struct state_reader *r), void *data);
/* Could a state be written now? */
int succession_saveable(struct succession *s);

#endif
