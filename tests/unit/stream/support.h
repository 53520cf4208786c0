/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_STREAM_SUPPORT_H
#define VGPU_TESTS_STREAM_SUPPORT_H

/*
 * What the stream's tests share: a device whose resources are the handles 1000..1999 and whose
 * renderer calls them 51000..51999, a stream with one object of each type (handle 100 + type), and
 * helpers to check one command.
 */

#include "base/idmap.h"
#include "protocol/virgl.h"
#include "stream/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>

#include <cmocka.h>

#define RES(n)       (1000u + (n))
#define RENDERER(n)  (51000u + (n))
#define OBJECT(type) (100u + VIRGL_OBJECT_##type)

extern const struct stream_resource_ops test_resources;
extern const struct stream_limits test_limits;

/* A device that has every resource: its id is the handle + `add`. `data` of its ops is this. */
struct any_resources {
	struct idmap map;
	uint32_t add;
	unsigned resolved; /* times */
};
extern const struct stream_resource_ops any_resource_ops;
void any_resources_finish(struct any_resources *any);

/* Without objects; fails the test if it cannot. */
struct stream *new_stream(const struct stream_limits *limits);
struct stream *new_stream_with_objects(void);

/* Checks one command with this payload; the result of stream_check(). */
int check(struct stream *stream, uint32_t opcode, uint32_t type, const uint32_t *payload,
	uint32_t n, struct stream_fault *fault);

#define COUNT(...) (uint32_t)(sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))
#define CHECK(stream, opcode, type, ...)                                                           \
	check(stream, opcode, type, (uint32_t[]){__VA_ARGS__}, COUNT(__VA_ARGS__), NULL)

/* Makes an object of a type that needs no resource. */
int create_blend(struct stream *stream, uint32_t handle);
int create_query(struct stream *stream, uint32_t handle);

/* Is there a query of this handle in the current sub-context? */
bool has_query(struct stream *stream, uint32_t handle);

#endif
