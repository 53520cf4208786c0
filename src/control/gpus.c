/* SPDX-License-Identifier: Apache-2.0 */
#include "control/gpus.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "control/gpu_rules.h"
#include "control/slice_types.h"
#include "control/standby.h"
#include "control/vgpu.h"
#include "host/inventory.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- where it is read --- */

int gpus_set_root(struct vgpud *d, const char *root, struct error *err)
{
	static const char *const folders[] = {"/sys", "/proc", "/dev", "/lib/modules"};
	const char **places[] = {&d->roots.sys, &d->roots.proc, &d->roots.dev, &d->roots.modules};
	size_t room = strlen(root) + sizeof("/lib/modules");

	d->roots = host_roots_real;
	if (!root[0])
		return 0;
	d->root_paths = calloc(ARRAY_SIZE(folders), room);
	if (!d->root_paths)
		return error_set(err, ENOMEM, "vgpud: out of memory (free some)");
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		char *path = d->root_paths + i * room;
		snprintf(path, room, "%s%s", root, folders[i]);
		*places[i] = path;
	}
	return 0;
}

static bool is_configured(void *data, const char *name)
{
	return config_find_gpu(data, name) != NULL;
}

static void read_inventory(struct vgpud *d, struct host_inventory *ret)
{
	const struct host_wanted wanted = {.roots = d->roots,
		.soft_gpus = (unsigned)d->config.soft_gpus,
		.soft_vram_mib = d->config.soft_vram_mib,
		.configured = is_configured,
		.data = &d->config};

	host_inventory_read(ret, &wanted);
}

/* --- types --- */

/* Types of the config file, over the ladder's. */
static void add_config_types(struct vgpud *d, bool tell)
{
	for (size_t i = 0; i < d->config.n_types; i++) {
		struct type type = d->config.types[i];
		const struct gpu *gpu = vgpud_find_gpu(d, type.gpu);
		if (!gpu || type.vram_mib > gpu->vram_mib) {
			if (tell)
				log_warning("type %s is left out: %s", type.name,
					gpu ? "its GPU has less VRAM"
					    : "its GPU is not on this node");
			continue;
		}
		uint64_t fit = MIN(gpu->vram_mib / type.vram_mib, TYPES_INSTANCES);
		if (!type.max_instances || type.max_instances > fit)
			type.max_instances = (uint32_t)fit;
		const struct type *old = vgpud_find_type(d, type.name);
		if (old)
			d->types[old - d->types] = type;
		else if (d->n_types < TYPES_MAX)
			d->types[d->n_types++] = type;
	}
}

/* Of all GPUs that are there: shares of those that can draw, and those on PCI as a whole. */
static void make_types(struct vgpud *d, bool tell)
{
	d->n_types = 0;
	for (size_t i = 0; i < d->n_gpus; i++) {
		const struct gpu *gpu = &d->gpus[i];
		if (!gpu->gone && gpu_draws(gpu, "", NULL) == 0)
			d->n_types +=
				types_ladder(gpu, d->types + d->n_types, TYPES_MAX - d->n_types);
		if (!gpu->gone && d->n_types < TYPES_MAX && types_whole(gpu, &d->types[d->n_types]))
			d->n_types++;
		if (!gpu->gone)
			d->n_types += slice_types_get(
				d, gpu->name, d->types + d->n_types, TYPES_MAX - d->n_types);
	}
	add_config_types(d, tell);
}

void gpus_types_changed(struct vgpud *d)
{
	make_types(d, false);
}

/* --- GPUs --- */

/* What the kernel says of it, under what the configuration says. */
static void gpu_update(const struct vgpud *d, struct gpu *gpu, const struct host_gpu *host)
{
	const struct config_gpu *own = config_find_gpu(&d->config, host->name);

	static_assert(sizeof(gpu->driver) == sizeof(host->driver) &&
			      sizeof(gpu->pci_address) == sizeof(host->pci_address) &&
			      sizeof(gpu->render_node) == sizeof(host->render_node),
		"the same room on both sides");
	gpu->kind = host->kind;
	gpu->gone = false;
	gpu->vram_mib = own && own->vram_mib ? own->vram_mib : host->vram_mib;
	gpu->vram_told = host->vram_told || (own && own->vram_mib);
	gpu->slices = !gpu_is_soft(gpu) || (own && !strcmp(own->sharing, "slices"));
	gpu->mixed = own && own->mixed;
	gpu->standby =
		own && own->standby != CONFIG_STANDBY_NODE ? own->standby : d->config.standby;
	memcpy(gpu->driver, host->driver, sizeof(gpu->driver));
	memcpy(gpu->pci_address, host->pci_address, sizeof(gpu->pci_address));
	memcpy(gpu->render_node, host->render_node, sizeof(gpu->render_node));
}

static struct gpu *find_place(struct vgpud *d, const char *name)
{
	for (size_t i = 0; i < d->n_gpus; i++) {
		if (!strcmp(d->gpus[i].name, name))
			return &d->gpus[i];
	}
	return NULL;
}

/* A place for a GPU that was never here: at the end, or that of one that is gone and unused. */
static struct gpu *new_place(struct vgpud *d, const char *name)
{
	struct gpu *gpu = NULL;

	if (d->n_gpus < VGPUD_MAX_GPUS)
		gpu = &d->gpus[d->n_gpus++];
	for (size_t i = 0; !gpu && i < d->n_gpus; i++) {
		if (!d->gpus[i].gone || vgpud_gpu_use(d, d->gpus[i].name, NULL).vgpus)
			continue;
		gpu = &d->gpus[i];
		free(d->balances[i]);
		d->balances[i] = NULL;
		slice_thread_destroy(d->slicers[i]);
		d->slicers[i] = NULL;
	}
	if (gpu) {
		*gpu = (struct gpu){0};
		snprintf(gpu->name, sizeof(gpu->name), "%s", name);
	}
	return gpu;
}

void gpus_read(struct vgpud *d)
{
	static struct host_inventory inventory;

	read_inventory(d, &inventory);
	for (size_t i = 0; i < inventory.count; i++) {
		struct gpu *gpu = new_place(d, inventory.gpus[i].name);
		if (gpu)
			gpu_update(d, gpu, &inventory.gpus[i]);
	}
	if (inventory.more)
		log_warning("this node has more GPUs than the %d that are used", HOST_MAX_GPUS);
	make_types(d, true);
	for (size_t i = 0; i < d->config.n_gpus; i++) {
		const struct config_gpu *own = &d->config.gpus[i];
		const struct gpu *gpu = vgpud_find_gpu(d, own->name);
		if (!gpu)
			log_warning("[gpu %s] is not on this node", own->name);
		else if (!gpu_is_soft(gpu) && !strcmp(own->sharing, "cpu"))
			log_warning("[gpu %s] sharing = cpu: its time is not CPU time, so it is "
				    "shared in slices",
				own->name);
	}
}

/* --- what changed --- */

static const char *driver_name(const char *driver)
{
	return driver[0] ? driver : "none";
}

/* One GPU that is there; true: something is not as it was. */
static bool gpu_seen(struct vgpud *d, const struct host_gpu *host)
{
	struct gpu *gpu = find_place(d, host->name);
	struct error err;

	if (!gpu) {
		gpu = new_place(d, host->name);
		if (!gpu)
			return false;
		gpu_update(d, gpu, host);
		if (store_get_policy(d->store, gpu->name, &gpu->sched, &err) < 0 ||
			gpu_rules_read(d, gpu, &err) < 0)
			log_warning("%s", err.text);
		events_add(&d->events, "", "%s: a GPU came, its driver is %s", gpu->name,
			driver_name(gpu->driver));
		return true;
	}
	struct gpu was = *gpu;
	gpu_update(d, gpu, host);
	bool other_node = strcmp(was.render_node, gpu->render_node) != 0;
	if (strcmp(was.driver, gpu->driver) != 0 || other_node)
		standbys_unwant(d->standbys, gpu); /* they have the old one open */
	if (was.gone)
		events_add(&d->events, "", "%s: the GPU is back, its driver is %s", gpu->name,
			driver_name(gpu->driver));
	else if (strcmp(was.driver, gpu->driver) != 0)
		events_add(&d->events, "", "%s: its driver is %s, was %s", gpu->name,
			driver_name(gpu->driver), driver_name(was.driver));
	return was.gone || strcmp(was.driver, gpu->driver) != 0 || other_node ||
	       was.vram_mib != gpu->vram_mib;
}

static bool in_inventory(const struct host_inventory *inventory, const char *name)
{
	for (size_t i = 0; i < inventory->count; i++) {
		if (!strcmp(inventory->gpus[i].name, name))
			return true;
	}
	return false;
}

void gpu_left(struct vgpud *d, const char *name)
{
	const struct gpu *gpu = find_place(d, name);

	if (gpu && !vgpud_gpu_use(d, name, NULL).vgpus)
		standbys_unwant(d->standbys, gpu);
}

bool vgpu_gpu_usable(struct vgpu *v)
{
	const struct gpu *gpu = vgpud_find_gpu(v->d, v->def.gpu);

	v->gpu_fault[0] = '\0';
	if (!gpu)
		snprintf(v->gpu_fault, sizeof(v->gpu_fault), "its GPU %s is not on this node",
			v->def.gpu);
	else if (!v->direct && gpu_draws(gpu, "", NULL) < 0)
		snprintf(v->gpu_fault, sizeof(v->gpu_fault),
			"its GPU %s has no render node, its driver is %s", gpu->name,
			driver_name(gpu->driver));
	return !v->gpu_fault[0];
}

void gpus_check_vgpus(struct vgpud *d)
{
	for (struct vgpu *v = d->vgpus, *next; v; v = next) {
		bool was_usable = !v->gpu_fault[0];
		next = v->next;
		bool usable = vgpu_gpu_usable(v);
		if (was_usable && !usable)
			events_add(&d->events, v->def.name, "failed: %s", v->gpu_fault);
		if (was_usable || !usable)
			continue;
		events_add(&d->events, v->def.name, "its GPU %s can carry it again", v->def.gpu);
		v->failure[0] = '\0';
		vgpu_start(v); /* may free it */
	}
}

void gpus_rescan(struct vgpud *d)
{
	static struct host_inventory inventory;
	bool changed = false;

	read_inventory(d, &inventory);
	for (size_t i = 0; i < d->n_gpus; i++) {
		struct gpu *gpu = &d->gpus[i];
		if (gpu->gone || in_inventory(&inventory, gpu->name))
			continue;
		gpu->gone = changed = true;
		standbys_unwant(d->standbys, gpu);
		events_add(&d->events, "", "%s: the GPU is gone from this node", gpu->name);
	}
	for (size_t i = 0; i < inventory.count; i++)
		changed |= gpu_seen(d, &inventory.gpus[i]);
	slice_types_refresh(d, NULL);
	if (!changed)
		return;
	make_types(d, false);
	gpus_check_vgpus(d);
}
