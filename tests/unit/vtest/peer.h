/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_VTEST_PEER_H
#define VGPU_TESTS_VTEST_PEER_H

/*
 * The client's end of a vtest connection under test. No thread and no loop: every peer_step() lets
 * the server take its turn until it has nothing left to do.
 */

#include "fake_device.h"

#include "frontend/vtest/internal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct peer {
	struct device dev;
	struct vtest_budget budget;
	struct loop *loop;
	struct vtest *vtest;
	int fd;
	unsigned closed; /* calls of the closed callback */
	char reason[VTEST_REASON_MAX];
	int open_fds; /* in the process before the connection was made */
};

/* cmocka's set-up: a connection, *state is the struct peer. */
int peer_setup(void **state);
/* And one that said CREATE_RENDERER and agreed on a version. */
int peer_setup_v2(void **state);
int peer_setup_v3(void **state);
/* Checks that nothing is left: clients, resources, descriptors. */
int peer_teardown(void **state);

void peer_step(struct peer *p);
/* Sends raw bytes without a step; all of them or the test fails. */
void peer_write(struct peer *p, const void *buf, size_t len);
/* Sends one message and steps. */
void peer_send(struct peer *p, uint32_t id, const uint32_t *dwords, size_t n);
#define SEND(p, id, ...)                                                                           \
	peer_send(p, id, (const uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}) / 4)
#define SEND_EMPTY(p, id) peer_send(p, id, NULL, 0)

/* Reads exactly so much of what is already there, or fails the test. */
void peer_read(struct peer *p, void *buf, size_t len);
void peer_expect(struct peer *p, const uint32_t *dwords, size_t n);
#define EXPECT(p, ...)                                                                             \
	peer_expect(p, (const uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}) / 4)
/* A byte with a descriptor, as Mesa receives it. */
int peer_read_fd(struct peer *p);
/* Nothing is there to be read. */
void peer_expect_silence(struct peer *p);
/* The server ended the connection, once, with a reason that has `part` in it. */
void peer_expect_closed(struct peer *p, const char *part);
void peer_expect_open(struct peer *p);

int peer_count_fds(void);

#define BIND_CUSTOM  (1u << 17)
#define BIND_DISPLAY (1u << 7)

/* The payload of RESOURCE_CREATE2 for a buffer. */
#define BUFFER2(handle, bind, bytes) handle, 0, 64, bind, bytes, 1, 1, 0, 0, 0, bytes
/* A buffer with shared memory, mapped. */
void *peer_make_buffer(struct peer *p, uint32_t handle, uint32_t bind, uint32_t bytes);

#endif
