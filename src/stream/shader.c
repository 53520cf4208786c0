/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shaders: {handle, stage, length or offset, tokens, outputs, [stream-output], text}. A text too
 * long for one command comes in several: the first announces its whole length, each further one
 * says, with the top bit, at which offset it goes on. The library keeps one unfinished shader per
 * stage. It would write through a null pointer for a part that continues a finished shader, and
 * read one for an unfinished shader that is bound or linked; both are refused here.
 *
 * The number of tokens is what the library allocates before it parses, so it is held against the
 * text: each token takes several characters.
 */
#include "stream/internal.h"

#include "base/checked.h"

#include <errno.h>

enum { HANDLE = 1, STAGE = 2, OFFSET = 3, TOKENS = 4, OUTPUTS = 5, STRIDES = 6 };
enum { TEXT = 6, TEXT_AFTER_OUTPUTS = 10 }; /* the latter plus two dwords per output */

/* Tokens allowed per text, beyond one per byte: for very short texts. */
#define TOKENS_SPARE 1024u

/* How many marks the library sets to skip from `from` to `to`: one per four dwords begun. It
 * subtracts unsigned and takes the result as signed; so does this. */
static uint64_t skips(uint32_t from, uint32_t to)
{
	uint32_t gap = to - from;

	return gap <= INT32_MAX ? ((uint64_t)gap + 3) / 4 : 0;
}

/*
 * The library puts the names of all outputs, and marks for the gaps and buffers between them, in
 * an array of fixed size without looking; this counts as it does.
 */
static int check_outputs(struct command *command, uint32_t outputs)
{
	const uint32_t *strides = &command->dw[STRIDES];
	uint64_t names = 0;
	uint32_t buffer = 0, at = 0;

	for (uint32_t i = 0; i < outputs; i++) {
		uint32_t output = command->dw[TEXT_AFTER_OUTPUTS + 2 * i];
		uint32_t components = output >> 10 & 7, to_buffer = output >> 13 & 7;
		if (to_buffer >= VIRGL_SO_BUFFERS)
			return refuse(command, -EINVAL, "no such stream-output buffer", to_buffer);
		if (to_buffer != buffer) {
			names += skips(at, strides[buffer]);
			names += to_buffer > buffer ? to_buffer - buffer : 0;
			buffer = to_buffer;
			at = 0;
		}
		names += skips(at, output >> 16) + 1;
		at = (output >> 16) + components;
	}
	names += skips(at, strides[buffer]);
	if (names > VIRGL_SO_VARYINGS)
		return refuse(command, -EINVAL, "too many stream-output varyings", outputs);
	return 0;
}

static int find_text(struct command *command, uint32_t *ret_at)
{
	uint32_t stage = command->dw[STAGE];
	uint32_t outputs = stage == VIRGL_STAGE_COMPUTE ? 0 : command->dw[OUTPUTS];

	*ret_at = TEXT;
	if (stage >= VIRGL_STAGES)
		return refuse(command, -EINVAL, "no such stage", stage);
	if (!outputs)
		return 0;
	if (outputs > VIRGL_SO_OUTPUTS || command->len + 1 < TEXT_AFTER_OUTPUTS + 2 * outputs)
		return refuse(command, -EINVAL, "wrong number of outputs", outputs);
	*ret_at = TEXT_AFTER_OUTPUTS + 2 * outputs;
	return check_outputs(command, outputs);
}

/* Parts are kept as they come: they are sent again, and their headers are charged, as such. */
static int keep_part(struct stream *stream, struct command *command, struct stream_object *shader)
{
	int r = keep_command(stream, shader, command->dw, command->len + 1, true);
	return r < 0 ? refuse(command, r, "no room to keep a shader", command->dw[HANDLE]) : 0;
}

static int begin_shader(struct stream *stream, struct command *command, uint32_t words)
{
	uint32_t stage = command->dw[STAGE], handle = command->dw[HANDLE];
	uint32_t length = command->dw[OFFSET];
	uint32_t *unfinished = &stream->current->long_shader[stage];
	struct stream_object *shader;

	if (*unfinished)
		return refuse(command, -EINVAL, "the shader before is unfinished", *unfinished);
	if (length > VIRGL_SHADER_TEXT_MAX)
		return refuse(command, -ENOSPC, "shader too long", length);
	uint32_t all_words = (length + 3) / 4;
	if (!length || words > all_words)
		return refuse(command, -EINVAL, "wrong shader length", length);
	if (command->dw[TOKENS] > length + TOKENS_SPARE)
		return refuse(command, -EINVAL, "too many tokens", command->dw[TOKENS]);

	uint64_t bytes = 4 * ((uint64_t)command->len - words + all_words);
	int r = put_object(stream, command, VIRGL_OBJECT_SHADER, bytes, &shader);
	if (r < 0)
		return r;
	r = keep_part(stream, command, shader);
	if (r < 0) {
		idmap_remove(&stream->current->objects, handle);
		drop_handle(stream, stream->current, shader);
		return r;
	}
	shader->stage = (uint8_t)stage;
	shader->total = all_words * 4;
	shader->received = words * 4;
	if (words < all_words)
		*unfinished = handle;
	return 0;
}

static int continue_shader(struct stream *stream, struct command *command, uint32_t words)
{
	uint32_t stage = command->dw[STAGE], handle = command->dw[HANDLE];
	uint32_t offset = command->dw[OFFSET] & ~VIRGL_SHADER_CONTINUES;
	uint32_t *unfinished = &stream->current->long_shader[stage];
	struct stream_object *shader = find_object(stream, handle, VIRGL_OBJECT_SHADER);

	if (*unfinished != handle || !shader || shader->stage != stage ||
		shader->received == shader->total)
		return refuse(command, -EINVAL, "continues no unfinished shader", handle);
	if (offset != shader->received)
		return refuse(command, -EINVAL, "shader part out of order", offset);
	/* Each part is kept with its header: without text there would be no end of them. */
	if (!words)
		return refuse(command, -EINVAL, "empty shader part", offset);
	if (words > (shader->total - shader->received) / 4)
		return refuse(command, -EINVAL, "shader part too long", words);
	if (command->dw[TOKENS] > shader->total + TOKENS_SPARE)
		return refuse(command, -EINVAL, "too many tokens", command->dw[TOKENS]);
	int r = keep_part(stream, command, shader);
	if (r < 0)
		return r;
	shader->received += words * 4;
	if (shader->received == shader->total)
		*unfinished = 0;
	return 0;
}

int create_shader(struct stream *stream, struct command *command)
{
	uint32_t text;
	int r = find_text(command, &text);
	if (r < 0)
		return r;
	uint32_t words = command->len + 1 - text;
	return command->dw[OFFSET] & VIRGL_SHADER_CONTINUES
		       ? continue_shader(stream, command, words)
		       : begin_shader(stream, command, words);
}

static int check_finished(struct stream *stream, struct command *command, uint32_t handle)
{
	struct stream_object *shader = find_object(stream, handle, VIRGL_OBJECT_SHADER);

	if (shader && shader->received < shader->total)
		return refuse(command, -EINVAL, "unfinished shader", handle);
	return 0;
}

int command_bind_shader(struct stream *stream, struct command *command)
{
	uint32_t handle = command->dw[1], stage = command->dw[2];

	if (stage >= VIRGL_STAGES)
		return refuse(command, -EINVAL, "no such stage", stage);
	return check_finished(stream, command, handle);
}

int command_link_shader(struct stream *stream, struct command *command)
{
	for (uint32_t i = 1; i <= VIRGL_STAGES; i++) {
		int r = check_finished(stream, command, command->dw[i]);
		if (r < 0)
			return r;
	}
	return 0;
}
