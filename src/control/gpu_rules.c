/* SPDX-License-Identifier: Apache-2.0 */
#include "control/gpu_rules.h"

#include "base/checked.h"
#include "control/standby.h"
#include "control/vgpu.h"
#include "protocol/handover.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* More are never on one GPU: what fits, and what moves there. */
#define VIEW_VGPUS (2 * TYPES_INSTANCES)

/* One GPU as the rules see it. It points into what it was made from. */
struct view {
	struct rules_gpu gpu;
	struct rules_vgpu vgpus[VIEW_VGPUS];
};

/* --- looking --- */

static struct gpu *find_place(const struct vgpud *d, const char *name)
{
	for (size_t i = 0; i < d->n_gpus; i++) {
		if (!strcmp(d->gpus[i].name, name))
			return (struct gpu *)&d->gpus[i];
	}
	return NULL;
}

/* What holds it, for people; NULL: nothing. */
static const char *vgpu_vm(const struct vgpu *v)
{
	if (v->vm.pid)
		return v->vm.label;
	return vgpu_bound(v) ? v->status.bound_to : NULL;
}

static void view_gpu(const struct vgpud *d, const char *name, struct view *ret)
{
	const struct gpu *gpu = find_place(d, name);

	ret->gpu = (struct rules_gpu){
		.name = name, .gone = true, .left_by = "", .trouble = "", .vgpus = ret->vgpus};
	if (gpu) {
		ret->gpu.phase = gpu->phase;
		ret->gpu.gone = gpu->gone;
		ret->gpu.mixed = gpu->mixed;
		ret->gpu.kept = gpu->kept;
		ret->gpu.mode = gpu->mode;
		ret->gpu.left_by = gpu->left_by;
		ret->gpu.trouble = gpu->trouble;
	}
	for (const struct vgpu *v = d->vgpus; v && ret->gpu.n_vgpus < VIEW_VGPUS; v = v->next) {
		const struct type *as = vgpu_type_on(v, name);
		if (as)
			ret->vgpus[ret->gpu.n_vgpus++] = (struct rules_vgpu){.name = v->def.name,
				.method = v->def.method,
				.type = as->name,
				.vm = vgpu_vm(v)};
	}
}

enum gpu_state gpu_state(const struct vgpud *d, const struct gpu *gpu)
{
	struct view view;

	view_gpu(d, gpu->name, &view);
	return rules_state(&view.gpu);
}

const char *gpu_method(const struct vgpud *d, const struct gpu *gpu)
{
	struct view view;

	view_gpu(d, gpu->name, &view);
	for (size_t i = 1; i < view.gpu.n_vgpus; i++) {
		if (view.vgpus[i].method != view.vgpus[0].method)
			return NULL;
	}
	return view.gpu.n_vgpus ? method_names[view.vgpus[0].method] : NULL;
}

const char *gpu_type(const struct vgpud *d, const struct gpu *gpu)
{
	struct view view;

	view_gpu(d, gpu->name, &view);
	if (!view.gpu.n_vgpus || rules_other_types(&view.gpu, view.vgpus[0].type))
		return NULL;
	return view.vgpus[0].type;
}

void gpu_owner(const struct definition *def, char ret[static GPU_OWNER_MAX])
{
	if (def->tenant[0])
		snprintf(ret, GPU_OWNER_MAX, "%s", def->tenant);
	else /* never a tenant's name, for it has a space in it */
		snprintf(ret, GPU_OWNER_MAX, "%s %s", def->name, def->uuid);
}

const struct vgpu *vgpud_vm_has(
	const struct vgpud *d, uint32_t pid, const char *domain, const struct vgpu *but)
{
	size_t prefix = strlen(HANDOVER_LABEL);

	for (const struct vgpu *v = d->vgpus; v; v = v->next) {
		const char *label = vgpu_vm(v);
		if (v == but || !label)
			continue;
		bool is_vm = v->vm.pid || v->status.binding_kind == KEEPER_BINDING_VM;
		uint32_t of = v->vm.pid ?: v->status.binding_pid;
		if (is_vm && pid && of == pid)
			return v;
		if (domain && !strncmp(label, HANDOVER_LABEL, prefix) &&
			!strcmp(label + prefix, domain))
			return v;
	}
	return NULL;
}

const struct vgpu *vgpu_vm_has_device(const struct vgpu *v)
{
	const struct keeper_status *status = &v->status;
	size_t prefix = strlen(HANDOVER_LABEL);

	if (!v->have_status || status->binding_kind != KEEPER_BINDING_VM)
		return NULL;
	bool libvirt = !strncmp(status->bound_to, HANDOVER_LABEL, prefix);
	const struct vgpu *other = vgpud_vm_has(v->d, libvirt ? 0 : status->binding_pid,
		libvirt ? status->bound_to + prefix : NULL, v);
	return other && other->vm.pid ? other : NULL;
}

/* --- asking and telling --- */

int gpu_ask(const struct vgpud *d, const char *gpu, enum rules_event event,
	const struct rules_subject *subject, const char *what, struct error *err)
{
	enum gpu_state phase;
	struct view view;

	view_gpu(d, gpu, &view);
	return rules_check(&view.gpu, event, subject, what, &phase, err);
}

/* From when it is another's until it is zeroed, or somebody takes the risk. */
static int set_left(struct vgpud *d, struct gpu *gpu, enum rules_event event,
	const struct rules_subject *subject, const char *what, struct error *err)
{
	const struct vgpu *v = subject->vgpu ? vgpud_find_vgpu(d, subject->vgpu) : NULL;
	char left_by[GPU_OWNER_MAX] = "";

	bool owned = v && v->def.method == METHOD_PASSTHROUGH;
	if (owned && (event == RULES_TAKEN || event == RULES_BIND))
		gpu_owner(&v->def, left_by);
	else if (event != RULES_SCRUBBED && event != RULES_OVERRIDE)
		return 0;
	if (!strcmp(gpu->left_by, left_by))
		return 0;
	int r = store_set_left(d->store, gpu->name, left_by, what, err);
	if (r == 0)
		memcpy(gpu->left_by, left_by, sizeof(gpu->left_by));
	return r;
}

int gpu_tell(struct vgpud *d, const char *name, enum rules_event event,
	const struct rules_subject *subject, const char *what, enum gpu_state *ret_phase,
	struct error *err)
{
	struct gpu *gpu = find_place(d, name);
	enum gpu_state phase;
	struct view view;

	view_gpu(d, name, &view);
	int r = rules_check(&view.gpu, event, subject, what, &phase, err);
	if (r < 0)
		return r;
	if (!gpu)
		return error_set(err, ENODEV,
			"%s: %s was never on this node (see `vgpuctl gpu list`)", what, name);
	r = set_left(d, gpu, event, subject, what, err);
	if (r < 0)
		return r;
	if (event == RULES_TAKE)
		standbys_unwant(d->standbys, gpu);
	gpu->phase = *ret_phase = phase;
	snprintf(gpu->trouble, sizeof(gpu->trouble), "%s",
		phase == GPU_FAULTED && subject->trouble ? subject->trouble : "");
	return 0;
}

/* --- the mode --- */

const char *gpu_mode_name(const struct gpu *gpu)
{
	return gpu->kept ? method_names[gpu->mode] : GPU_MODE_ANY;
}

/* METHOD_COUNT: any. False: there is no such mode. */
static bool mode_from_name(const char *name, enum method *ret)
{
	*ret = method_from_name(name);
	return *ret < METHOD_COUNT || !strcmp(name, GPU_MODE_ANY);
}

int gpu_rules_read(struct vgpud *d, struct gpu *gpu, struct error *err)
{
	struct store_gpu_rules rules;
	enum method method;
	int r = store_get_rules(d->store, gpu->name, &rules, err);

	if (r < 0)
		return r;
	memcpy(gpu->left_by, rules.left_by, sizeof(gpu->left_by));
	if (!mode_from_name(rules.mode, &method))
		return error_set(err, EINVAL,
			"%s: the database has a mode for it that no vgpud wrote (set it anew: "
			"vgpuctl gpu mode)",
			gpu->name);
	gpu->kept = method < METHOD_COUNT;
	gpu->mode = gpu->kept ? method : METHOD_EMULATE;
	return 0;
}

int gpu_rules_open(struct vgpud *d, struct error *err)
{
	for (size_t i = 0; i < d->n_gpus; i++) {
		int r = gpu_rules_read(d, &d->gpus[i], err);
		if (r == -EINVAL)
			log_warning("%s", err->text);
		else if (r < 0)
			return r;
	}
	return 0;
}

int vgpud_set_mode(struct vgpud *d, const char *name, const char *mode, struct error *err)
{
	struct gpu *gpu = vgpud_find_gpu(d, name) ? find_place(d, name) : NULL;
	struct rules_subject subject = {0};
	char what[96];

	if (!gpu)
		return error_set(err, ENOENT,
			"%.64s: there is no GPU of that name (see `vgpuctl gpu list`)", name);
	snprintf(what, sizeof(what), "gpu mode %s", gpu->name);
	if (!mode_from_name(mode, &subject.method))
		return error_set(err, EINVAL,
			"%s: mode '%.32s' does not exist (choose any, emulate, forward, mediate or "
			"passthrough)",
			what, mode);
	int r = subject.method < METHOD_COUNT ? types_method(gpu, subject.method, what, err) : 0;
	if (r == 0)
		r = gpu_ask(d, name, RULES_MODE, &subject, what, err);
	if (r == 0)
		r = store_set_mode(d->store, name, mode, what, err);
	if (r < 0)
		return r;
	gpu->kept = subject.method < METHOD_COUNT;
	gpu->mode = gpu->kept ? subject.method : METHOD_EMULATE;
	events_add(&d->events, "", "%s: kept for %s", name, gpu->kept ? mode : "any method");
	return 0;
}
