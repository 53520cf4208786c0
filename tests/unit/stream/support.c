/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <stdlib.h>
#include <string.h>

static struct stream_resource *resolve(void *data, uint32_t handle)
{
	static struct stream_resource resources[1000];

	assert_int_not_equal(handle, 0);
	if (handle < RES(0) || handle >= RES(1000))
		return NULL;
	resources[handle - RES(0)].id = handle - RES(0) + RENDERER(0);
	return &resources[handle - RES(0)];
}

const struct stream_resource_ops test_resources = {.resolve = resolve};
static struct stream_resource *resolve_any(void *data, uint32_t handle)
{
	struct any_resources *any = data;
	struct stream_resource *res = idmap_get(&any->map, handle);

	any->resolved++;
	if (res)
		return res;
	res = calloc(1, sizeof(*res));
	assert_non_null(res);
	res->id = handle + any->add;
	assert_int_equal(idmap_add(&any->map, handle, res), 0);
	return res;
}

const struct stream_resource_ops any_resource_ops = {.resolve = resolve_any};

void any_resources_finish(struct any_resources *any)
{
	struct stream_resource *res;

	for (uint32_t at = 0; (res = idmap_next(&any->map, &at, NULL));) {
		assert_int_equal(res->refs, 0);
		free(res);
	}
	idmap_finish(&any->map);
}

const struct stream_limits test_limits = {
	.max_sub_contexts = 8, .max_objects = 1000, .max_object_bytes = 1 << 20};

struct stream *new_stream(const struct stream_limits *limits)
{
	struct stream *stream = NULL;
	assert_int_equal(stream_create(limits, NULL, &test_resources, NULL, &stream), 0);
	return stream;
}

int check(struct stream *stream, uint32_t opcode, uint32_t type, const uint32_t *payload,
	uint32_t n, struct stream_fault *fault)
{
	uint32_t dw[256];
	assert_true(n < 256);
	dw[0] = VIRGL_HEADER(opcode, type, n);
	if (n)
		memcpy(&dw[1], payload, n * sizeof(*dw));
	return stream_check(stream, dw, 1 + n, fault);
}

int create_blend(struct stream *stream, uint32_t handle)
{
	return CHECK(stream, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_BLEND, handle, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0);
}

int create_query(struct stream *stream, uint32_t handle)
{
	return CHECK(stream, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_QUERY, handle, 0, 0, RES(1));
}

bool has_query(struct stream *stream, uint32_t handle)
{
	return CHECK(stream, VIRGL_BEGIN_QUERY, 0, handle) == 0;
}

struct stream *new_stream_with_objects(void)
{
	static const uint32_t lengths[VIRGL_OBJECTS] = {0, 11, 9, 5, 6, 5, 6, 9, 5, 4, 4, 6};
	struct stream *stream = new_stream(&test_limits);

	for (uint32_t type = 1; type < VIRGL_OBJECTS; type++) {
		uint32_t payload[16] = {100 + type};
		payload[type == VIRGL_OBJECT_QUERY ? 3 : 1] = RES(type);
		if (type == VIRGL_OBJECT_SHADER) {
			payload[1] = 0;
			payload[2] = 4; /* bytes of text */
		}
		assert_int_equal(
			check(stream, VIRGL_CREATE_OBJECT, type, payload, lengths[type], NULL), 0);
	}
	return stream;
}
