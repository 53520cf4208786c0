/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SCENE_OUTPUT_H
#define SCENE_OUTPUT_H

#include <EGL/egl.h>
#include <stdbool.h>
#include <stdint.h>

struct kms;

/*
 * Where frames go: a screen (GBM surface and KMS page flips on a DRM card) or nowhere (a
 * framebuffer object of a surfaceless context). Opened, the output's context is current and its
 * framebuffer bound, so drawing and reading back need to know nothing of it.
 */
struct output_options {
	const char *card;       /* DRM node; NULL: no screen */
	uint32_t width, height; /* pixels; 0: the screen's preferred mode, 640x480 without screen */
	uint32_t head;          /* which connected screen of the card */
};

struct output {
	uint32_t width, height;
	EGLDisplay display;
	EGLContext context;
	EGLSurface surface; /* EGL_NO_SURFACE without screen */
	struct kms *kms;    /* owned; NULL without screen */
	unsigned framebuffer, renderbuffers[2];
};

/* Says why on stderr. Returns 0 or -errno. */
int output_open(struct output *output, const struct output_options *options);
void output_close(struct output *output);

/* Ends a frame: shows it and waits until it is on screen, or, without one, until it is drawn. */
int output_show(struct output *output);

#endif
