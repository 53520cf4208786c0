/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feeds dwords to the stream pass. The input is a command stream as a guest would submit it, in
 * buffers of up to 64 dwords, each started anew after a bad one, so that one input goes through
 * many states. Resource handles are known if not a multiple of 7. Bounds are checked by the
 * sanitizers (each buffer is an allocation of its own), sums by the checks below. At the end the
 * state is saved and loaded, and what that saves must be the same.
 */
#include "stream/save.h"
#include "stream/stream.h"

#include <stdlib.h>
#include <string.h>

enum { BUFFER_DWORDS = 64, RESOURCES = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct stream_resource *resolve(void *data, uint32_t handle)
{
	struct stream_resource *resources = data;

	if (!handle)
		abort();
	return handle % 7 ? &resources[handle % RESOURCES] : NULL;
}

static struct stream_resource *resolve_id(void *data, uint32_t id)
{
	struct stream_resource *resources = data;

	return id && id <= RESOURCES ? &resources[id - 1] : NULL;
}

static void require(int condition)
{
	if (!condition)
		abort();
}

static const struct stream_limits limits = {
	.max_sub_contexts = 4, .max_objects = 64, .max_object_bytes = 65536};

struct saved {
	uint32_t *dw;
	size_t n;
};

static int append(void *data, uint32_t *dwords, size_t n)
{
	struct saved *saved = data;

	require(n > 0 && n <= STREAM_SAVE_DWORDS);
	saved->dw = realloc(saved->dw, (saved->n + n) * sizeof(*dwords));
	require(saved->dw != NULL);
	memcpy(saved->dw + saved->n, dwords, n * sizeof(*dwords));
	saved->n += n;
	return 0;
}

static struct saved save(struct stream *stream)
{
	struct saved saved = {0};

	require(stream_save_objects(stream, append, &saved) == 0);
	require(stream_save_bindings(stream, append, &saved) == 0);
	return saved;
}

static void save_load_save(struct stream *stream, struct stream_resource *resources)
{
	static const struct stream_resource_ops ops = {.resolve = resolve_id};
	struct stream *loaded;
	char why[64];

	if (!stream_saveable(stream, why, sizeof(why)) ||
		stream_create(&limits, NULL, &ops, resources, &loaded) < 0)
		return;
	struct saved saved = save(stream);
	uint32_t *copy = malloc(saved.n * sizeof(*copy));
	require(copy != NULL);
	memcpy(copy, saved.dw, saved.n * sizeof(*copy));
	require(stream_check(loaded, copy, saved.n, NULL) == 0);
	struct saved again = save(loaded);
	require(again.n == saved.n);
	require(memcmp(again.dw, saved.dw, saved.n * sizeof(*copy)) == 0);
	free(copy);
	free(saved.dw);
	free(again.dw);
	stream_destroy(loaded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct stream_resource_ops ops = {.resolve = resolve};
	struct stream_resource resources[RESOURCES];
	struct stream *stream;

	for (uint32_t i = 0; i < RESOURCES; i++)
		resources[i] = (struct stream_resource){.id = 1 + i};
	if (stream_create(&limits, NULL, &ops, resources, &stream) < 0)
		return 0;
	for (size_t at = 0; at + 4 <= size;) {
		size_t n = (size - at) / 4 < BUFFER_DWORDS ? (size - at) / 4 : BUFFER_DWORDS;
		uint32_t *dwords = malloc(n * 4);
		struct stream_fault fault = {.offset = n};
		if (!dwords)
			break;
		memcpy(dwords, data + at, n * 4);
		int r = stream_check(stream, dwords, n, &fault);
		require(r <= 0);
		require(r == 0 || (fault.offset < n && fault.reason));
		free(dwords);
		at += 4 * (r == 0 ? n : fault.offset + 1);
	}
	const struct stream_counters *counters = stream_counters(stream);
	require(counters->objects <= limits.max_objects);
	require(counters->object_bytes <= limits.max_object_bytes);
	require(counters->kept_bytes <= limits.max_object_bytes);
	save_load_save(stream, resources);
	stream_destroy(stream);
	for (uint32_t i = 0; i < RESOURCES; i++)
		require(resources[i].refs == 0);
	return 0;
}
