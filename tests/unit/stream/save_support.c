/* SPDX-License-Identifier: Apache-2.0 */
#include "save_support.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>

/* ---- the device ---- */

static uint32_t new_resource(struct fake_device *device)
{
	assert_true(device->n + 1 < FAKE_RESOURCES);
	uint32_t id = ++device->n;
	device->resources[id] = calloc(1, sizeof(struct stream_resource));
	assert_non_null(device->resources[id]);
	device->resources[id]->id = id;
	return id;
}

struct fake_device *fake_device_new(void)
{
	struct fake_device *device = calloc(1, sizeof(*device));

	assert_non_null(device);
	/* Ids and handles have nothing to do with each other. */
	for (uint32_t i = 0; i < 100; i++)
		new_resource(device);
	for (uint32_t i = 1; i < FAKE_HANDLES; i++)
		fake_reuse(device, i);
	return device;
}

void fake_device_free(struct fake_device *device)
{
	for (uint32_t i = 1; i <= device->n; i++) {
		assert_int_equal(device->resources[i]->refs, 0);
		free(device->resources[i]);
	}
	free(device);
}

void fake_reuse(struct fake_device *device, uint32_t handle)
{
	device->handles[handle] = new_resource(device);
}

struct stream_resource *fake_resource(struct fake_device *device, uint32_t handle)
{
	return device->resources[device->handles[handle]];
}

static struct stream_resource *fake_resolve(void *data, uint32_t handle)
{
	const struct fake_view *view = data;
	struct fake_device *device = view->device;

	if (view->by_id)
		return handle <= device->n ? device->resources[handle] : NULL;
	return handle < FAKE_HANDLES ? device->resources[device->handles[handle]] : NULL;
}

static void fake_released(void *data, struct stream_resource *res)
{
	const struct fake_view *view = data;

	assert_int_equal(res->refs, 0);
	view->device->released++;
}

const struct stream_resource_ops fake_ops = {.resolve = fake_resolve, .released = fake_released};

struct stream *fake_stream(struct fake_view *view)
{
	struct stream *stream = NULL;
	assert_int_equal(stream_create(&test_limits, NULL, &fake_ops, view, &stream), 0);
	return stream;
}

/* ---- saved states ---- */

int saved_emit(void *data, uint32_t *dwords, size_t n)
{
	struct saved *saved = data;

	saved->buffers++;
	if (saved->buffers == saved->fail_at)
		return -EIO;
	assert_true(n > 0 && n <= STREAM_SAVE_DWORDS);
	saved->longest = MAX(saved->longest, n);
	if (saved->n + n > saved->room) {
		saved->room = 2 * (saved->n + n);
		saved->dw = realloc(saved->dw, saved->room * sizeof(*saved->dw));
		assert_non_null(saved->dw);
	}
	memcpy(saved->dw + saved->n, dwords, n * sizeof(*dwords));
	saved->n += n;
	return 0;
}

void saved_free(struct saved *saved)
{
	free(saved->dw);
	*saved = (struct saved){0};
}

void save_objects(struct stream *stream, struct saved *ret)
{
	*ret = (struct saved){0};
	assert_int_equal(stream_save_objects(stream, saved_emit, ret), 0);
}

void save_bindings(struct stream *stream, struct saved *ret)
{
	*ret = (struct saved){0};
	assert_int_equal(stream_save_bindings(stream, saved_emit, ret), 0);
}

static void print_saved(const struct saved *saved)
{
	for (size_t at = 0; at < saved->n; at += 1 + VIRGL_HEADER_LENGTH(saved->dw[at])) {
		uint32_t header = saved->dw[at];
		print_message("# %s %u:", stream_command_name(VIRGL_HEADER_OPCODE(header)),
			VIRGL_HEADER_TYPE(header));
		for (uint32_t i = 1; i <= VIRGL_HEADER_LENGTH(header) && i < 24; i++)
			print_message(" %u", saved->dw[at + i]);
		print_message("\n");
	}
}

void assert_same(const struct saved *a, const struct saved *b)
{
	if (a->n == b->n && (!a->n || memcmp(a->dw, b->dw, a->n * sizeof(*a->dw)) == 0))
		return;
	print_message("# one:\n");
	print_saved(a);
	print_message("# other:\n");
	print_saved(b);
	fail_msg("states differ");
}

static int ignore(void *data, uint32_t *dwords, size_t n)
{
	return 0;
}

void load(struct stream *stream, const struct saved *saved)
{
	uint32_t *copy = malloc(saved->n * sizeof(*copy) + 1);
	struct stream_fault fault;
	size_t at = 0;
	int r;

	assert_non_null(copy);
	if (saved->n)
		memcpy(copy, saved->dw, saved->n * sizeof(*copy));
	while ((r = stream_check(stream, copy + at, saved->n - at, &fault)) == -ERESTART) {
		at += fault.offset;
		assert_int_equal(stream_replay_shaders(stream, ignore, NULL), 0);
	}
	if (r < 0) {
		print_saved(saved);
		fail_msg("not loaded: %s in %s at %zu: %u", fault.reason,
			fault.command ? fault.command : "?", fault.offset, fault.value);
	}
	free(copy);
}

struct stream *reload(struct stream *stream, struct fake_view *view)
{
	struct saved a, b, again;
	struct stream *other = fake_stream(view);

	save_objects(stream, &a);
	save_bindings(stream, &b);
	view->by_id = true;
	load(other, &a);
	load(other, &b);
	view->by_id = false;
	save_objects(other, &again);
	assert_same(&a, &again);
	saved_free(&again);
	save_bindings(other, &again);
	assert_same(&b, &again);
	saved_free(&again);
	saved_free(&a);
	saved_free(&b);
	assert_int_equal(stream_counters(other)->objects, stream_counters(stream)->objects);
	assert_int_equal(
		stream_counters(other)->object_bytes, stream_counters(stream)->object_bytes);
	return other;
}

void assert_reloads(struct stream *stream, struct fake_device *device)
{
	struct fake_view view = {device, true};

	stream_destroy(reload(stream, &view));
}

int run_dwords(struct stream *stream, const uint32_t *dwords, size_t n)
{
	uint32_t *copy = malloc(n * sizeof(*copy));
	struct stream_fault fault = {0};

	assert_non_null(copy);
	memcpy(copy, dwords, n * sizeof(*copy));
	int r = stream_check(stream, copy, n, &fault);
	free(copy);
	return r;
}

/* Around what is expected: what every state begins and ends with. */
static void expect_between(struct saved *saved, const uint32_t *dwords, size_t n, bool ends)
{
	const uint32_t frame[] = {CMD(SET_SUB_CTX, 0, 0)};
	struct saved expected = {0};

	saved_emit(&expected, (uint32_t *)frame, 2);
	if (n)
		saved_emit(&expected, (uint32_t *)dwords, n);
	if (ends)
		saved_emit(&expected, (uint32_t *)frame, 2);
	assert_same(&expected, saved);
	saved_free(&expected);
	saved_free(saved);
}

void expect_bindings(
	struct stream *stream, struct fake_device *device, const uint32_t *dwords, size_t n)
{
	struct saved saved;

	save_bindings(stream, &saved);
	expect_between(&saved, dwords, n, true);
	assert_reloads(stream, device);
}

void expect_objects(struct stream *stream, const uint32_t *dwords, size_t n)
{
	struct saved saved;

	save_objects(stream, &saved);
	expect_between(&saved, dwords, n, false);
}

int save_setup(void **state)
{
	struct save_fixture *f = calloc(1, sizeof(*f));
	if (!f)
		return -1;
	f->device = fake_device_new();
	f->view = (struct fake_view){f->device, false};
	f->stream = fake_stream(&f->view);
	*state = f;
	return 0;
}

int save_teardown(void **state)
{
	struct save_fixture *f = *state;
	stream_destroy(f->stream);
	fake_device_free(f->device);
	free(f);
	return 0;
}
