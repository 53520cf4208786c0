/* SPDX-License-Identifier: Apache-2.0 */
#include "state_fixture.h"

#include "state/section.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#undef NDEBUG
#define MUST(expression)                                                                           \
	do {                                                                                       \
		if (!(expression))                                                                 \
			abort();                                                                   \
	} while (0)

static void vgpu_notice(void *data, const char *text)
{
	((struct vgpu *)data)->notices++;
}

void vgpu_start(struct vgpu *v, const struct renderer_ops *ops, uint64_t vram_bytes)
{
	static const struct device_events events = {.notice = vgpu_notice};

	*v = (struct vgpu){0};
	const struct device_config config = {.name = "test",
		.vram_bytes = vram_bytes,
		.heads = 2,
		.max_width = 256,
		.max_height = 256,
		.renderer_ops = ops,
		.stats = &v->stats};
	MUST(device_create(&config, &events, v, &v->dev) == 0);
}

void vgpu_stop(struct vgpu *v)
{
	device_destroy(v->dev);
}

/* ---- images ---- */

static struct image image_take(int fd, struct state_writer *w)
{
	struct image image = {0};

	MUST(state_finish(w) == 0);
	image.size = state_written(w);
	image.bytes = malloc(image.size);
	MUST(image.bytes && pread(fd, image.bytes, image.size, 0) == (ssize_t)image.size);
	state_writer_destroy(w);
	close(fd);
	return image;
}

static struct state_writer *image_writer(int *ret_fd)
{
	struct state_writer *w;

	*ret_fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	MUST(*ret_fd >= 0 && state_writer_create(STATE_IMAGE, *ret_fd, &w) == 0);
	return w;
}

static struct state_reader *image_reader(const struct image *image, int *ret_fd)
{
	struct state_reader *r;
	int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	MUST(fd >= 0 && write(fd, image->bytes, image->size) == (ssize_t)image->size);
	MUST(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	MUST(lseek(fd, 0, SEEK_SET) == 0 && state_reader_create(fd, &r) == 0);
	*ret_fd = fd;
	return r;
}

struct image image_save(struct device *dev, bool precopied)
{
	int fd;
	bool lossy = false;
	struct state_writer *w = image_writer(&fd);

	MUST(device_save(dev, w, precopied, &lossy) == 0);
	struct image image = image_take(fd, w);
	image.lossy = lossy;
	return image;
}

struct image image_precopy(struct device *dev, uint64_t budget_ns, uint64_t *ret_left)
{
	int fd, r;
	struct state_writer *w = image_writer(&fd);

	while ((r = device_precopy(dev, w, budget_ns, ret_left)) == 1)
		;
	MUST(r == 0);
	return image_take(fd, w);
}

void image_free(struct image *image)
{
	free(image->bytes);
	image->bytes = NULL;
}

bool image_equal(const struct image *a, const struct image *b)
{
	return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

bool image_change(const struct image *image, unsigned index, enum image_change change, size_t at,
	struct image *ret, uint32_t *ret_type, size_t *ret_size)
{
	int fd, read_fd;
	struct state_reader *r = image_reader(image, &read_fd);
	struct state_section section;
	bool found = false;
	struct state_writer *w = image_writer(&fd);

	for (unsigned i = 0; state_next(r, &section) == 1; i++) {
		size_t size = section.size;
		uint8_t *bytes = malloc(size + 1);
		MUST(bytes);
		memcpy(bytes, state_take(r, size), size);
		if (i == index) {
			found = true;
			*ret_type = section.type;
			*ret_size = size;
			if (change == IMAGE_CUT)
				size = at < size ? at : size;
			if (change == IMAGE_FLIP && size)
				bytes[at / 8 % size] ^= (uint8_t)(1u << at % 8);
		}
		for (int n = i == index && change == IMAGE_TWICE ? 2 : 1;
			n > 0 && !(i == index && change == IMAGE_DROP); n--) {
			state_begin(w, section.type);
			state_put(w, bytes, size);
			state_end(w);
		}
		free(bytes);
	}
	state_reader_destroy(r);
	close(read_fd);
	*ret = image_take(fd, w);
	return found;
}

static void image_feed(struct device_loader *loader, const struct image *image)
{
	int fd;
	struct state_reader *r = image_reader(image, &fd);
	struct state_section section;

	while (state_next(r, &section) == 1) {
		if (device_load_section(loader, &section, r) < 0)
			break;
	}
	state_reader_destroy(r);
	close(fd);
}

void image_give_up(struct device *dev, const struct image *image)
{
	struct device_loader *loader;

	MUST(device_load_begin(dev, &loader) == 0);
	image_feed(loader, image);
	MUST(device_load_why(loader)[0]);
	device_load_abort(loader);
}

int image_load(struct device *dev, const struct image *first, const struct image *image, char *why)
{
	struct device_loader *loader;

	MUST(device_load_begin(dev, &loader) == 0);
	if (first)
		image_feed(loader, first);
	image_feed(loader, image);
	int err = device_load_end(loader, why, 256);
	if (err && getenv("WHY"))
		fprintf(stderr, "load: %d %s\n", err, why);
	return err;
}

/* ---- a scene ---- */

static struct renderer_resource_desc scene_texture(uint32_t w, uint32_t h, uint32_t last_level)
{
	return (struct renderer_resource_desc){.target = PIPE_TEXTURE_2D,
		.format = VIRGL_FORMAT_B8G8R8X8_UNORM,
		.bind = 2,
		.width = w,
		.height = h,
		.depth = 1,
		.array_size = 1,
		.last_level = last_level};
}

static struct renderer_resource_desc scene_buffer(uint32_t bytes, uint32_t bind)
{
	return (struct renderer_resource_desc){.target = PIPE_BUFFER,
		.format = VIRGL_FORMAT_R8_UNORM,
		.bind = bind,
		.width = bytes,
		.height = 1,
		.depth = 1,
		.array_size = 1};
}

static void scene_client(struct device *dev, uint32_t first, bool uuid, struct device_client **ret)
{
	struct renderer_resource_desc texture = scene_texture(16, 8, 2),
				      plain = scene_texture(16, 16, 0),
				      result = scene_buffer(16, 1u << 17),
				      vertices = scene_buffer(100, 1u << 4);
	uint8_t id[16], data[100];
	uint32_t dw[256];
	unsigned n = 0;
	struct device_client *c;

	MUST(device_client_create(dev, "client", &c) == 0);
	*ret = c;
	MUST(device_resource_create(c, 1, &texture) == 0);
	MUST(device_resource_create(c, 2, &plain) == 0);
	MUST(device_resource_create(c, 3, &result) == 0);
	MUST(device_resource_create(c, 4, &vertices) == 0);
	MUST(device_resource_create(c, 5, &plain) == 0);
	if (uuid)
		MUST(device_resource_uuid(c, 1, id) == 0);
	MUST(device_context_create(c, 1, 0, "draws", 5) == 0);
	for (uint32_t handle = 1; handle <= 5; handle++)
		MUST(device_context_attach(c, 1, handle) == 0);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i + first);
	struct iovec iov = {data, sizeof(data)};
	const struct renderer_transfer t = {.resource_id = 4,
		.box = {.w = sizeof(data), .h = 1, .d = 1},
		.iov = &iov,
		.n_iov = 1};
	MUST(device_transfer(c, DEVICE_TO_HOST, &t) == 0);
	n += fake_put_surface(dw + n, 10, 1);
	n += fake_put_surface(dw + n, 11, 2);
	n += fake_put_query(dw + n, 20, 3);
	n += fake_put_query(dw + n, 21, 3);
	n += fake_put_framebuffer(dw + n, 10);
	n += fake_put_query_begin(dw + n, 20);
	n += fake_put_clear(dw + n, 7 + first);
	n += fake_put_query_end(dw + n, 20);
	n += fake_put_query_begin(dw + n, 21);
	n += fake_put_framebuffer(dw + n, 11);
	n += fake_put_clear(dw + n, 9 + first);
	MUST(device_submit(c, 1, dw, n) == 0);
	/* drawn into, with its handle and that of its surface gone */
	MUST(device_resource_destroy(c, 2) == 0);
	n = fake_put_destroy(dw, 11);
	n += fake_put_clear(dw + n, 5);
	MUST(device_submit(c, 1, dw, n) == 0);
	MUST(device_context_detach(c, 1, 1) == 0);
}

void scene_build(struct device *dev, bool uuid)
{
	static const struct display_rect rect = {0, 0, 16, 16};
	static const struct display_mode mode = {true, 200, 100};
	struct device_client *a, *b;
	uint32_t bad[1] = {0xff};

	scene_client(dev, 0, uuid, &a);
	scene_client(dev, 100, false, &b);
	MUST(device_context_create(b, 2, 0, "lost", 4) == 0);
	MUST(device_submit(b, 2, bad, 1) < 0);
	MUST(device_set_scanout(a, 1, 5, &rect) == 0);
	device_set_preferred_mode(dev, 0, &mode);
	const struct display_cursor cursor = {.head = 0, .x = 3, .y = 4, .visible = true};
	MUST(device_cursor(a, 0, &cursor, false) == 0);
}
