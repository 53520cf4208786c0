/* SPDX-License-Identifier: Apache-2.0 */
/* The walk over a buffer, and the table that says what each command may look like. */
#include "stream/stream.h"
#include "stream/internal.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#define ANY VIRGL_HEADER_LENGTH_MAX
#define NO_RESOURCES                                                                               \
	{                                                                                          \
		0                                                                                  \
	}
#define NEEDS(first, stride, count)                                                                \
	{                                                                                          \
		first, stride, count, 0                                                            \
	}
#define MAY(first, stride, count)                                                                  \
	{                                                                                          \
		first, stride, count, 1                                                            \
	}

struct command_row {
	const char *name;
	uint32_t min;
	uint32_t max;
	uint32_t step;
	enum virgl_class class;
	struct virgl_resources resources;
	command_handler handler;
};

static const struct command_row rows[] = {
#define VIRGL_COMMAND(opcode, name, min, max, step, class, resources, handler)                     \
	[opcode] = {#name, min, max, step, VIRGL_CLASS_##class, resources, command_##handler},
#include "protocol/virgl.def"
};
_Static_assert(ARRAY_SIZE(rows) == VIRGL_COMMANDS, "one row per opcode");

struct stream_resource *resolve(const struct stream *stream, uint32_t handle)
{
	return handle ? stream->ops->resolve(stream->ops_data, handle) : NULL;
}

int translate(struct stream *stream, struct command *command, const struct virgl_resources *places)
{
	uint32_t at = places->first;

	for (uint32_t i = 0; i < places->count && at <= command->len; i++, at += places->stride) {
		uint32_t handle = command->dw[at];
		command->res[i] = NULL;
		if (!handle && places->may_be_none)
			continue;
		struct stream_resource *res = resolve(stream, handle);
		if (!res)
			return refuse(command, -ENOENT, "no such resource", handle);
		command->dw[at] = res->id;
		command->res[i] = res;
	}
	return 0;
}

static int check_command(struct stream *stream, struct command *command)
{
	uint32_t opcode = VIRGL_HEADER_OPCODE(command->dw[0]);

	if (clip_replay_due(stream->current))
		return refuse(command, -ERESTART, "clip planes", 0);
	if (opcode >= VIRGL_COMMANDS)
		return refuse(command, -EINVAL, "unknown command", opcode);
	const struct command_row *row = &rows[opcode];
	if (!length_fits(command->len, row->min, row->max, row->step))
		return refuse(command, -EINVAL, "wrong length", command->len);
	int r = row->handler(stream, command);
	if (r < 0)
		return r;
	if (row->resources.count) {
		r = translate(stream, command, &row->resources);
		if (r < 0)
			return r;
	}
	r = shadow_apply(stream, command, opcode);
	if (r < 0)
		return r;
	stream->counters.commands++;
	stream->counters.draws += row->class == VIRGL_CLASS_DRAW;
	stream->counters.query_results += row->class == VIRGL_CLASS_RESULT;
	return 0;
}

static int check_buffer(
	struct stream *stream, uint32_t *dwords, size_t n, struct stream_fault *fault)
{
	struct command command;
	size_t offset = 0;

	command.fault = fault;
	stream->counters.buffers++;
	stream->counters.bytes += n * sizeof(*dwords);
	while (offset < n) {
		/* The handler may rewrite the header, so it is read here, once. */
		uint32_t header = dwords[offset];
		command.dw = &dwords[offset];
		command.len = VIRGL_HEADER_LENGTH(header);
		int r = command.len < n - offset
				? check_command(stream, &command)
				: refuse(&command, -EINVAL, "longer than the buffer", command.len);
		if (r < 0) {
			uint32_t opcode = VIRGL_HEADER_OPCODE(header);
			command.fault->opcode = opcode;
			command.fault->command = opcode < VIRGL_COMMANDS ? rows[opcode].name : NULL;
			command.fault->offset = offset;
			if (r == -ERESTART || r == -EAGAIN) { /* the rest will come again */
				stream->counters.buffers--;
				stream->counters.bytes -= (n - offset) * sizeof(*dwords);
			}
			return r;
		}
		offset += 1 + (size_t)command.len;
	}
	return 0;
}

int stream_check(struct stream *stream, uint32_t *dwords, size_t n, struct stream_fault *fault)
{
	struct stream_fault unused = {0};
	int r = check_buffer(stream, dwords, n, fault ? fault : &unused);

	mark_drawn(stream, stream->current);
	return r;
}

int stream_create(const struct stream_limits *limits, struct stream_budget *budget,
	const struct stream_resource_ops *ops, void *ops_data, struct stream **ret)
{
	struct stream *stream = calloc(1, sizeof(*stream));
	if (!stream)
		return -ENOMEM;
	stream->limits = *limits;
	stream->own_budget = (struct stream_budget){
		.max_sub_contexts = UINT32_MAX, .max_bytes = UINT64_MAX, .max_total = UINT64_MAX};
	stream->budget = budget ? budget : &stream->own_budget;
	stream->ops = ops;
	stream->ops_data = ops_data;
	if (getrandom(&stream->seed, sizeof(stream->seed), 0) != sizeof(stream->seed)) {
		free(stream);
		return -EIO;
	}
	idmap_init(&stream->sub_contexts, stream->seed);
	int r = add_sub_context(stream, 0);
	if (r < 0) {
		stream_destroy(stream);
		return r;
	}
	*ret = stream;
	return 0;
}

void stream_destroy(struct stream *stream)
{
	uint32_t cursor = 0;
	struct stream_sub_context *sub;

	if (!stream)
		return;
	while ((sub = idmap_next(&stream->sub_contexts, &cursor, NULL)))
		free_sub_context(stream, sub);
	idmap_finish(&stream->sub_contexts);
	free_pool(stream);
	free(stream);
}

const struct stream_counters *stream_counters(const struct stream *stream)
{
	return &stream->counters;
}

const char *stream_command_name(uint32_t opcode)
{
	return opcode < VIRGL_COMMANDS ? rows[opcode].name : "UNKNOWN";
}
