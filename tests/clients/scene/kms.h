/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SCENE_KMS_H
#define SCENE_KMS_H

#include <stdint.h>

struct gbm_device;
struct gbm_surface;

/* One screen of a DRM card, driven by mode setting and page flips. */
struct kms;

/*
 * Opens the head-th connected screen. A size of 0 takes the preferred mode and returns its size;
 * any other size must be a mode the screen offers. Says why on stderr. Returns 0 or -errno.
 */
int kms_open(
	struct kms **ret_kms, const char *card, uint32_t head, uint32_t *width, uint32_t *height);
void kms_close(struct kms *kms); /* NULL-safe; leaves the last picture on screen */

struct gbm_device *kms_device(struct kms *kms);
struct gbm_surface *kms_surface(struct kms *kms);

/* Shows what was last swapped and waits for it, at most a few seconds. Returns 0 or -errno. */
int kms_flip(struct kms *kms);

#endif
