/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_DEVICE_STATE_FIXTURE_H
#define VGPU_TESTS_DEVICE_STATE_FIXTURE_H

/* Devices on the fake renderer, saved into and loaded from plain bytes. */

#include "device/saving.h"
#include "fake_renderer.h"
#include "protocol/stats.h"
#include "renderer/format.h"

#include <stddef.h>

struct vgpu {
	struct vgpu_stats stats;
	struct device *dev;
	unsigned notices;
};

void vgpu_start(struct vgpu *v, const struct renderer_ops *ops, uint64_t vram_bytes);
void vgpu_stop(struct vgpu *v);

struct image {
	uint8_t *bytes;
	size_t size;
	bool lossy;
};

struct image image_save(struct device *dev, bool precopied);
/* A whole round. */
struct image image_precopy(struct device *dev, uint64_t budget_ns, uint64_t *ret_left);
void image_free(struct image *image);
bool image_equal(const struct image *a, const struct image *b);

/* What is done to section `index` when an image is copied. */
enum image_change { IMAGE_DROP, IMAGE_CUT, IMAGE_FLIP, IMAGE_TWICE };
/* `at`: bytes left (CUT) or bit to flip; *ret_type: of the section. False: there is none. */
bool image_change(const struct image *image, unsigned index, enum image_change change, size_t at,
	struct image *ret, uint32_t *ret_type, size_t *ret_size);

/* `first` may be NULL. Returns the loader's verdict; `why` has 256 bytes. */
int image_load(struct device *dev, const struct image *first, const struct image *image, char *why);

/* Loads as far as that goes (something is wrong with it), and gives up. */
void image_give_up(struct device *dev, const struct image *image);

/* Two clients with a bit of everything; the same each time, but for the `uuid`. */
void scene_build(struct device *dev, bool uuid);

#endif
