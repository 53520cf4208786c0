/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_GLHASH_H
#define VGPU_TESTS_GLHASH_H

/*
 * A scene draws one frame after another from integers alone: no clock, no randomness but a fixed
 * generator, no trigonometry. Each frame yields one 64-bit hash of everything read back. Scenes use
 * only operations whose results do not depend on the order of floating-point evaluation, so that a
 * forwarded shader, which is compiled twice, gives the same bits.
 */

#include <epoxy/gl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct glhash {
	int width, height;
	bool gles;
	uint64_t hash;            /* of the frame so far */
	uint32_t random;          /* state of the generator */
	GLuint fbo, color, depth; /* what scenes draw into; RGBA8 and D24S8 */
	GLuint quad;              /* vertex array of a full-screen quad, attribute 0 */
	GLuint program[4], texture[4], buffer[4], array[2], framebuffer[2], renderbuffer[2];
	GLuint query;
};

struct glhash_scene {
	const char *name;
	bool desktop; /* not with --gles */
	void (*init)(struct glhash *g);
	void (*draw)(struct glhash *g, unsigned frame);
};

extern const struct glhash_scene glhash_draw_scenes[];
extern const unsigned glhash_draw_scene_count;
extern const struct glhash_scene glhash_data_scenes[];
extern const unsigned glhash_data_scene_count;

/* Ends the program with status 1 and a line that says why. */
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

void hash_bytes(struct glhash *g, const void *bytes, size_t len);
/* Reads the bound framebuffer as `format`/`type`, `texel` bytes each, into the hash. */
void hash_pixels(struct glhash *g, int w, int h, GLenum format, GLenum type, size_t texel);
void hash_frame(struct glhash *g); /* the scene's target, RGBA8 */

uint32_t random_u32(struct glhash *g);
int random_below(struct glhash *g, int n);

/* Sources without a #version line. */
GLuint make_program(struct glhash *g, const char *vs, const char *fs);
GLuint make_program_xfb(struct glhash *g, const char *vs, const char *varying);
/* A 2D texture of pseudo-random RGBA8 texels. */
GLuint make_texture(struct glhash *g, int w, int h, GLenum filter);
/* A vertex array with `n` ivec2 positions (16-bit) at attribute 0, in units of 1/1024 of the
 * target. */
GLuint make_positions(struct glhash *g, GLuint buffer, const int16_t *xy, int n);
void random_triangles(struct glhash *g, int16_t *xy, int n_triangles);
void set_int(GLuint program, const char *name, int value);
void set_color(GLuint program, uint32_t rgba);

void bind_target(struct glhash *g);
void make_target(struct glhash *g);
void free_objects(struct glhash *g);

/* The vertex shader most scenes use: positions in 1/1024, `uv` in texels/1024. */
extern const char *const VS_POSITION;
extern const char *const FS_COLOR;   /* uniform color */
extern const char *const FS_TEXTURE; /* sampler `tex` at uv */

#endif
