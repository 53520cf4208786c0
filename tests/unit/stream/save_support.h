/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_STREAM_SAVE_SUPPORT_H
#define VGPU_TESTS_STREAM_SAVE_SUPPORT_H

/*
 * For tests of saving: a device whose resource handles can be used again for new resources, saved
 * states as arrays of dwords, and what must hold of every state: loading it and saving again gives
 * the same.
 */

#include "support.h"

#include "stream/save.h"

#include <string.h>

enum { FAKE_HANDLES = 64, FAKE_RESOURCES = 65536 };

struct fake_device {
	struct stream_resource *resources[FAKE_RESOURCES]; /* by id */
	uint32_t n;
	uint32_t handles[FAKE_HANDLES]; /* handle -> id; 0: not there */
	unsigned released;
};

/* A stream sees the device by the client's handles, or by ids while a state is loaded. */
struct fake_view {
	struct fake_device *device;
	bool by_id;
};

extern const struct stream_resource_ops fake_ops;

struct fake_device *fake_device_new(void);         /* handles 1..FAKE_HANDLES - 1 are there */
void fake_device_free(struct fake_device *device); /* all refs must be gone */
/* The handle is another resource from now on. */
void fake_reuse(struct fake_device *device, uint32_t handle);
struct stream_resource *fake_resource(struct fake_device *device, uint32_t handle);

struct saved {
	uint32_t *dw;
	size_t n, room;
	size_t longest; /* buffer */
	unsigned buffers;
	unsigned fail_at; /* fails at this buffer, counted from 1 */
};

int saved_emit(void *data, uint32_t *dwords, size_t n);
void saved_free(struct saved *saved);
void save_objects(struct stream *stream, struct saved *ret);
void save_bindings(struct stream *stream, struct saved *ret);

/* Into a stream, which is replayed if clip planes ask for it. */
void load(struct stream *stream, const struct saved *saved);

/* A new stream with the same state; fails the test unless it saves the same. */
struct stream *reload(struct stream *stream, struct fake_view *view);
/* The same, and forgets it. */
void assert_reloads(struct stream *stream, struct fake_device *device);

void assert_same(const struct saved *a, const struct saved *b);

struct stream *fake_stream(struct fake_view *view);

/* What a test starts with: an empty stream, as its client sees it. cmocka's set-up and tear-down.
 */
struct save_fixture {
	struct fake_device *device;
	struct fake_view view;
	struct stream *stream;
};
int save_setup(void **state);
int save_teardown(void **state);

#define CMD(opcode, type, ...) VIRGL_HEADER(VIRGL_##opcode, type, COUNT(__VA_ARGS__)), __VA_ARGS__
#define CREATE(type, ...)      CMD(CREATE_OBJECT, VIRGL_OBJECT_##type, __VA_ARGS__)
#define DESTROY(handle)        CMD(DESTROY_OBJECT, 0, handle)

int run_dwords(struct stream *stream, const uint32_t *dwords, size_t n);
#define RUN(stream, ...)                                                                           \
	assert_int_equal(run_dwords(stream, (const uint32_t[]){__VA_ARGS__}, COUNT(__VA_ARGS__)), 0)
#define REFUSED(stream, error, ...)                                                                \
	assert_int_equal(                                                                          \
		run_dwords(stream, (const uint32_t[]){__VA_ARGS__}, COUNT(__VA_ARGS__)), error)

/* B is exactly these commands between the two SET_SUB_CTX of a stream with sub-context 0 only, and
 * the state reloads. */
void expect_bindings(
	struct stream *stream, struct fake_device *device, const uint32_t *dwords, size_t n);
#define EXPECT_BINDINGS(stream, device, ...)                                                       \
	expect_bindings(stream, device, (const uint32_t[]){__VA_ARGS__}, COUNT(__VA_ARGS__))
/* A is exactly these after SET_SUB_CTX 0. */
void expect_objects(struct stream *stream, const uint32_t *dwords, size_t n);
#define EXPECT_OBJECTS(stream, ...)                                                                \
	expect_objects(stream, (const uint32_t[]){__VA_ARGS__}, COUNT(__VA_ARGS__))

#endif
