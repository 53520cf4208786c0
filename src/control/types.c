/* SPDX-License-Identifier: Apache-2.0 */
#include "control/types.h"

#include "base/checked.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *const method_names[METHOD_COUNT] = {
	[METHOD_EMULATE] = "emulate",
	[METHOD_FORWARD] = "forward",
	[METHOD_MEDIATE] = "mediate",
	[METHOD_PASSTHROUGH] = "passthrough",
};

const char *const gpu_state_names[GPU_STATE_COUNT] = {
	[GPU_FREE] = "free",
	[GPU_SHARED] = "shared",
	[GPU_MIXED] = "shared",
	[GPU_MEDIATED] = "mediated",
	[GPU_PASSTHROUGH] = "passthrough",
	[GPU_TAKING] = "taking",
	[GPU_SCRUBBING] = "scrubbing",
	[GPU_GIVING_BACK] = "giving back",
	[GPU_UNSCRUBBED] = "unscrubbed",
	[GPU_FAULTED] = "faulted",
	[GPU_GONE] = "gone",
};

enum method method_from_name(const char *name)
{
	enum method m = 0;
	while (m < METHOD_COUNT && strcmp(method_names[m], name) != 0)
		m++;
	return m;
}

bool gpu_is_soft(const struct gpu *gpu)
{
	return !strcmp(gpu->kind, "soft");
}

int gpu_draws(const struct gpu *gpu, const char *what, struct error *err)
{
	if (gpu_is_soft(gpu) || gpu->render_node[0])
		return 0;
	return error_set(err, ENOTSUP,
		"%s: nothing can draw on %s: %s%s (see `vgpuctl gpu show %s`, or choose another "
		"GPU)",
		what, gpu->name,
		gpu->driver[0] ? "no render node comes with its driver " : "it has no driver",
		gpu->driver, gpu->name);
}

/* What a type of at most this much VRAM can show: its screens fit several times over. */
static const struct {
	uint64_t up_to_mib;
	uint32_t width, height, heads;
} screens[] = {
	{64, 1280, 1024, 1},
	{128, 1920, 1200, 1},
	{256, 2560, 1600, 2},
	{1024, 3840, 2160, 4},
	{UINT64_MAX, 7680, 4320, 4},
};

size_t types_ladder(const struct gpu *gpu, struct type *types, size_t max)
{
	size_t n = 0;

	for (uint64_t mib = TYPES_LEAST_MIB; mib <= gpu->vram_mib && n < max; mib *= 2) {
		struct type *type = &types[n++];
		unsigned row = 0;
		while (screens[row].up_to_mib < mib)
			row++;
		*type = (struct type){
			.vram_mib = mib,
			.max_instances = (uint32_t)MIN(gpu->vram_mib / mib, TYPES_INSTANCES),
			.max_width = screens[row].width,
			.max_height = screens[row].height,
			.heads = screens[row].heads,
			.hibernate_idle_s = TYPES_IDLE_NODE,
			.weight = SCHED_WEIGHT_DEFAULT,
		};
		snprintf(type->name, sizeof(type->name), "%.40s-%llu", gpu->name,
			(unsigned long long)mib);
		snprintf(type->gpu, sizeof(type->gpu), "%s", gpu->name);
	}
	return n;
}

bool types_whole(const struct gpu *gpu, struct type *ret)
{
	if (strcmp(gpu->kind, "pci") != 0)
		return false;
	*ret = (struct type){.kind = TYPE_WHOLE,
		.vram_mib = gpu->vram_mib,
		.max_instances = 1,
		.weight = SCHED_WEIGHT_DEFAULT};
	snprintf(ret->name, sizeof(ret->name), "%.40s-passthrough", gpu->name);
	snprintf(ret->gpu, sizeof(ret->gpu), "%s", gpu->name);
	return true;
}

enum method type_method(const struct type *type)
{
	static const enum method methods[] = {[TYPE_SHARE] = METHOD_COUNT,
		[TYPE_WHOLE] = METHOD_PASSTHROUGH,
		[TYPE_SLICE] = METHOD_MEDIATE};

	return methods[type->kind];
}

const struct type *types_default(const struct type *types, size_t n, const char *gpu)
{
	const struct type *best = NULL;

	/* The largest that is not above the default, else the smallest there is. */
	for (size_t i = 0; i < n; i++) {
		const struct type *t = &types[i];
		if (strcmp(t->gpu, gpu) != 0 || t->kind != TYPE_SHARE)
			continue;
		bool fits = t->vram_mib <= TYPES_DEFAULT_MIB;
		bool best_fits = best && best->vram_mib <= TYPES_DEFAULT_MIB;
		if (!best || (fits && !best_fits) ||
			(fits == best_fits && (fits ? t->vram_mib > best->vram_mib
						    : t->vram_mib < best->vram_mib)))
			best = t;
	}
	return best;
}

const struct type *types_only_slice(const struct type *types, size_t n, const char *gpu)
{
	const struct type *only = NULL;

	for (size_t i = 0; i < n; i++) {
		if (strcmp(types[i].gpu, gpu) != 0 || types[i].kind != TYPE_SLICE)
			continue;
		if (only)
			return NULL;
		only = &types[i];
	}
	return only;
}

const struct type *types_like(
	const struct type *types, size_t n, const char *gpu, const struct type *like)
{
	for (size_t i = 0; i < n; i++) {
		const struct type *t = &types[i];
		if (!strcmp(t->gpu, gpu) && t->kind == like->kind &&
			t->vram_mib == like->vram_mib && t->max_width == like->max_width &&
			t->max_height == like->max_height && t->heads == like->heads)
			return t;
	}
	return NULL;
}

uint32_t types_available(const struct gpu *gpu, const struct type *type, const struct gpu_use *use)
{
	uint64_t free_mib = gpu->vram_mib > use->vram_mib ? gpu->vram_mib - use->vram_mib : 0;
	if (type->kind == TYPE_SLICE)
		return use->vgpus > use->of_type && !gpu->mixed ? 0 : type->available;
	if (type->kind != TYPE_SHARE) {
		uint64_t more =
			type->max_instances > use->of_type ? type->max_instances - use->of_type : 0;
		return use->vgpus > use->of_type ? 0 : (uint32_t)more;
	}
	uint64_t room = MIN(free_mib / type->vram_mib,
		TYPES_INSTANCES > use->vgpus ? TYPES_INSTANCES - use->vgpus : 0);

	if (!gpu->mixed && use->type && strcmp(use->type, type->name) != 0)
		return 0;
	uint64_t left = type->max_instances > use->of_type ? type->max_instances - use->of_type : 0;
	return (uint32_t)MIN(room, left);
}

int types_method(const struct gpu *gpu, enum method method, const char *what, struct error *err)
{
	bool soft = gpu_is_soft(gpu);

	if (method == METHOD_EMULATE && !soft)
		return error_set(err, ENOTSUP,
			"%s: method emulate draws in software and would not use %s (choose "
			"--method forward, or a soft GPU)",
			what, gpu->name);
	if (soft && method == METHOD_MEDIATE)
		return error_set(err, ENOTSUP,
			"%s: %s is software and offers no slices of its own, which method mediate "
			"needs (choose --method forward, or a GPU on PCI)",
			what, gpu->name);
	if (soft && method == METHOD_PASSTHROUGH)
		return error_set(err, ENOTSUP,
			"%s: a vGPU of %s is a share of software, and method passthrough gives the "
			"whole of a device to one VM (choose --method forward, or a GPU on PCI)",
			what, gpu->name);
	if (method == METHOD_PASSTHROUGH && !gpu->pci_address[0])
		return error_set(err, ENOTSUP,
			"%s: %s is no PCI function, and VFIO gives away nothing else (choose "
			"forward)",
			what, gpu->name);
	return 0;
}

int types_offered(const struct gpu *gpu, enum method method, const char *what, struct error *err)
{
	if (method == METHOD_EMULATE || method == METHOD_FORWARD)
		return gpu_draws(gpu, what, err);
	return 0;
}

int types_fit(const struct gpu *gpu, const struct type *type, enum method method, const char *what,
	struct error *err)
{
	enum method needs = type_method(type);

	if (needs != METHOD_COUNT)
		return needs == method
			       ? 0
			       : error_set(err, EINVAL,
					 "%s: type %s is of method %s (choose --method %s)", what,
					 type->name, method_names[needs], method_names[needs]);
	if (method == METHOD_MEDIATE)
		return error_set(err, EINVAL,
			"%s: %s is no type of a slice, which method mediate needs (see `vgpuctl "
			"type list %s`)",
			what, type->name, gpu->name);
	if (method == METHOD_PASSTHROUGH)
		return error_set(err, EINVAL,
			"%s: type %s is a share of a GPU, and method passthrough gives the whole "
			"of %s to one VM (leave out --type)",
			what, type->name, gpu->name);
	return 0;
}

int types_room(const struct gpu *gpu, const struct type *type, const struct gpu_use *use,
	const char *what, struct error *err)
{
	if (types_available(gpu, type, use))
		return 0;
	return error_set(err, ENOSPC,
		"%s: %s has no room for another %s: %u vGPUs use %llu of its %llu MiB (delete one, "
		"or choose a smaller type on a free GPU)",
		what, gpu->name, type->name, use->vgpus, (unsigned long long)use->vram_mib,
		(unsigned long long)gpu->vram_mib);
}

bool name_valid(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > VGPU_NAME_LONGEST || !isalnum((unsigned char)name[0]))
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];
		if (c > 0x7e || (!isalnum(c) && !strchr("_.-", c)))
			return false;
	}
	return true;
}
