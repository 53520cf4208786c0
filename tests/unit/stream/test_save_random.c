/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random streams over few handles, so that everything meets everything: what is refused changes
 * nothing, and now and then the stream is saved and loaded into another one, which then gets the
 * same commands and must answer the same and stay the same. And recordings of Mesa, saved and
 * loaded after each submission.
 */
#include "save_support.h"

#include "base/checked.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { SEEDS = 1500, COMMANDS = 400, HANDLES = 12, LONGEST = 40 };

static uint32_t random_below(uint64_t *seed, uint32_t below)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*seed >> 33) % below;
}

/*
 * Templates: {opcode, type, payload letters}. o: object handle, O: the same or none; r: resource,
 * R: or none; s: stage, c: sub-context, n: a small number, *: repeats the rest a few times.
 */
struct template
{
	uint8_t opcode, type;
	const char *payload;
};

static const struct template templates[] = {
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_BLEND, "onnnnnnnnnn"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_RASTERIZER, "onnnnnnnn"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_RASTERIZER, "onnnnnnnn"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_DSA, "onnnn"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_VERTEX_ELEMENTS, "o*nnnn"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SAMPLER_VIEW, "ornnnn"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SAMPLER_VIEW, "ornnnn"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SAMPLER_STATE, "onnnnnnnn"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SURFACE, "ornnn"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SURFACE, "ornnn"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_QUERY, "onnr"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_QUERY, "onnr"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_STREAMOUT_TARGET, "ornn"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_STREAMOUT_TARGET, "ornn"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_MSAA_SURFACE, "ornnnn"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, "os4000"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, "os4000"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, "os8000"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, "os+000"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, "os+000"},
	{VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, "os+000"},
	{VIRGL_BIND_OBJECT, VIRGL_OBJECT_BLEND, "O"},
	{VIRGL_BIND_OBJECT, VIRGL_OBJECT_RASTERIZER, "O"},
	{VIRGL_BIND_OBJECT, VIRGL_OBJECT_RASTERIZER, "O"},
	{VIRGL_BIND_OBJECT, VIRGL_OBJECT_DSA, "O"},
	{VIRGL_BIND_OBJECT, VIRGL_OBJECT_VERTEX_ELEMENTS, "O"},
	{VIRGL_DESTROY_OBJECT, 0, "o"},
	{VIRGL_DESTROY_OBJECT, 0, "o"},
	{VIRGL_SET_VIEWPORT_STATE, 0, "n*nnnnnn"},
	{VIRGL_SET_FRAMEBUFFER_STATE, 0, "0O"},
	{VIRGL_SET_FRAMEBUFFER_STATE, 0, "1OO"},
	{VIRGL_SET_FRAMEBUFFER_STATE, 0, "2OOO"},
	{VIRGL_SET_VERTEX_BUFFERS, 0, "*nnR"},
	{VIRGL_SET_SAMPLER_VIEWS, 0, "sn*O"},
	{VIRGL_SET_SAMPLER_VIEWS, 0, "snO"},
	{VIRGL_SET_INDEX_BUFFER, 0, "R"},
	{VIRGL_SET_INDEX_BUFFER, 0, "Rnn"},
	{VIRGL_SET_CONSTANT_BUFFER, 0, "sn*n"},
	{VIRGL_SET_STENCIL_REF, 0, "n"},
	{VIRGL_SET_BLEND_COLOR, 0, "nnnn"},
	{VIRGL_SET_SCISSOR_STATE, 0, "n*nn"},
	{VIRGL_BIND_SAMPLER_STATES, 0, "sn*O"},
	{VIRGL_BEGIN_QUERY, 0, "o"},
	{VIRGL_END_QUERY, 0, "o"},
	{VIRGL_SET_POLYGON_STIPPLE, 0, "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"},
	{VIRGL_SET_CLIP_STATE, 0, "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"},
	{VIRGL_SET_SAMPLE_MASK, 0, "n"},
	{VIRGL_SET_STREAMOUT_TARGETS, 0, "nO"},
	{VIRGL_SET_STREAMOUT_TARGETS, 0, "n*O"},
	{VIRGL_SET_RENDER_CONDITION, 0, "Onn"},
	{VIRGL_SET_UNIFORM_BUFFER, 0, "snnnR"},
	{VIRGL_SET_SUB_CTX, 0, "c"},
	{VIRGL_CREATE_SUB_CTX, 0, "c"},
	{VIRGL_DESTROY_SUB_CTX, 0, "c"},
	{VIRGL_BIND_SHADER, 0, "Os"},
	{VIRGL_BIND_SHADER, 0, "Os"},
	{VIRGL_SET_TESS_STATE, 0, "nnnnnn"},
	{VIRGL_SET_MIN_SAMPLES, 0, "n"},
	{VIRGL_SET_SHADER_BUFFERS, 0, "sn*nnR"},
	{VIRGL_SET_SHADER_IMAGES, 0, "sn*nnnnR"},
	{VIRGL_SET_FRAMEBUFFER_STATE_NO_ATTACH, 0, "nn"},
	{VIRGL_SET_ATOMIC_BUFFERS, 0, "n*nnR"},
	{VIRGL_SET_TWEAKS, 0, "nn"},
	{VIRGL_DRAW_VBO, 0, "nnnnnnnnnnnn"},
	{VIRGL_LAUNCH_GRID, 0, "nnnnnnnR"},
};

static uint32_t random_dword(uint64_t *seed, char letter)
{
	switch (letter) {
	case 'o':
		return 1 + random_below(seed, HANDLES);
	case 'O':
		return random_below(seed, HANDLES + 1);
	case 'r':
		return 1 + random_below(seed, 8);
	case 'R':
		return random_below(seed, 9);
	case 's':
		return random_below(seed, VIRGL_STAGES);
	case 'c':
		return random_below(seed, 4);
	case '+':
		return 4 | VIRGL_SHADER_CONTINUES;
	case 'n':
		return random_below(seed, 10);
	default:
		return (uint32_t)(letter - '0');
	}
}

/* Handles are few, so most commands name an object of another type and are refused. */
static uint32_t random_command(uint64_t *seed, uint32_t *dw)
{
	const struct template *t = &templates[random_below(seed, ARRAY_SIZE(templates))];
	uint32_t n = 1;

	for (const char *p = t->payload; *p; p++) {
		if (*p == '*') {
			for (uint32_t times = random_below(seed, 4); times > 1; times--) {
				for (const char *q = p + 1; *q; q++)
					dw[n++] = random_dword(seed, *q);
			}
			continue;
		}
		dw[n++] = random_dword(seed, *p);
	}
	dw[0] = VIRGL_HEADER(t->opcode, t->type, n - 1);
	return n;
}

static int run_one(struct stream *stream, const uint32_t *dw, uint32_t n)
{
	int r = run_dwords(stream, dw, n);
	assert_int_not_equal(r, -EAGAIN);
	return r;
}

static void compare(struct stream *a, struct stream *b)
{
	struct saved x, y;

	save_objects(a, &x);
	save_objects(b, &y);
	assert_same(&x, &y);
	saved_free(&x);
	saved_free(&y);
	save_bindings(a, &x);
	save_bindings(b, &y);
	assert_same(&x, &y);
	saved_free(&x);
	saved_free(&y);
}

/* Now and then a resource handle is another resource, as guests do it. */
static void one_stream(uint64_t seed, unsigned *accepted)
{
	struct fake_device *device = fake_device_new();
	struct fake_view views[2] = {{device, false}, {device, false}};
	struct stream *live = fake_stream(&views[0]), *loaded = NULL;
	uint32_t dw[1 + 4 * LONGEST];

	for (uint32_t i = 0; i < COMMANDS; i++) {
		if (random_below(&seed, 20) == 0)
			fake_reuse(device, 1 + random_below(&seed, 8));
		uint32_t n = random_command(&seed, dw);
		int r = run_one(live, dw, n);
		*accepted += r == 0;
		if (loaded)
			assert_int_equal(run_one(loaded, dw, n), r);
		if (random_below(&seed, 40) == 0) {
			if (loaded)
				compare(live, loaded);
			stream_destroy(loaded);
			loaded = reload(live, &views[1]);
		}
	}
	if (loaded)
		compare(live, loaded);
	stream_destroy(loaded);
	stream_destroy(live);
	fake_device_free(device);
}

static void test_random_streams(void **state)
{
	unsigned accepted = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		one_stream(seed * 7919, &accepted);
	print_message("# %u of %u commands accepted\n", accepted, SEEDS * COMMANDS);
	assert_true(accepted > SEEDS * COMMANDS / 4);
}

static struct stream *load_recorded(
	const struct saved *a, const struct saved *b, struct any_resources *by_id)
{
	static const struct stream_limits limits = {64, 1u << 16, 64u << 20};
	struct stream *stream;

	assert_int_equal(stream_create(&limits, NULL, &any_resource_ops, by_id, &stream), 0);
	load(stream, a);
	load(stream, b);
	return stream;
}

static void reload_recorded(struct stream *stream, struct any_resources *by_id)
{
	struct saved a, b;

	save_objects(stream, &a);
	save_bindings(stream, &b);
	struct stream *other = load_recorded(&a, &b, by_id);
	compare(stream, other);
	stream_destroy(other);
	saved_free(&a);
	saved_free(&b);
}

static void replay(const char *path)
{
	static const struct stream_limits limits = {64, 1u << 16, 64u << 20};
	struct any_resources any = {.add = 1000000}, by_id = {0};
	struct stream *stream;
	uint32_t head[2];
	FILE *file = fopen(path, "rbe");

	assert_non_null(file);
	assert_int_equal(stream_create(&limits, NULL, &any_resource_ops, &any, &stream), 0);
	while (fread(head, sizeof(head), 1, file) == 1) {
		uint32_t *dw = malloc(head[1] * sizeof(*dw));
		assert_non_null(dw);
		assert_int_equal(fread(dw, sizeof(*dw), head[1], file), head[1]);
		assert_int_equal(stream_check(stream, dw, head[1], NULL), 0);
		free(dw);
		reload_recorded(stream, &by_id);
	}
	const struct stream_counters *c = stream_counters(stream);
	print_message("# %u objects, %llu bytes, and %llu kept\n", c->objects,
		(unsigned long long)c->object_bytes, (unsigned long long)c->kept_bytes);
	stream_destroy(stream);
	any_resources_finish(&any);
	any_resources_finish(&by_id);
	fclose(file);
}

static void test_recordings_of_mesa(void **state)
{
	replay(GOLDEN_DIR "/virgl-glmark2.bin");
	replay(GOLDEN_DIR "/virgl-gl43.bin");
	if (getenv("VGPU_RECORDING"))
		replay(getenv("VGPU_RECORDING"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_streams),
		cmocka_unit_test(test_recordings_of_mesa),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
