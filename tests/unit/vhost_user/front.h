/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_FRONT_H
#define VGPU_TESTS_FRONT_H

/*
 * A small VM monitor and guest driver for tests: a real socket, a real memfd as guest memory, and
 * rings in it. The back end runs in the same thread, in steps.
 */

#include "frontend/vhost_user/vhost_user.h"
#include "frontend/vhost_user/virtqueue.h"

#include "fake_device.h"

#include "protocol/vhost_user.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define FRONT_MEMORY (1u << 20)        /* bytes of guest memory */
#define FRONT_GPA    0x100000u         /* where it begins for the guest */
#define FRONT_UVA    0x7f0000000000ull /* and for the monitor */
#define FRONT_NUM    16u               /* descriptors a ring */
/* Offsets in guest memory: one page for each part of a ring, then the data. */
#define FRONT_DESC(ring)  (0x1000u + (ring)*0x4000u)
#define FRONT_AVAIL(ring) (0x2000u + (ring)*0x4000u)
#define FRONT_USED(ring)  (0x3000u + (ring)*0x4000u)
#define FRONT_DATA        0x10000u

struct front {
	struct device dev;
	struct loop *loop;
	struct vhost_user *vu;
	int socket; /* the monitor's end */
	int memory_fd;
	uint8_t *memory;
	int kick[2], call[2], err[2];
	unsigned rounds;
	void (*turn)(struct front *f); /* in place of running `loop`, for a back end elsewhere */
	/* for DEVICE_STATE: what is saved and what was loaded; connections offer it with `state` */
	bool with_state, refuse_state;
	uint8_t *state;
	size_t state_size;
	/* verdicts */
	bool refuse_memory, silent_keeper;
	uint32_t serial; /* of the last table */
	/* record */
	bool closed;
	char reason[256];
	unsigned custody[KEEPER_CUSTODY_KIND_COUNT], released[KEEPER_CUSTODY_KIND_COUNT];
	int fds_before;
};

/* Fixture: a connection with nothing negotiated; the teardown checks for leaked fds. */
int front_setup(void **state);
int front_teardown(void **state);
/* A new connection to the same device, after the last one was closed. */
void front_connect(struct front *f);

/* Memory and event descriptors; part of front_setup(). */
void front_make_guest(struct front *f);

/* Lets the back end handle all that has arrived. */
void front_spin(struct front *f);
/* The same over `ms` milliseconds, for timers. */
void front_wait(struct front *f, unsigned ms);
/* The same until *value is no longer `was`, however slow the machine; gives up after 10 s. */
void front_wait_change(struct front *f, const volatile uint16_t *value, uint16_t was);

struct front_message {
	uint32_t request, flags, size;
	uint8_t payload[VHOST_USER_MAX_PAYLOAD];
	int fd; /* received with it, or -1 */
};

void front_send_raw(
	struct front *f, const void *bytes, size_t size, const int *fds, unsigned n_fds);
void front_send(struct front *f, uint32_t request, uint32_t flags, const void *payload,
	uint32_t size, const int *fds, unsigned n_fds);
/* True when a whole message was there. */
bool front_receive(struct front *f, struct front_message *ret);
/* Sends, spins and returns the 64-bit answer. */
uint64_t front_get(struct front *f, uint32_t request);
/* Sends with NEED_REPLY, spins and returns the acknowledgement. */
uint64_t front_ack(struct front *f, uint32_t request, const void *payload, uint32_t size, int fd);
void front_expect_closed(struct front *f, const char *reason_part);

/* Steps of a start, as QEMU does it. */
void front_negotiate(struct front *f, uint64_t features);
void front_set_memory(struct front *f);
void front_start_ring(struct front *f, unsigned ring, uint16_t base);
/* All of them, both rings; features as the back end offers them but for `without`. */
void front_start(struct front *f, uint64_t without);
uint16_t front_stop_ring(struct front *f, unsigned ring); /* returns the base */

/* The guest driver. */
void front_set_desc(struct front *f, unsigned ring, unsigned i, uint32_t offset, uint32_t len,
	uint16_t flags, uint16_t next);
void front_avail(struct front *f, unsigned ring, uint16_t head); /* adds and publishes */
void front_kick(struct front *f, unsigned ring);
uint16_t *front_avail_ring(struct front *f, unsigned ring);
uint16_t *front_used_ring(struct front *f, unsigned ring);
uint16_t front_used_idx(struct front *f, unsigned ring);
struct virtqueue_used front_used(struct front *f, unsigned ring, unsigned i);
/* Reads and clears an event counter. */
uint64_t front_events(int fd);
/* A request of one readable and one writable descriptor at 2 * slot; `word` comes first. */
void front_request(struct front *f, unsigned ring, unsigned slot, uint32_t word);

#endif
