/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The types of slices that a GPU offers, as one list.
 *
 * A driver tells little: how many can be made now, a name, and in words of its own what one has.
 * How many would fit on a GPU that is not used is told by some and else worked out. Names are made
 * of what the kernel calls a type, not of what people are told, because that stays the same when a
 * type is exhausted and its description is not shown any more.
 */
#include "base/checked.h"
#include "base/parse.h"
#include "host/plan_private.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define VENDOR_ID_NVIDIA 0x10de
#define MIB              (1u << 20)

const char *const slice_interface_names[SLICE_INTERFACE_COUNT] = {
	[SLICE_MDEV] = "mdev",
	[SLICE_VF] = "vf",
	[SLICE_NVIDIA] = "nvidia",
	[SLICE_XE] = "xe",
};

bool plan_is_nvidia_pf(const struct host_facts *f)
{
	return f->is_pci && f->pci.vendor == VENDOR_ID_NVIDIA && f->sriov.total_vfs &&
	       f->vendor.interface == VENDOR_NONE && !f->mdev.n_types;
}

enum slice_interface plan_interface(const struct host_facts *f)
{
	if (f->mdev.n_types)
		return SLICE_MDEV;
	if (f->vendor.interface == VENDOR_NVIDIA)
		return SLICE_NVIDIA;
	if (!f->sriov.total_vfs || plan_is_nvidia_pf(f))
		return SLICE_INTERFACE_COUNT;
	return f->vendor.interface == VENDOR_XE ? SLICE_XE : SLICE_VF;
}

/* --- VFs --- */

static bool is_taken(const struct plan_taken *taken, const char *address)
{
	for (size_t i = 0; i < taken->count; i++) {
		if (!strcmp(taken->list[i], address))
			return true;
	}
	return false;
}

/* Best is what nobody uses, then what was set aside for VMs, then what the host has. */
static unsigned rank(const struct sriov_vf *vf)
{
	return !vf->driver[0] ? 0 : iommu_driver_is_vfio(vf->driver) ? 1 : 2;
}

struct plan_vfs plan_count_vfs(
	const struct host_facts *f, const struct plan_taken *taken, uint32_t nvidia_type)
{
	struct plan_vfs ret = {0};

	for (size_t i = 0; i < f->sriov.n_vfs; i++) {
		const struct sriov_vf *vf = &f->sriov.vfs[i];
		bool offers = true;
		for (size_t k = 0; nvidia_type && k < f->vendor.n_types; k++) {
			const struct vendor_type *type = &f->vendor.types[k];
			if (type->id == nvidia_type)
				offers = type->on >> i & 1 && !f->vendor.current[i];
		}
		if (is_taken(taken, vf->address))
			ret.taken++;
		else if (vf->held)
			ret.held++;
		else if (vf->shares_group)
			ret.shared++;
		else if (offers) {
			ret.free++;
			if (!ret.best || rank(vf) < rank(ret.best))
				ret.best = vf;
		}
	}
	return ret;
}

/* --- what a driver tells in words --- */

/* The number that stands behind `key`; 0: there is none. */
static uint64_t number_after(const char *text, const char *key)
{
	const char *at = strstr(text, key);
	uint64_t number;

	if (!at)
		return 0;
	at += strlen(key);
	return parse_next(&at, 10, UINT32_MAX, &number) ? number : 0;
}

/* The number that stands before `words`; 0: there is none. */
static uint64_t number_before(const char *text, const char *words)
{
	const char *end = strstr(text, words), *at = end;
	uint64_t number;

	while (at && at > text && isdigit((unsigned char)at[-1]))
		at--;
	return at && at < end && parse_next(&at, 10, UINT32_MAX, &number) ? number : 0;
}

/* "num_heads=4, frl_config=60, framebuffer=4096M, ..."; "virtual display, 16 MB video memory" */
static uint64_t mdev_vram_mib(const char *description)
{
	uint64_t mib = number_after(description, "framebuffer=");

	return mib ? mib : number_before(description, " MB video memory");
}

/* NVIDIA's names end in GiB and a letter for the licence: "NVIDIA A40-8Q"; 0 is half of one. */
static uint64_t nvidia_vram_mib(const char *name)
{
	const char *last = strrchr(name, '-');
	uint64_t gib;

	if (!last || !isdigit((unsigned char)last[1]))
		return 0;
	last++;
	if (!parse_next(&last, 10, 4096, &gib) || !isupper((unsigned char)*last))
		return 0;
	return gib ? gib << 10 : 512;
}

/* --- the list --- */

/* Letters, digits, '-', '.': what may stand in the name of a type. */
static void make_name(const char *text, char *ret, size_t size)
{
	snprintf(ret, size, "%s", text);
	for (char *p = ret; *p; p++) {
		if ((unsigned char)*p > '~' || (!isalnum((unsigned char)*p) && *p != '.'))
			*p = '-';
	}
}

/* NULL: there is no room, or one of that name is there. */
static struct slice_type *add_type(
	struct slice_types *ret, enum slice_interface interface, const char *id, const char *name)
{
	struct slice_type *type = &ret->list[ret->count];

	if (ret->count == PLAN_TYPES_MAX) {
		ret->more = true;
		return NULL;
	}
	*type = (struct slice_type){.interface = interface};
	snprintf(type->id, sizeof(type->id), "%s", id);
	make_name(name, type->name, sizeof(type->name));
	for (size_t i = 0; i < ret->count; i++) {
		if (!strcmp(ret->list[i].name, type->name)) {
			ret->more = true;
			return NULL;
		}
	}
	ret->count++;
	return type;
}

static uint32_t count_devices(const struct mdev *mdev, const char *type)
{
	uint32_t n = 0;

	for (size_t i = 0; i < mdev->n_devices; i++)
		n += !strcmp(mdev->devices[i].type, type);
	return n;
}

/*
 * What all types share, as their memory shows it: what is left for the one that can use most of it,
 * and what devices have. 0: a type does not tell its memory.
 */
static uint64_t mdev_pool_mib(const struct mdev *mdev)
{
	uint64_t left = 0, used = 0, sum;

	for (size_t i = 0; i < mdev->n_types; i++) {
		uint64_t mib = mdev_vram_mib(mdev->types[i].description);
		if (!mib)
			return 0;
		left = MAX(left, mib * mdev->types[i].available);
		used += mib * count_devices(mdev, mdev->types[i].id);
	}
	return checked_add(left, used, &sum) ? sum : 0;
}

static void add_mdev_types(const struct mdev *mdev, struct slice_types *ret)
{
	uint64_t pool = mdev_pool_mib(mdev);

	ret->more |= mdev->more;
	for (size_t i = 0; i < mdev->n_types; i++) {
		const struct mdev_type *from = &mdev->types[i];
		struct slice_type *type = add_type(ret, SLICE_MDEV, from->id, from->id);
		if (!type)
			continue;
		bool words = from->description[0] != '\0';
		snprintf(type->description, sizeof(type->description), "%s%s%s", from->name,
			from->name[0] && words ? ": " : "", from->description);
		type->vram_mib = mdev_vram_mib(from->description);
		type->available = (uint32_t)MIN(from->available, UINT32_MAX);
		uint64_t most = number_after(from->description, "max_instance=");
		if (!most && pool)
			most = pool / type->vram_mib;
		most = MAX(most, (uint64_t)type->available + count_devices(mdev, from->id));
		type->max_instances = (uint32_t)MIN(most, UINT32_MAX);
	}
}

/* Of each VF's vGPU of that type. */
static uint32_t count_current(const struct host_facts *f, uint32_t id)
{
	uint32_t n = 0;

	for (size_t i = 0; i < f->sriov.n_vfs; i++)
		n += f->vendor.current[i] == id;
	return n;
}

static void add_nvidia_type(const struct host_facts *f, const struct plan_taken *taken, uint32_t id,
	const char *words, struct slice_types *ret)
{
	char name[32], text[16];

	snprintf(text, sizeof(text), "%u", id);
	snprintf(name, sizeof(name), "nvidia-%u", id);
	struct slice_type *type = add_type(ret, SLICE_NVIDIA, text, name);
	if (!type)
		return;
	snprintf(type->description, sizeof(type->description), "%s", words);
	type->vram_mib = nvidia_vram_mib(words);
	uint32_t have = count_current(f, id);
	type->available = words[0] ? plan_count_vfs(f, taken, id).free : 0;
	/* A VF says that one more can be made, not how many. */
	if (type->vram_mib && f->gpu.vram_mib) {
		uint64_t fit = f->gpu.vram_mib / type->vram_mib;
		type->available = (uint32_t)MIN(type->available, fit > have ? fit - have : 0);
	}
	type->max_instances = type->available + have;
}

/* Those that can be made, and those that were made until none can be any more. */
static void add_nvidia_types(
	const struct host_facts *f, const struct plan_taken *taken, struct slice_types *ret)
{
	ret->more |= f->vendor.more;
	for (size_t i = 0; i < f->vendor.n_types; i++)
		add_nvidia_type(f, taken, f->vendor.types[i].id, f->vendor.types[i].name, ret);
	for (size_t i = 0; i < f->sriov.n_vfs; i++) {
		uint32_t id = f->vendor.current[i];
		bool listed = !id;
		for (size_t k = 0; k < f->vendor.n_types; k++)
			listed |= f->vendor.types[k].id == id;
		for (size_t k = 0; k < i; k++)
			listed |= f->vendor.current[k] == id;
		if (!listed)
			add_nvidia_type(f, taken, id, "", ret);
	}
}

static void add_vf_type(const struct host_facts *f, const struct plan_taken *taken,
	enum slice_interface interface, struct slice_types *ret)
{
	const struct sriov *s = &f->sriov;
	struct slice_type *type = add_type(ret, interface, "vf", "vf");

	if (!type)
		return;
	uint64_t all = s->num_vfs                                 ? s->num_vfs
		       : f->use.vfs && f->use.vfs <= s->total_vfs ? f->use.vfs
								  : s->total_vfs;
	type->max_instances = (uint32_t)MIN(all, (uint64_t)SRIOV_VFS_MAX);
	type->available = s->num_vfs ? plan_count_vfs(f, taken, 0).free : type->max_instances;
	snprintf(type->description, sizeof(type->description), "one of %llu virtual functions",
		(unsigned long long)all);
	for (size_t i = 0; i < f->vendor.n_profiles && !type->vram_mib; i++) {
		const struct vendor_profile *profile = &f->vendor.profiles[i];
		if (profile->address[0] && strcmp(profile->function, "pf") != 0)
			type->vram_mib = profile->vram_quota_bytes / MIB;
	}
}

void plan_slice_types(
	const struct host_facts *facts, const struct plan_taken *taken, struct slice_types *ret)
{
	enum slice_interface interface = plan_interface(facts);

	*ret = (struct slice_types){0};
	if (interface == SLICE_MDEV)
		add_mdev_types(&facts->mdev, ret);
	else if (interface == SLICE_NVIDIA)
		add_nvidia_types(facts, taken, ret);
	else if (interface != SLICE_INTERFACE_COUNT)
		add_vf_type(facts, taken, interface, ret);
}
