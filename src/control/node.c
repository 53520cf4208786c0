/* SPDX-License-Identifier: Apache-2.0 */
#include "control/vgpud.h"

#include "base/checked.h"
#include "control/direct.h"
#include "control/gpu_rules.h"
#include "control/slice_types.h"
#include "control/tenant.h"
#include "control/vgpu.h"
#include "host/headroom.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

const struct gpu *vgpud_find_gpu(const struct vgpud *d, const char *name)
{
	for (size_t i = 0; i < d->n_gpus; i++) {
		if (!d->gpus[i].gone && !strcmp(d->gpus[i].name, name))
			return &d->gpus[i];
	}
	return NULL;
}

const struct type *vgpud_find_type(const struct vgpud *d, const char *name)
{
	for (size_t i = 0; i < d->n_types; i++) {
		if (!strcmp(d->types[i].name, name))
			return &d->types[i];
	}
	return NULL;
}

struct vgpu *vgpud_find_vgpu(const struct vgpud *d, const char *name)
{
	for (struct vgpu *v = d->vgpus; v; v = v->next) {
		if (!strcmp(v->def.name, name))
			return v;
	}
	return NULL;
}

const struct type *vgpu_type_on(const struct vgpu *v, const char *gpu)
{
	if (!strcmp(v->def.gpu, gpu))
		return &v->def.type;
	if (!strcmp(v->def.moving_to, gpu))
		return types_like(v->d->types, v->d->n_types, gpu, &v->def.type);
	return NULL;
}

struct gpu_use vgpud_gpu_use(const struct vgpud *d, const char *gpu, const char *type)
{
	struct gpu_use use = {0};

	for (const struct vgpu *v = d->vgpus; v; v = v->next) {
		const struct type *as = vgpu_type_on(v, gpu);
		if (!as)
			continue;
		use.vgpus++;
		use.vram_mib += as->vram_mib;
		use.type = as->name;
		if (type && !strcmp(type, as->name))
			use.of_type++;
	}
	return use;
}

/* The type a request means; of a whole GPU there is one. */
static int request_type(struct vgpud *d, const struct vgpu_request *request, enum method method,
	const char *what, const struct type **ret, struct error *err)
{
	const char *carried = vgpud_gpu_use(d, request->gpu, NULL).type;
	const char *wanted = request->type ? request->type : carried;
	char whole[TYPES_NAME_MAX];

	snprintf(whole, sizeof(whole), "%.40s-passthrough", request->gpu);
	if (!request->type && method == METHOD_PASSTHROUGH)
		wanted = whole;
	if (!wanted && method == METHOD_MEDIATE)
		*ret = types_only_slice(d->types, d->n_types, request->gpu);
	else if (!wanted)
		*ret = types_default(d->types, d->n_types, request->gpu);
	else
		*ret = vgpud_find_type(d, wanted);
	if (!*ret && slice_types_pending(d, request->gpu))
		return error_set(err, EAGAIN,
			"%s: the driver of %s is being asked what slices it offers (try again)",
			what, request->gpu);
	if (!*ret && !wanted && method == METHOD_MEDIATE)
		return error_set(err, ENOENT,
			"%s: %s has several types of slices, or none (see `vgpuctl type list %s` "
			"and `vgpuctl gpu show %s`)",
			what, request->gpu, request->gpu, request->gpu);
	if (!*ret)
		return error_set(err, ENOENT,
			"%s: type '%.64s' does not exist (see `vgpuctl type list %s`)", what,
			wanted ? wanted : "default", request->gpu);
	if (strcmp((*ret)->gpu, request->gpu) != 0)
		return error_set(err, EINVAL,
			"%s: type %s is one of %s, not of %s (see `vgpuctl type list %s`)", what,
			(*ret)->name, (*ret)->gpu, request->gpu, request->gpu);
	return 0;
}

/*
 * The one asked for, or for which the type is; else what the GPU is kept for, or forward.
 * METHOD_COUNT: there is none.
 */
static enum method request_method(
	const struct vgpud *d, const struct vgpu_request *request, const struct gpu *gpu)
{
	const struct type *type = request->type ? vgpud_find_type(d, request->type) : NULL;

	if (request->method)
		return method_from_name(request->method);
	if (type && type_method(type) != METHOD_COUNT)
		return type_method(type);
	return gpu->kept ? gpu->mode : METHOD_FORWARD;
}

static int request_check(struct vgpud *d, const struct vgpu_request *request, const char *what,
	struct definition *ret, struct error *err)
{
	const struct type *type = NULL;
	struct error type_err;

	if (!name_valid(request->name))
		return error_set(err, EINVAL,
			"%s: this is no name for a vGPU (use up to %d letters, digits, '.', '_', "
			"'-', "
			"beginning with a letter or digit)",
			what, VGPU_NAME_LONGEST);
	if (strlen(d->run_dir) + strlen(request->name) + sizeof("/vgpus//vhost-user.sock") >
		sizeof(((struct sockaddr_un *)0)->sun_path))
		return error_set(err, ENAMETOOLONG,
			"%s: with the run directory its sockets' paths are too long (choose a "
			"shorter "
			"name)",
			what);
	if (vgpud_find_vgpu(d, request->name))
		return error_set(err, EEXIST,
			"%s: a vGPU of that name exists (choose another name, or delete it)", what);
	const struct gpu *gpu = vgpud_find_gpu(d, request->gpu);
	if (!gpu)
		return error_set(err, ENOENT,
			"%s: GPU '%.64s' does not exist (see `vgpuctl gpu list`)", what,
			request->gpu);
	enum method method = request_method(d, request, gpu);
	if (method == METHOD_COUNT)
		return error_set(err, EINVAL,
			"%s: method '%.32s' does not exist (choose forward, emulate, mediate or "
			"passthrough)",
			what, request->method);
	if (request->tenant && !name_valid(request->tenant))
		return error_set(err, EINVAL,
			"%s: this is no name for a tenant (use up to %d letters, digits, '.', '_', "
			"'-', beginning with a letter or digit)",
			what, VGPU_NAME_LONGEST);
	int r = types_method(gpu, method, what, err);
	int type_r = request_type(d, request, method, what, &type, &type_err);
	const struct rules_subject subject = {.vgpu = request->name,
		.method = method,
		.type = type_r == 0 ? type->name : vgpud_gpu_use(d, gpu->name, NULL).type,
		.owner = request->tenant ?: ""};
	if (r == 0)
		r = gpu_ask(d, gpu->name, rules_event_of_method(method), &subject, what, err);
	if (r == 0)
		r = types_offered(gpu, method, what, err);
	if (r < 0)
		return r;
	if (type_r < 0) {
		*err = type_err;
		return type_r;
	}
	r = types_fit(gpu, type, method, what, err);
	if (r < 0)
		return r;
	struct gpu_use use = vgpud_gpu_use(d, gpu->name, type->name);
	r = types_room(gpu, type, &use, what, err);
	*ret = (struct definition){.method = method, .phase = PHASE_CREATING, .type = *type};
	return r;
}

bool vgpud_has_memory(const struct vgpud *d, uint64_t *ret_mib)
{
	*ret_mib = host_headroom("/proc", "/sys/fs/cgroup") >> 20;
	return *ret_mib >= d->config.min_free_mib + VGPU_NEEDS_MIB;
}

/* Who comes last is refused, so that the kernel need not end who is there. */
static int admit_memory(const struct vgpud *d, const char *what, struct error *err)
{
	uint64_t mib;

	if (vgpud_has_memory(d, &mib))
		return 0;
	return error_set(err, ENOMEM,
		"%s: the node has %llu MiB of memory left, and %u for it and min_free_mib = %llu "
		"for the others would not fit (end something, delete or hibernate a vGPU, or lower "
		"min_free_mib)",
		what, (unsigned long long)mib, VGPU_NEEDS_MIB,
		(unsigned long long)d->config.min_free_mib);
}

/* Who may open the VFIO files: the one named, else who asks. */
static int request_owner(const struct vgpu_request *request, const char *what,
	struct plan_owner *ret, struct error *err)
{
	uid_t uid = request->owned ? request->owner_uid : request->asker_uid;

	if (uid != request->asker_uid && request->asker_uid != 0 && request->asker_uid != geteuid())
		return error_set(err, EPERM,
			"%s: hardware can be given to another user by root and vgpud's own user "
			"only (leave --owner out, or run it as root)",
			what);
	*ret = (struct plan_owner){.uid = uid,
		.gid = request->owned ? request->owner_gid : request->asker_gid,
		.mode = DIRECT_OWNER_MODE};
	return 0;
}

int vgpu_create(struct vgpud *d, const struct vgpu_request *request, vgpu_done done, void *data,
	struct error *err)
{
	struct definition def = {0};
	sd_id128_t id;
	char what[96], dir[VGPUD_PATH_MAX];

	snprintf(what, sizeof(what), "create '%.80s'", request->name);
	if (name_valid(request->name))
		snprintf(what, sizeof(what), "create %s", request->name);
	struct plan_owner owner;
	int r = request_check(d, request, what, &def, err);
	bool direct = method_is_direct(def.method);
	if (r == 0 && direct)
		r = request_owner(request, what, &owner, err);
	else if (r == 0)
		r = admit_memory(d, what, err);
	if (r < 0)
		return r;
	snprintf(dir, sizeof(dir), "%.79s/vgpus/%.63s", d->run_dir, request->name);
	if (link_keeper_runs(dir))
		return error_set(err, EBUSY,
			"%s: an unknown keeper serves under that name (end its process, or choose "
			"another name)",
			what);
	snprintf(def.name, sizeof(def.name), "%s", request->name);
	snprintf(def.gpu, sizeof(def.gpu), "%s", request->gpu);
	snprintf(def.tenant, sizeof(def.tenant), "%s", request->tenant ?: "");
	r = sd_id128_randomize(&id);
	if (r < 0)
		return error_set(err, -r, "%s: no UUID: %s (try again)", what, strerror(-r));
	sd_id128_to_uuid_string(id, def.uuid);
	if (def.tenant[0])
		r = tenant_name(d, def.tenant, request->asker_uid, what, err);
	if (r < 0)
		return r;
	return direct ? direct_create(d, &def, &owner, done, data, what, err)
		      : vgpu_begin(d, &def, done, data, what, err);
}
