/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_GLSTATE_H
#define VGPU_TESTS_GLSTATE_H

/*
 * A series is one use of GL whose every frame depends on all earlier ones, so that whatever a vGPU
 * loses between two frames shows in all later hashes. It draws from integers alone: no clock, no
 * pointers, a generator with a fixed seed; atomics only where the order does not matter.
 *
 * Series run one after another in each frame and share GL contexts, so each sets the state it
 * relies on, and leaves open what its purpose is to leave open (a query, paused feedback).
 */

#include "../glhash/glhash.h"

#define SIDE 64 /* width and height of every target */

struct state {
	struct glhash g; /* hash of the frame, generator */
	GLuint program[6], texture[8], buffer[8], array[4], framebuffer[8], query[8], feedback[4];
	GLuint sampler[4];
	unsigned contexts, context; /* how many there are, which one is current */
};

struct series {
	const char *name;
	/* Drawn in context frame % contexts, not always in the same one. */
	bool travels;
	void (*init)(struct state *s);
	void (*draw)(struct state *s, unsigned frame);
};

extern const struct series raster_series[];
extern const unsigned raster_series_count;
extern const struct series multisample_series[];
extern const unsigned multisample_series_count;
extern const struct series texture_series[];
extern const unsigned texture_series_count;
extern const struct series memory_series[];
extern const unsigned memory_series_count;
extern const struct series feedback_series[];
extern const unsigned feedback_series_count;
extern const struct series query_series[];
extern const unsigned query_series_count;
extern const struct series object_series[];
extern const unsigned object_series_count;

/* ---- shaders; sources without a #version line, any may be NULL ---- */

struct stages {
	const char *vertex, *control, *evaluation, *geometry, *fragment, *compute;
	const char *captured[4]; /* varyings of transform feedback, interleaved */
};

GLuint link_stages(const struct stages *stages);
void use(GLuint program);
/* Of the program in use. */
void uniform_int(const char *name, int value);
void uniform_color(const char *name, uint32_t bits); /* four nibbles, as sixteenths */

/* A triangle strip of four vertices over the whole target, without attributes; uniform vec4
 * `rect` (x, y, w, h from -1 to 1) and float `depth`. */
extern const char *const VS_RECT;
extern const char *const FS_FLAT; /* uniform vec4 color */

/* Draws the rectangle of a program with VS_RECT in sixteenths of the target, depth in 1/64 from 0
 * to 63. */
void draw_rect(int x, int y, int w, int h, int depth);
void draw_random_rect(struct state *s, int depth);
void draw_all(void);

/* ---- targets ---- */

/* A texture of SIDE x SIDE, zeroed if it has a colour format; samples 0: not multisampled. */
GLuint make_storage(GLenum format, int samples);
GLuint make_framebuffer(GLuint color, GLenum attachment, GLuint other, int samples);
/* Binds it and puts every part of the state that series change back to its default. */
void start(struct state *s, GLuint framebuffer);
void hash_rgba8(struct state *s, GLuint framebuffer);
void hash_u32(struct state *s, GLuint framebuffer); /* its colour is R32UI */
void hash_buffer(struct state *s, GLuint buffer, size_t size);

#endif
