/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the rules (control/rules.h) are told of a GPU whose vGPU a VM owns: its steps to vfio-pci
 * and back, who takes it, and whether its memory is empty. Slices tell who has them, and no more:
 * they change nothing of their GPU.
 */
#include "control/direct_private.h"

#include "control/gpu_rules.h"

#include <errno.h>
#include <string.h>

int direct_tell_rules(
	struct vgpu *v, enum rules_event event, const char *trouble, struct error *err)
{
	bool of_vms = event == RULES_BIND || event == RULES_LEAVE;
	struct rules_subject subject = {
		.vgpu = v->def.name, .method = v->def.method, .trouble = trouble};
	enum gpu_state phase;

	if (v->def.method != METHOD_PASSTHROUGH && !of_vms)
		return 0;
	if (event == RULES_BIND) {
		const struct direct *x = v->direct;
		const struct vgpu *other = vgpud_vm_has(v->d, x->seen_pid, x->domain, v);
		subject.holds = other ? other->def.name : NULL;
	}
	return gpu_tell(v->d, v->def.gpu, event, &subject, v->direct->what, &phase, err);
}

void direct_note(struct vgpu *v, enum rules_event event, const char *trouble)
{
	struct error err;

	if (direct_tell_rules(v, event, trouble, &err) < 0)
		log_warning("%s", err.text);
}

void direct_note_scrub(struct vgpu *v, const struct direct_scrub_report *scrub)
{
	enum rules_event event = !strcmp(scrub->verdict, "clean")     ? RULES_SCRUBBED
				 : !strcmp(scrub->verdict, "partial") ? RULES_SCRUB_PARTIAL
								      : RULES_SCRUB_FAILED;

	direct_note(v, event, NULL);
}

int direct_ask_remove(const struct vgpu *v, bool force, const char *what, struct error *err)
{
	const struct rules_subject subject = {.vgpu = v->def.name, .force = force};

	return gpu_ask(v->d, v->def.gpu, RULES_REMOVE, &subject, what, err);
}

bool direct_is_empty(const struct vgpu *v)
{
	const struct gpu *gpu = vgpud_find_gpu(v->d, v->def.gpu);

	return v->def.method != METHOD_PASSTHROUGH ||
	       (gpu && !gpu->left_by[0] && v->direct->released);
}

int direct_release(struct vgpud *d, const char *name, const char *what, struct error *err)
{
	const struct rules_subject subject = {0};
	enum gpu_state phase;
	struct vgpu *v = d->vgpus;

	const struct gpu *gpu = vgpud_find_gpu(d, name);
	if (!gpu)
		return error_set(err, ENOENT,
			"%s: there is no GPU of that name (see `vgpuctl gpu list`)", what);
	while (v && strcmp(v->def.gpu, name) != 0)
		v = v->next;
	/* What cannot be emptied then keeps its vGPU from being deleted, whoever left it. */
	bool kept = v && v->def.method == METHOD_PASSTHROUGH && !v->direct->released;
	const char *left_by = gpu->left_by[0] ? gpu->left_by : kept ? v->def.name : NULL;
	if (!left_by)
		return error_set(err, EALREADY,
			"%s: nobody's data is in its memory, as far as vgpud knows (there is "
			"nothing to do)",
			what);
	char whose[GPU_OWNER_MAX];
	snprintf(whose, sizeof(whose), "%s", left_by);
	int r = gpu_tell(d, name, RULES_OVERRIDE, &subject, what, &phase, err);
	if (r == 0 && phase == GPU_GIVING_BACK) /* its own driver has it already */
		r = gpu_tell(d, name, RULES_GIVEN_BACK, &subject, what, &phase, err);
	if (r < 0)
		return r;
	if (v && v->direct)
		v->direct->released = true;
	events_add(&d->events, "",
		"%s: released with what %s may have left in its memory, by an administrator's word",
		name, whose);
	return 0;
}
