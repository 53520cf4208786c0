/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feeds dwords to the stream pass. The input is a command stream as a guest would submit it, in
 * buffers of up to 64 dwords, each started anew after a bad one, so that one input goes through
 * many states. Resource handles are known if not a multiple of 7. Bounds are checked by the
 * sanitizers (each buffer is an allocation of its own), sums by the checks below.
 */
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

static void require(int condition)
{
	if (!condition)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct stream_resource_ops ops = {.resolve = resolve};
	static const struct stream_limits limits = {
		.max_sub_contexts = 4, .max_objects = 64, .max_object_bytes = 65536};
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
	stream_destroy(stream);
	for (uint32_t i = 0; i < RESOURCES; i++)
		require(resources[i].refs == 0);
	return 0;
}
