/* SPDX-License-Identifier: Apache-2.0 */
#include "vram_support.h"

#include "base/checked.h"
#include "protocol/virgl.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SKIPPED 77

struct vram *vram_start(uint64_t vram_bytes)
{
	static const struct device_events none = {0};
	struct vram *v = calloc(1, sizeof(*v));

	MUST(v);
	const struct device_config config = {.name = "test",
		.vram_bytes = vram_bytes,
		.heads = 1,
		.max_width = 256,
		.max_height = 256,
		.renderer_ops = renderer_find("virgl"),
		.stats = &v->stats};
	if (device_create(&config, &none, NULL, &v->dev) < 0)
		_exit(SKIPPED);
	MUST(device_client_create(v->dev, "client", &v->client) == 0);
	MUST(device_context_create(v->client, 1, 0, "x", 1) == 0);
	return v;
}

void vram_in_child(void (*test)(void))
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		alarm(100);
		test();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
		skip();
	assert_int_equal(status, 0);
}

void vram_put(struct vram *v, uint32_t command, uint32_t object, unsigned n, const uint32_t *words)
{
	if (v->count + n + 1 > ARRAY_SIZE(v->words))
		vram_run(v);
	v->words[v->count++] = VIRGL_HEADER(command, object, n);
	memcpy(&v->words[v->count], words, n * sizeof(*words));
	v->count += n;
}

int vram_run(struct vram *v)
{
	int err = device_submit(v->client, 1, v->words, v->count);

	v->count = 0;
	device_finish_all(v->dev);
	return err;
}

int vram_resource(struct vram *v, uint32_t handle, const struct renderer_resource_desc *desc)
{
	int err = device_resource_create(v->client, handle, desc);
	return err ? err : device_context_attach(v->client, 1, handle);
}

bool vram_fill(struct vram *v, uint32_t handle, uint8_t value)
{
	const struct resource *res = device_find_resource(v->client, handle);
	struct format_content_part part;
	bool all = true;

	for (uint32_t i = 0; format_content_part(&res->desc, i, &part); i++) {
		uint8_t *bytes = malloc(part.bytes);
		MUST(bytes);
		memset(bytes, value, part.bytes);
		all &= v->dev->ops->content_write(
			       v->dev->renderer, res->stream.id, i, bytes, part.bytes) == 0;
		free(bytes);
	}
	device_finish_all(v->dev);
	return all;
}

static uint32_t bits(float f)
{
	uint32_t word;
	memcpy(&word, &f, sizeof(word));
	return word;
}

void vram_shader(struct vram *v, uint32_t handle, uint32_t stage, unsigned number, unsigned steps)
{
	static char text[16384];
	static uint32_t words[8192];
	int at = snprintf(text, sizeof(text),
		stage ? "FRAG\nDCL OUT[0], COLOR\nDCL TEMP[0]\nIMM[0] FLT32 { %u.0, 0.0, 0.0, 1.0 "
			"}\n"
			"  0: MOV TEMP[0], IMM[0]\n"
		      : "VERT\nDCL IN[0]\nDCL OUT[0], POSITION\nDCL TEMP[0]\n"
			"IMM[0] FLT32 { %u.0, 0.5, 0.25, 1.0 }\n  0: MOV TEMP[0], IN[0]\n",
		number);

	for (unsigned i = 1; i <= steps; i++)
		at += snprintf(text + at, sizeof(text) - (size_t)at,
			"  %u: MAD TEMP[0], TEMP[0].yxzw, IMM[0], TEMP[0]\n", i);
	at += snprintf(text + at, sizeof(text) - (size_t)at,
		"  %u: MOV OUT[0], TEMP[0]\n  %u: END\n", steps + 1, steps + 2);
	uint32_t length = (uint32_t)at + 1;
	memset(words, 0, sizeof(words));
	words[0] = handle;
	words[1] = stage;
	words[2] = length;
	words[3] = 300 + length / 4;
	memcpy(&words[5], text, length);
	vram_put(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, 5 + (length + 3) / 4, words);
}

void vram_pipeline(struct vram *v)
{
	const uint32_t one = bits(1), half = bits(32);
	const struct renderer_resource_desc target = {.target = PIPE_TEXTURE_2D,
						    .format = VIRGL_FORMAT_B8G8R8A8_UNORM,
						    .bind = 2,
						    .width = 64,
						    .height = 64,
						    .depth = 1,
						    .array_size = 1},
					    vertices = {.target = PIPE_BUFFER,
						    .format = VIRGL_FORMAT_R8_UNORM,
						    .bind = 1 << 4,
						    .width = 4096,
						    .height = 1,
						    .depth = 1,
						    .array_size = 1};

	MUST(vram_resource(v, 1, &target) == 0);
	MUST(vram_resource(v, 2, &vertices) == 0);
	PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SURFACE, 1, 1, VIRGL_FORMAT_B8G8R8A8_UNORM, 0, 0);
	PUT(v, VIRGL_SET_FRAMEBUFFER_STATE, 0, 1, 0, 1);
	PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_BLEND, 2, 0, 0, 0xfu << 27, 0, 0, 0, 0, 0, 0, 0);
	PUT(v, VIRGL_BIND_OBJECT, VIRGL_OBJECT_BLEND, 2);
	PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_DSA, 3, 0, 0, 0, 0);
	PUT(v, VIRGL_BIND_OBJECT, VIRGL_OBJECT_DSA, 3);
	PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_RASTERIZER, 4, 2u | 1u << 29, one, 0, 0, one, 0, 0,
		0);
	PUT(v, VIRGL_BIND_OBJECT, VIRGL_OBJECT_RASTERIZER, 4);
	PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_VERTEX_ELEMENTS, 5, 0, 0, 0,
		VIRGL_FORMAT_R32G32B32A32_FLOAT);
	PUT(v, VIRGL_BIND_OBJECT, VIRGL_OBJECT_VERTEX_ELEMENTS, 5);
	PUT(v, VIRGL_SET_VERTEX_BUFFERS, 0, 16, 0, 2);
	PUT(v, VIRGL_SET_VIEWPORT_STATE, 0, 0, half, half, one, half, half, 0);
	vram_shader(v, 10, 0, 1, 0);
	vram_shader(v, 11, 1, 1, 0);
	PUT(v, VIRGL_BIND_SHADER, 0, 10, 0);
	PUT(v, VIRGL_BIND_SHADER, 0, 11, 1);
	vram_draw(v);
	MUST(vram_run(v) == 0);
}

void vram_draw(struct vram *v)
{
	PUT(v, VIRGL_DRAW_VBO, 0, 0, 3, 4, 0, 1, 0, 0, 0, 0, 0, UINT32_MAX, 0);
}

static uint64_t resident(void)
{
	unsigned long all, pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	MUST(f);
	MUST(fscanf(f, "%lu %lu", &all, &pages) == 2);
	fclose(f);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

struct vram_cost vram_now(const struct vram *v)
{
	struct mallinfo2 info = mallinfo2();

	return (struct vram_cost){v->dev->vram_used, info.uordblks + info.hblkhd, resident()};
}
