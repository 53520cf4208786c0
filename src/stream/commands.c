/* SPDX-License-Identifier: Apache-2.0 */
/* What remains to be checked of each command that neither makes nor destroys something. */
#include "stream/internal.h"

#include "base/crash_point.h"

#include <errno.h>

int command_accept(struct stream *stream, struct command *command)
{
	return 0;
}

int command_not_offered(struct stream *stream, struct command *command)
{
	return refuse(command, -ENOTSUP, "not offered", VIRGL_HEADER_OPCODE(command->dw[0]));
}

/* Of any length, and understood by every library: what a command becomes that must not happen. */
static void make_nop(struct command *command)
{
	command->dw[0] = VIRGL_HEADER(VIRGL_NOP, 0, command->len);
}

int command_silence(struct stream *stream, struct command *command)
{
	make_nop(command);
	return 0;
}

static int check_stage(struct command *command, uint32_t stage)
{
	return stage < VIRGL_STAGES ? 0 : refuse(command, -EINVAL, "no such stage", stage);
}

/* Slots [start, start + count) of `slots`; an empty range may start at the end. */
static int check_slots(struct command *command, uint32_t start, uint32_t count, uint32_t slots)
{
	if (count > slots || start > slots - count)
		return refuse(command, -EINVAL, "no such slot", start);
	return 0;
}

/* {stage, start slot, elements of `element` dwords ...} */
static int check_stage_slots(struct command *command, uint32_t element, uint32_t slots)
{
	uint32_t count = (command->len - 2) / element;
	int r = check_stage(command, command->dw[1]);

	if (r < 0 || !count)
		return r;
	return check_slots(command, command->dw[2], count, slots);
}

/* Dwords [from, to] are 0 or handles of objects of that type. */
static int check_objects(struct stream *stream, struct command *command, uint32_t from, uint32_t to,
	enum virgl_object type)
{
	for (uint32_t i = from; i <= to; i++) {
		uint32_t handle = command->dw[i];
		if (handle && !find_object(stream, handle, type))
			return refuse(command, -ENOENT, "no such object", handle);
	}
	return 0;
}

static int check_level(struct command *command, uint32_t level)
{
	return level < VIRGL_LEVELS ? 0 : refuse(command, -EINVAL, "no such level", level);
}

/*
 * {x, y, z, width, height, depth} from dword `at` on, none negative and no sum beyond an int: the
 * library's own bounds checks are signed and miss some negative ones.
 */
static int check_box(struct command *command, uint32_t at)
{
	for (uint32_t i = at; i < at + 3; i++) {
		uint32_t from = command->dw[i], size = command->dw[i + 3];
		if (from > INT32_MAX || size > INT32_MAX - from)
			return refuse(command, -EINVAL, "box out of range", i);
	}
	return 0;
}

int command_viewports(struct stream *stream, struct command *command)
{
	return check_slots(command, command->dw[1], (command->len - 1) / 6, VIRGL_VIEWPORTS);
}

int command_scissors(struct stream *stream, struct command *command)
{
	uint32_t start = command->dw[1];

	if (start >= VIRGL_VIEWPORTS)
		return refuse(command, -EINVAL, "no such slot", start);
	return check_slots(command, start, (command->len - 1) / 2, VIRGL_VIEWPORTS);
}

/* {count, depth surface, colour surfaces ...} */
int command_framebuffer(struct stream *stream, struct command *command)
{
	if (command->len != 2 + (uint64_t)command->dw[1])
		return refuse(command, -EINVAL, "wrong number of surfaces", command->dw[1]);
	return check_objects(stream, command, 2, command->len, VIRGL_OBJECT_SURFACE);
}

int command_draw_vbo(struct stream *stream, struct command *command)
{
	/* Plain, with tessellation, indirect. */
	if (command->len != 12 && command->len != 14 && command->len != 20)
		return refuse(command, -EINVAL, "wrong length", command->len);
	return 0;
}

int command_sampler_views(struct stream *stream, struct command *command)
{
	uint32_t count = command->len - 2;
	int r = check_stage(command, command->dw[1]);

	if (r == 0)
		r = check_slots(command, command->dw[2], count, VIRGL_SAMPLER_VIEWS);
	return r < 0 ? r
		     : check_objects(stream, command, 3, command->len, VIRGL_OBJECT_SAMPLER_VIEW);
}

/* Unknown sampler states count as none for the library. */
int command_sampler_states(struct stream *stream, struct command *command)
{
	int r = check_stage(command, command->dw[1]);

	return r < 0 ? r : check_slots(command, command->dw[2], command->len - 2, VIRGL_SAMPLERS);
}

int command_constant_buffer(struct stream *stream, struct command *command)
{
	return check_stage(command, command->dw[1]);
}

int command_uniform_buffer(struct stream *stream, struct command *command)
{
	int r = check_stage(command, command->dw[1]);

	return r < 0 ? r : check_slots(command, command->dw[2], 1, VIRGL_UNIFORM_BUFFERS);
}

int command_shader_buffers(struct stream *stream, struct command *command)
{
	return check_stage_slots(command, 3, VIRGL_SHADER_BUFFERS);
}

int command_shader_images(struct stream *stream, struct command *command)
{
	int r = check_stage_slots(command, 5, VIRGL_SHADER_IMAGES);

	/* {format, access, layers, level, resource}: 0.10.4 indexes a table by format unchecked. */
	for (uint32_t at = 3; r == 0 && at + 4 <= command->len; at += 5) {
		if (command->dw[at + 4] && command->dw[at] >= VIRGL_FORMATS)
			r = refuse(command, -EINVAL, "no such format", command->dw[at]);
	}
	return r;
}

int command_atomic_buffers(struct stream *stream, struct command *command)
{
	uint32_t count = (command->len - 1) / 3;

	return count ? check_slots(command, command->dw[1], count, VIRGL_ATOMIC_BUFFERS) : 0;
}

int command_streamout_targets(struct stream *stream, struct command *command)
{
	return check_objects(stream, command, 2, command->len, VIRGL_OBJECT_STREAMOUT_TARGET);
}

int command_query(struct stream *stream, struct command *command)
{
	if (!find_object(stream, command->dw[1], VIRGL_OBJECT_QUERY))
		return refuse(command, -ENOENT, "no such query", command->dw[1]);
	return 0;
}

/* {query, buffer, ...}: for an unknown query the library does not look at the buffer. */
int command_query_result_qbo(struct stream *stream, struct command *command)
{
	uint32_t handle = command->dw[2];
	struct stream_resource *res = resolve(stream, handle);

	if (!res && find_object(stream, command->dw[1], VIRGL_OBJECT_QUERY))
		return refuse(command, -ENOENT, "no such resource", handle);
	command->dw[2] = res ? res->id : 0;
	command->res[0] = res;
	return 0;
}

int command_memory_info(struct stream *stream, struct command *command)
{
	const struct stream_resource_ops *ops = stream->ops;
	uint32_t handle = command->dw[1];

	if (!resolve(stream, handle))
		return refuse(command, -ENOENT, "no such resource", handle);
	if (ops->memory_info)
		ops->memory_info(stream->ops_data, handle);
	make_nop(command);
	return 0;
}

int command_blit(struct stream *stream, struct command *command)
{
	int r = check_level(command, command->dw[5]);

	return r < 0 ? r : check_level(command, command->dw[14]);
}

int command_clear_texture(struct stream *stream, struct command *command)
{
	return check_level(command, command->dw[2]);
}

int command_clear_surface(struct stream *stream, struct command *command)
{
	if (!find_object(stream, command->dw[2], VIRGL_OBJECT_SURFACE))
		return refuse(command, -ENOENT, "no such object", command->dw[2]);
	return 0;
}

/* {to, level, x, y, z, from, level, box} */
int command_copy_region(struct stream *stream, struct command *command)
{
	int r = check_level(command, command->dw[2]);

	if (r == 0)
		r = check_level(command, command->dw[7]);
	for (uint32_t i = 3; r == 0 && i <= 5; i++) {
		if (command->dw[i] > INT32_MAX)
			r = refuse(command, -EINVAL, "box out of range", i);
	}
	return r < 0 ? r : check_box(command, 8);
}

/* What transfers begin with: {resource, level, usage, stride, layer stride, box} */
static int check_transfer(struct command *command)
{
	int r = check_level(command, command->dw[2]);

	return r < 0 ? r : check_box(command, 6);
}

int command_inline_write(struct stream *stream, struct command *command)
{
	return check_transfer(command);
}

/*
 * Asks the device whether it takes the transfer over. Its offset stands in dword `offset`; `from`
 * is the dword of the resource whose backing it is, or 0.
 */
static int offer_transfer(struct stream *stream, struct command *command, bool from_host,
	uint32_t offset, uint32_t from)
{
	const uint32_t *dw = command->dw;
	struct stream_transfer t = {
		.res = resolve(stream, dw[1]),
		.from = from ? resolve(stream, dw[from]) : NULL,
		.level = dw[2],
		.stride = dw[4],
		.layer_stride = dw[5],
		.x = dw[6],
		.y = dw[7],
		.z = dw[8],
		.width = dw[9],
		.height = dw[10],
		.depth = dw[11],
		.offset = dw[offset],
		.from_host = from_host,
	};

	if (!t.res || (from && !t.from))
		return refuse(command, -ENOENT, "no such resource", dw[t.res ? from : 1]);
	int r = stream->ops->transfer ? stream->ops->transfer(stream->ops_data, &t) : 0;
	if (r < 0)
		return refuse(command, r, "transfer refused", dw[1]);
	if (r > 0)
		make_nop(command);
	return 0;
}

int command_transfer3d(struct stream *stream, struct command *command)
{
	uint32_t direction = command->dw[13];

	if (direction != VIRGL_TRANSFER_TO_HOST && direction != VIRGL_TRANSFER_FROM_HOST)
		return refuse(command, -EINVAL, "no such direction", direction);
	int r = check_transfer(command);
	return r < 0 ? r
		     : offer_transfer(
			       stream, command, direction == VIRGL_TRANSFER_FROM_HOST, 12, 0);
}

int command_copy_transfer3d(struct stream *stream, struct command *command)
{
	bool from_host = command->dw[14] & VIRGL_COPY_TRANSFER_FROM_HOST;
	int r = check_transfer(command);

	return r < 0 ? r : offer_transfer(stream, command, from_host, 13, 12);
}

/* {bytes, text ...} */
int command_string_marker(struct stream *stream, struct command *command)
{
	if (command->dw[1] > (command->len - 1) * sizeof(uint32_t))
		return refuse(command, -EINVAL, "longer than the command", command->dw[1]);
	crash_point(CRASH_POINT_MARKER);
	return 0;
}
