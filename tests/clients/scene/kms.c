/* SPDX-License-Identifier: Apache-2.0 */
#include "kms.h"

#include <errno.h>
#include <fcntl.h>
#include <gbm.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#define FLIP_LIMIT_MS 10000

struct kms {
	int fd;
	uint32_t connector, crtc;
	drmModeModeInfo mode;
	struct gbm_device *device;
	struct gbm_surface *surface;
	struct gbm_bo *shown; /* on screen; NULL before the first flip */
};

static int fail(const char *what)
{
	int error = errno ? errno : EIO;

	fprintf(stderr, "scene: %s: %m\n", what);
	return -error;
}

static bool pick_mode(const drmModeConnector *connector, uint32_t width, uint32_t height,
	drmModeModeInfo *ret_mode)
{
	for (int i = 0; i < connector->count_modes; i++) {
		const drmModeModeInfo *mode = &connector->modes[i];

		if (width ? mode->hdisplay == width && mode->vdisplay == height
			  : mode->type & DRM_MODE_TYPE_PREFERRED) {
			*ret_mode = *mode;
			return true;
		}
	}
	if (width || connector->count_modes == 0)
		return false;
	*ret_mode = connector->modes[0];
	return true;
}

/* Each head of a virtio-gpu has one encoder and one CRTC, in the same order. */
static uint32_t crtc_of(int fd, const drmModeRes *resources, const drmModeConnector *connector)
{
	for (int i = 0; i < connector->count_encoders; i++) {
		drmModeEncoder *encoder = drmModeGetEncoder(fd, connector->encoders[i]);
		uint32_t possible = encoder ? encoder->possible_crtcs : 0;

		drmModeFreeEncoder(encoder);
		for (int c = 0; c < resources->count_crtcs; c++)
			if (possible & 1u << c)
				return resources->crtcs[c];
	}
	return 0;
}

static int pick_screen(struct kms *kms, uint32_t head, uint32_t width, uint32_t height)
{
	drmModeRes *resources = drmModeGetResources(kms->fd);
	int r = -ENODEV;

	if (!resources)
		return fail("no mode setting");
	for (int i = 0; i < resources->count_connectors && r == -ENODEV; i++) {
		drmModeConnector *connector =
			drmModeGetConnector(kms->fd, resources->connectors[i]);

		if (connector && connector->connection == DRM_MODE_CONNECTED && head-- == 0) {
			kms->connector = connector->connector_id;
			kms->crtc = crtc_of(kms->fd, resources, connector);
			r = pick_mode(connector, width, height, &kms->mode) ? 0 : -EINVAL;
		}
		drmModeFreeConnector(connector);
	}
	drmModeFreeResources(resources);
	if (r)
		fprintf(stderr, "scene: no such screen or mode %ux%u\n", width, height);
	return r;
}

int kms_open(
	struct kms **ret_kms, const char *card, uint32_t head, uint32_t *width, uint32_t *height)
{
	struct kms *kms = calloc(1, sizeof(*kms));
	int r;

	if (!kms)
		return -ENOMEM;
	kms->fd = open(card, O_RDWR | O_CLOEXEC);
	r = kms->fd < 0 ? fail(card) : pick_screen(kms, head, *width, *height);
	if (!r) {
		kms->device = gbm_create_device(kms->fd);
		if (kms->device)
			kms->surface = gbm_surface_create(kms->device, kms->mode.hdisplay,
				kms->mode.vdisplay, GBM_FORMAT_XRGB8888,
				GBM_BO_USE_SCANOUT | GBM_BO_USE_RENDERING);
		r = kms->surface ? 0 : fail("gbm surface");
	}
	if (r) {
		kms_close(kms);
		return r;
	}
	*width = kms->mode.hdisplay;
	*height = kms->mode.vdisplay;
	*ret_kms = kms;
	return 0;
}

void kms_close(struct kms *kms)
{
	if (!kms)
		return;
	if (kms->shown)
		gbm_surface_release_buffer(kms->surface, kms->shown);
	if (kms->surface)
		gbm_surface_destroy(kms->surface);
	if (kms->device)
		gbm_device_destroy(kms->device);
	if (kms->fd >= 0)
		close(kms->fd);
	free(kms);
}

struct gbm_device *kms_device(struct kms *kms)
{
	return kms->device;
}

struct gbm_surface *kms_surface(struct kms *kms)
{
	return kms->surface;
}

/* The buffer's framebuffer, made once and kept with the buffer; the card drops it with its file. */
static uint32_t framebuffer_of(struct kms *kms, struct gbm_bo *bo)
{
	uint32_t id = (uint32_t)(uintptr_t)gbm_bo_get_user_data(bo);
	const uint32_t handles[4] = {gbm_bo_get_handle(bo).u32};
	const uint32_t strides[4] = {gbm_bo_get_stride(bo)};
	const uint32_t offsets[4] = {0};

	if (id)
		return id;
	if (drmModeAddFB2(kms->fd, gbm_bo_get_width(bo), gbm_bo_get_height(bo), GBM_FORMAT_XRGB8888,
		    handles, strides, offsets, &id, 0))
		return 0;
	gbm_bo_set_user_data(bo, (void *)(uintptr_t)id, NULL);
	return id;
}

static void flipped(int fd, unsigned sequence, unsigned sec, unsigned usec, void *data)
{
	*(bool *)data = true;
}

static int wait_for_flip(struct kms *kms, const bool *done)
{
	drmEventContext events = {.version = 2, .page_flip_handler = flipped};
	struct pollfd pollfd = {.fd = kms->fd, .events = POLLIN};

	while (!*done) {
		int n = poll(&pollfd, 1, FLIP_LIMIT_MS);

		if (n == 0) {
			errno = ETIMEDOUT;
			return fail("page flip");
		}
		if (n > 0 && drmHandleEvent(kms->fd, &events))
			return fail("page flip event");
	}
	return 0;
}

int kms_flip(struct kms *kms)
{
	struct gbm_bo *next = gbm_surface_lock_front_buffer(kms->surface);
	uint32_t framebuffer = next ? framebuffer_of(kms, next) : 0;
	bool done = false;
	int r = 0;

	if (!framebuffer)
		return fail("framebuffer");
	if (!kms->shown) {
		if (drmModeSetCrtc(
			    kms->fd, kms->crtc, framebuffer, 0, 0, &kms->connector, 1, &kms->mode))
			r = fail("drmModeSetCrtc");
	} else if (drmModePageFlip(
			   kms->fd, kms->crtc, framebuffer, DRM_MODE_PAGE_FLIP_EVENT, &done)) {
		r = fail("drmModePageFlip");
	} else {
		r = wait_for_flip(kms, &done);
	}
	if (kms->shown)
		gbm_surface_release_buffer(kms->surface, kms->shown);
	kms->shown = next;
	return r;
}
