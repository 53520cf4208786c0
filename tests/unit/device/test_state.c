/* SPDX-License-Identifier: Apache-2.0 */
#include "state_fixture.h"

#include "base/clock.h"
#include "device/private.h"
#include "state/journal.h"
#include "state/section.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define QUOTA (1u << 20)

static int setup(void **state)
{
	static struct vgpu v;
	fake_faults = (struct fake_faults){0};
	vgpu_start(&v, &fake_renderer, QUOTA);
	scene_build(v.dev, true);
	*state = &v;
	return 0;
}

static int teardown(void **state)
{
	vgpu_stop(*state);
	return 0;
}

static bool is_empty(const struct device *dev)
{
	return !dev->clients && !dev->resource_ids.count && !dev->context_ids.count &&
	       !dev->vram_used && !dev->n_promised;
}

static void test_saved_loaded_and_saved_again_is_the_same(void **state)
{
	struct vgpu *v = *state, w;
	struct image first = image_save(v->dev, false);
	char why[256];

	assert_false(first.lossy);
	/* Saving changes nothing. */
	struct image second = image_save(v->dev, false);
	assert_true(image_equal(&first, &second));
	image_free(&second);
	vgpu_start(&w, &fake_renderer, QUOTA);
	assert_int_equal(image_load(w.dev, NULL, &first, why), 0);
	second = image_save(w.dev, false);
	assert_true(image_equal(&first, &second));
	assert_int_equal(w.stats.resources, v->stats.resources);
	assert_int_equal(w.stats.contexts, v->stats.contexts);
	assert_int_equal(w.stats.clients, v->stats.clients);
	assert_int_equal(w.stats.vram_used_bytes, v->stats.vram_used_bytes);
	image_free(&first);
	image_free(&second);
	vgpu_stop(&w);
}

/* What the keeper sees while contents go through the renderer. */
static struct {
	uint64_t busy_since, last;
	unsigned seen;
} watched;

static void watched_look(void)
{
	assert_true(watched.busy_since > watched.last);
	watched.last = watched.busy_since;
	watched.seen++;
	while (clock_ns() == watched.last)
		;
}

static int watched_read(struct renderer *r, uint32_t id, uint32_t part, void *dst, size_t size)
{
	watched_look();
	return fake_renderer.content_read(r, id, part, dst, size);
}

static int watched_write(
	struct renderer *r, uint32_t id, uint32_t part, const void *src, size_t size)
{
	watched_look();
	return fake_renderer.content_write(r, id, part, src, size);
}

static struct journal *watched_journal(struct device *dev)
{
	struct journal *journal;
	int fd;

	assert_int_equal(journal_create(1 << 20, &fd, &journal), 0);
	close(fd);
	journal_watch(journal, &watched.busy_since);
	device_set_journal(dev, journal);
	return journal;
}

/* Time is counted for each part of it: all of it may take longer than a hang. */
static void test_neither_saving_nor_loading_long_is_a_hang(void **state)
{
	struct renderer_ops ops = fake_renderer;
	struct vgpu from, to;
	char why[256];

	ops.content_read = watched_read;
	ops.content_write = watched_write;
	memset(&watched, 0, sizeof(watched));
	vgpu_start(&from, &ops, QUOTA);
	scene_build(from.dev, true);
	struct journal *journal = watched_journal(from.dev);
	struct image image = image_save(from.dev, false);
	assert_true(watched.seen > 3);
	assert_int_equal(watched.busy_since, 0);
	vgpu_stop(&from);
	journal_destroy(journal);
	watched.seen = 0;
	vgpu_start(&to, &ops, QUOTA);
	journal = watched_journal(to.dev);
	assert_int_equal(image_load(to.dev, NULL, &image, why), 0);
	assert_true(watched.seen > 3);
	assert_int_equal(watched.busy_since, 0);
	vgpu_stop(&to);
	journal_destroy(journal);
	image_free(&image);
}

static void test_clients_are_claimed_once(void **state)
{
	struct vgpu *v = *state, w;
	struct image image = image_save(v->dev, false);
	uint32_t dw[16];
	char why[256];

	vgpu_start(&w, &fake_renderer, QUOTA);
	assert_int_equal(image_load(w.dev, NULL, &image, why), 0);
	assert_null(device_client_claim(w.dev, 0));
	assert_null(device_client_claim(w.dev, 3));
	struct device_client *c = device_client_claim(w.dev, 2);
	assert_non_null(c);
	assert_int_equal(device_client_id(c), 2);
	assert_null(device_client_claim(w.dev, 2));
	/* It goes on: drawing, the lost context, handles that are taken, new clients. */
	assert_int_equal(device_submit(c, 1, dw, fake_put_clear(dw, 1)), 0);
	assert_int_equal(device_submit(c, 2, dw, fake_put_clear(dw, 1)), -EIO);
	assert_int_equal(device_context_create(c, 1, 0, "", 0), -EEXIST);
	struct device_client *fresh;
	assert_int_equal(device_client_create(w.dev, "new", &fresh), 0);
	assert_int_equal(device_client_id(fresh), 3);
	device_client_destroy(c);
	device_client_destroy(fresh);
	device_client_destroy(device_client_claim(w.dev, 1));
	assert_int_equal(w.dev->resource_ids.count, 0);
	assert_int_equal(w.dev->vram_used, 0);
	image_free(&image);
	vgpu_stop(&w);
}

static void test_loaded_again_and_again(void **state)
{
	struct vgpu *v = *state, w;
	struct image image = image_save(v->dev, false);
	char why[256];

	vgpu_start(&w, &fake_renderer, QUOTA);
	for (unsigned i = 0; i <= 2 * DEVICE_MAX_CAPSETS; i++) {
		assert_int_equal(image_load(w.dev, NULL, &image, why), 0);
		assert_int_equal(w.dev->n_promised, 1);
		device_drop_unclaimed(w.dev);
		assert_int_equal(w.dev->vram_used, 0);
		assert_null(w.dev->clients);
	}
	image_free(&image);
	vgpu_stop(&w);
}

static void test_what_was_found_out_travels(void **state)
{
	struct vgpu *v = *state, w;
	char why[256];

	fake_faults.formats = "found out";
	struct image image = image_save(v->dev, false);
	fake_told_formats[0] = '\0';
	vgpu_start(&w, &fake_renderer, QUOTA);
	assert_int_equal(image_load(w.dev, NULL, &image, why), 0);
	assert_string_equal(fake_told_formats, "found out");
	image_free(&image);
	vgpu_stop(&w);
}

static void test_only_the_claimed_stay(void **state)
{
	struct vgpu *v = *state, w;
	struct image image = image_save(v->dev, false);
	char why[256];

	vgpu_start(&w, &fake_renderer, QUOTA);
	assert_int_equal(image_load(w.dev, NULL, &image, why), 0);
	struct device_client *c = device_client_claim(w.dev, 1);
	uint64_t used = w.dev->vram_used;
	device_drop_unclaimed(w.dev);
	assert_ptr_equal(w.dev->clients, c);
	assert_null(c->next);
	assert_int_equal(w.dev->context_ids.count, 1);
	assert_true(w.dev->vram_used && w.dev->vram_used < used);
	image_free(&image);
	vgpu_stop(&w);
}

static void test_given_up_in_the_middle(void **state)
{
	struct vgpu *v = *state, w;
	struct image whole = image_save(v->dev, false), part;
	struct device_client *bystander;
	uint32_t type;
	size_t size;
	char why[256];

	vgpu_start(&w, &fake_renderer, QUOTA);
	assert_int_equal(device_client_create(w.dev, "bystander", &bystander), 0);
	for (unsigned n = 0; image_change(&whole, n, IMAGE_CUT, 0, &part, &type, &size); n++) {
		image_give_up(w.dev, &part);
		assert_int_equal(device_client_id(bystander), n + 2);
		assert_ptr_equal(w.dev->clients, bystander);
		assert_null(bystander->next);
		assert_false(w.dev->resource_ids.count || w.dev->context_ids.count ||
			     w.dev->vram_used || w.dev->n_promised);
		image_free(&part);
	}
	image_free(&part);
	assert_int_equal(image_load(w.dev, NULL, &whole, why), 0);
	image_free(&whole);
	vgpu_stop(&w);
}

/* Negative controls: without any one section it is not what it was. */
static void test_every_section_counts(void **state)
{
	struct vgpu *v = *state;
	struct image whole = image_save(v->dev, false), changed;
	unsigned seen = 0;
	uint32_t type;
	size_t size;
	char why[256];

	for (unsigned i = 0; image_change(&whole, i, IMAGE_DROP, 0, &changed, &type, &size); i++) {
		struct vgpu w;
		vgpu_start(&w, &fake_renderer, QUOTA);
		seen |= 1u << type;
		if (image_load(w.dev, NULL, &changed, why) == 0) {
			struct image again = image_save(w.dev, false);
			assert_false(image_equal(&whole, &again));
			image_free(&again);
		} else {
			assert_true(why[0]);
			assert_true(is_empty(w.dev));
		}
		image_free(&changed);
		vgpu_stop(&w);
	}
	image_free(&changed);
	for (uint32_t t = STATE_SOURCE; t <= STATE_STREAMOUT; t++)
		assert_true(seen & 1u << t);
	image_free(&whole);
}

static void test_sections_cut_off_or_doubled_are_refused(void **state)
{
	struct vgpu *v = *state;
	struct image whole = image_save(v->dev, false), changed;
	uint32_t type;
	size_t size;
	char why[256];

	for (unsigned i = 0; image_change(&whole, i, IMAGE_TWICE, 0, &changed, &type, &size); i++) {
		struct vgpu w;
		vgpu_start(&w, &fake_renderer, QUOTA);
		/* The same contents may come again, as they do when they are copied ahead. */
		if (image_load(w.dev, NULL, &changed, why) == 0) {
			assert_int_equal(type, STATE_CONTENT);
			vgpu_stop(&w);
			vgpu_start(&w, &fake_renderer, QUOTA);
		}
		assert_true(is_empty(w.dev));
		image_free(&changed);
		for (size_t at = 0; at < size; at += 1 + size / 16) {
			assert_true(image_change(&whole, i, IMAGE_CUT, at, &changed, &type, &size));
			int err = image_load(w.dev, NULL, &changed, why);
			/* A stream may be cut between two commands. */
			if (type != STATE_BINDINGS && type != STATE_OBJECTS)
				assert_int_not_equal(err, 0);
			if (err)
				assert_true(is_empty(w.dev));
			image_free(&changed);
			if (!err) {
				vgpu_stop(&w);
				vgpu_start(&w, &fake_renderer, QUOTA);
			}
		}
		vgpu_stop(&w);
	}
	image_free(&changed);
	image_free(&whole);
}

/* Any bit may be another: it is refused, or it loads and can be saved and ended. */
static void test_hostile_bits(void **state)
{
	struct vgpu *v = *state;
	struct image whole = image_save(v->dev, false), changed;
	uint32_t type;
	size_t size = 1;
	unsigned refused = 0, loaded = 0;
	char why[256];

	for (unsigned i = 0; image_change(&whole, i, IMAGE_FLIP, 0, &changed, &type, &size); i++) {
		image_free(&changed);
		for (size_t bit = i % 3; bit < size * 8 && bit < 2000; bit += 5) {
			struct vgpu w;
			image_change(&whole, i, IMAGE_FLIP, bit, &changed, &type, &size);
			vgpu_start(&w, &fake_renderer, QUOTA);
			if (image_load(w.dev, NULL, &changed, why) == 0) {
				struct image again = image_save(w.dev, false);
				image_free(&again);
				loaded++;
			} else {
				assert_true(is_empty(w.dev));
				refused++;
			}
			image_free(&changed);
			vgpu_stop(&w);
		}
	}
	image_free(&changed);
	assert_true(refused > 100 && loaded > 100);
	image_free(&whole);
}

static void test_what_does_not_fit_is_refused_in_words(void **state)
{
	struct vgpu *v = *state, w;
	struct image image = image_save(v->dev, false);
	char why[256];

	vgpu_start(&w, &fake_renderer, 4096);
	assert_int_equal(image_load(w.dev, NULL, &image, why), -ENOMEM);
	assert_non_null(strstr(why, "quota"));
	assert_true(is_empty(w.dev));
	vgpu_stop(&w);
	vgpu_start(&w, &fake_renderer, QUOTA);
	fake_faults.capset_covers = -EOPNOTSUPP;
	assert_int_equal(image_load(w.dev, NULL, &image, why), -EOPNOTSUPP);
	assert_non_null(strstr(why, "no such thing"));
	fake_faults = (struct fake_faults){.content_write = -EIO};
	assert_int_equal(image_load(w.dev, NULL, &image, why), -EIO);
	for (int n = 1; n < 20; n++) {
		fake_faults = (struct fake_faults){.submit_after = n};
		int err = image_load(w.dev, NULL, &image, why);
		if (fake_faults.submit_after)
			break;
		assert_int_equal(err, -EIO);
		assert_true(is_empty(w.dev));
	}
	fake_faults = (struct fake_faults){0};
	vgpu_stop(&w);
	image_free(&image);
}

static uint64_t context_of_30_mib(struct renderer *r)
{
	return 30ull << 20;
}

static uint64_t context_of_109_mib(struct renderer *r)
{
	return 109ull << 20;
}

static uint64_t context_of_150_mib(struct renderer *r)
{
	return 150ull << 20;
}

/* A guest had all the contexts that it could have, and the driver is another version now. */
static void test_contexts_that_became_larger(void **state)
{
	const struct renderer_resource_desc buffer = {.format = VIRGL_FORMAT_R8_UNORM,
		.width = 1,
		.height = 1,
		.depth = 1,
		.array_size = 1};
	struct renderer_ops ops = fake_renderer;
	struct device_client *c;
	struct vgpu v, w;
	char why[256];

	ops.context_bytes = context_of_30_mib;
	vgpu_start(&v, &ops, QUOTA);
	assert_int_equal(device_client_create(v.dev, "client", &c), 0);
	for (uint32_t i = 1; i <= 2; i++)
		assert_int_equal(device_context_create(c, i, 0, "x", 1), 0);
	assert_int_equal(device_context_create(c, 3, 0, "x", 1), -ENOMEM);
	struct image image = image_save(v.dev, false);
	/* A replay refuses what was refused then. */
	vgpu_start(&w, &ops, QUOTA);
	assert_int_equal(image_load(w.dev, NULL, &image, why), 0);
	device_replay_begin(w.dev);
	struct device_client *loaded = device_client_claim(w.dev, device_client_id(c));
	assert_int_equal(device_context_create(loaded, 3, 0, "x", 1), -ENOMEM);
	assert_int_equal(device_replay_end(w.dev), 0);
	vgpu_stop(&w);
	ops.context_bytes = context_of_150_mib;
	vgpu_start(&w, &ops, QUOTA);
	assert_int_equal(image_load(w.dev, NULL, &image, why), -ENOMEM);
	assert_true(is_empty(w.dev));
	vgpu_stop(&w);
	ops.context_bytes = context_of_109_mib;
	vgpu_start(&w, &ops, QUOTA);
	assert_int_equal(image_load(w.dev, NULL, &image, why), 0);
	c = device_client_claim(w.dev, device_client_id(c));
	assert_non_null(c);
	device_drop_unclaimed(w.dev);
	assert_int_equal(w.stats.vram_used_bytes, 2 * (109ull << 20) - DEVICE_DRIVER_FREE);
	assert_int_equal(device_resource_create(c, 1, &buffer), -ENOMEM);
	assert_int_equal(device_context_destroy(c, 1), 0);
	assert_int_equal(device_context_create(c, 1, 0, "x", 1), -ENOMEM);
	assert_int_equal(device_context_destroy(c, 2), 0);
	assert_int_equal(w.stats.vram_used_bytes, 0);
	assert_int_equal(device_resource_create(c, 1, &buffer), 0);
	image_free(&image);
	vgpu_stop(&v);
	vgpu_stop(&w);
}

static void test_contents_that_cannot_be_read_are_said(void **state)
{
	struct vgpu *v = *state, w;
	char why[256];

	fake_faults.lossy = true;
	struct image image = image_save(v->dev, false);
	assert_true(image.lossy);
	image_free(&image);
	fake_faults = (struct fake_faults){.content_read = -EIO};
	image = image_save(v->dev, false);
	assert_true(image.lossy);
	fake_faults = (struct fake_faults){0};
	vgpu_start(&w, &fake_renderer, QUOTA);
	assert_int_equal(image_load(w.dev, NULL, &image, why), 0);
	vgpu_stop(&w);
	image_free(&image);
}

static void count_problem(void *data, bool refused, const char *text)
{
	assert_false(refused);
	assert_non_null(strstr(text, "B8G8R8X8_UNORM"));
	++*(unsigned *)data;
}

static void test_check(void **state)
{
	struct vgpu *v = *state;
	unsigned n = 0;

	device_check(v->dev, count_problem, &n);
	assert_int_equal(n, 0);
	fake_faults.lossy = true;
	device_check(v->dev, count_problem, &n);
	assert_int_equal(n, 6); /* three textures of each client */
}

static void test_resources_outlive_their_handle(void **state)
{
	struct vgpu *v = *state;
	struct device_client *c = v->dev->clients;
	uint64_t used = v->dev->vram_used;
	uint32_t dw[16], count = v->dev->resource_ids.count;

	/* Handle 2 was destroyed and is still drawn into. */
	assert_null(idmap_get(&c->resources, 2));
	struct renderer_resource_desc desc = {.target = PIPE_TEXTURE_2D,
		.format = VIRGL_FORMAT_B8G8R8X8_UNORM,
		.width = 4,
		.height = 4,
		.depth = 1,
		.array_size = 1};
	assert_int_equal(device_resource_create(c, 2, &desc), 0);
	assert_int_equal(device_resource_destroy(c, 2), 0);
	assert_int_equal(v->dev->vram_used, used);
	/* Bound to something else it goes. */
	assert_int_equal(device_submit(c, 1, dw, fake_put_framebuffer(dw, 10)), 0);
	assert_int_equal(v->dev->resource_ids.count, count - 1);
	assert_true(v->dev->vram_used < used);
}

static void note_refusal(void *data, bool refused, const char *text)
{
	*(bool *)data |= refused && strstr(text, "too large");
}

static void test_too_large_for_a_section(void **state)
{
	struct renderer_resource_desc desc = {.target = PIPE_BUFFER,
		.format = VIRGL_FORMAT_R8_UNORM,
		.bind = 1u << 4,
		.width = 1u << 30,
		.height = 1,
		.depth = 1,
		.array_size = 1};
	struct device_client *c;
	bool refused = false;
	struct vgpu v;

	vgpu_start(&v, &fake_renderer, 4ull << 30);
	assert_int_equal(device_client_create(v.dev, "client", &c), 0);
	assert_int_equal(device_resource_create(c, 1, &desc), 0);
	device_check(v.dev, note_refusal, &refused);
	assert_true(refused);
	assert_int_equal(device_resource_destroy(c, 1), 0);
	v.dev->config.exact_only = true;
	assert_int_equal(device_resource_create(c, 1, &desc), -ENOMEM);
	desc.width -= 64;
	assert_int_equal(device_resource_create(c, 1, &desc), 0);
	refused = false;
	device_check(v.dev, note_refusal, &refused);
	assert_false(refused);
	vgpu_stop(&v);
}

static void draw(struct device *dev, uint32_t value)
{
	uint32_t dw[32];
	unsigned n = fake_put_framebuffer(dw, 10);
	n += fake_put_clear(dw + n, value);
	assert_int_equal(device_submit(dev->clients, 1, dw, n), 0);
}

static void precopy_case(struct device *dev, uint64_t budget_ns, bool change)
{
	struct renderer_resource_desc desc = {.target = PIPE_BUFFER,
		.format = VIRGL_FORMAT_R8_UNORM,
		.width = 50,
		.height = 1,
		.depth = 1,
		.array_size = 1};
	struct vgpu w;
	uint64_t left = 1;
	char why[256];

	device_precopy_forget(dev);
	struct image ahead = image_precopy(dev, budget_ns, &left);
	assert_int_equal(left, 0);
	if (change) {
		draw(dev, 77);
		device_resource_destroy(dev->clients, 4);
		assert_int_equal(device_resource_create(dev->clients, 4, &desc), 0);
	}
	struct image rest = image_save(dev, true), whole = image_save(dev, false);
	assert_true(rest.size < whole.size);
	vgpu_start(&w, &fake_renderer, QUOTA);
	assert_int_equal(image_load(w.dev, &ahead, &rest, why), 0);
	struct image again = image_save(w.dev, false);
	assert_true(image_equal(&again, &whole));
	image_free(&again);
	vgpu_stop(&w);
	/* The rest alone is not enough, and says so. */
	vgpu_start(&w, &fake_renderer, QUOTA);
	assert_int_not_equal(image_load(w.dev, NULL, &rest, why), 0);
	assert_non_null(strstr(why, "missing"));
	vgpu_stop(&w);
	image_free(&ahead);
	image_free(&rest);
	image_free(&whole);
}

static void test_precopy(void **state)
{
	struct vgpu *v = *state;

	precopy_case(v->dev, UINT64_MAX / 2, false);
	precopy_case(v->dev, UINT64_MAX / 2, true);
	precopy_case(v->dev, 1000, true); /* in many slices */
}

static void test_precopy_rounds_get_smaller(void **state)
{
	struct vgpu *v = *state;
	uint64_t left;
	struct image all = image_precopy(v->dev, UINT64_MAX / 2, &left);

	draw(v->dev, 3);
	struct image some = image_precopy(v->dev, UINT64_MAX / 2, &left);
	struct image none = image_precopy(v->dev, UINT64_MAX / 2, &left);
	assert_true(none.size < some.size && some.size < all.size);
	image_free(&all);
	image_free(&some);
	image_free(&none);
}

/* Copied ahead as "not here": detached, its bytes are. */
static void test_precopied_and_then_detached(void **state)
{
	struct vgpu *v = *state, w;
	struct device_client *c = v->dev->clients;
	uint8_t bytes[16] = {1, 2, 3, 4};
	struct iovec iov = {bytes, sizeof(bytes)};
	const struct renderer_transfer t = {.resource_id = 3,
		.box = {.w = sizeof(bytes), .h = 1, .d = 1},
		.iov = &iov,
		.n_iov = 1};
	uint64_t left;
	char why[256];

	assert_int_equal(device_transfer(c, DEVICE_TO_HOST, &t), 0);
	assert_int_equal(device_resource_attach_backing(c, 3, &iov, 1), 0);
	struct image ahead = image_precopy(v->dev, UINT64_MAX / 2, &left);
	assert_int_equal(device_resource_detach_backing(c, 3), 0);
	struct image rest = image_save(v->dev, true), whole = image_save(v->dev, false);
	vgpu_start(&w, &fake_renderer, QUOTA);
	assert_int_equal(image_load(w.dev, &ahead, &rest, why), 0);
	struct image again = image_save(w.dev, false);
	assert_true(image_equal(&again, &whole));
	image_free(&again);
	image_free(&ahead);
	image_free(&rest);
	image_free(&whole);
	vgpu_stop(&w);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_saved_loaded_and_saved_again_is_the_same),
		cmocka_unit_test(test_neither_saving_nor_loading_long_is_a_hang),
		T(test_clients_are_claimed_once),
		T(test_loaded_again_and_again),
		T(test_what_was_found_out_travels),
		T(test_only_the_claimed_stay),
		T(test_given_up_in_the_middle),
		T(test_every_section_counts),
		T(test_sections_cut_off_or_doubled_are_refused),
		T(test_hostile_bits),
		T(test_what_does_not_fit_is_refused_in_words),
		T(test_contexts_that_became_larger),
		T(test_contents_that_cannot_be_read_are_said),
		T(test_check),
		T(test_resources_outlive_their_handle),
		T(test_too_large_for_a_section),
		T(test_precopy),
		T(test_precopy_rounds_get_smaller),
		T(test_precopied_and_then_detached),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
