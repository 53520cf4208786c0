/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of a vGPU whose VM owns hardware: its state, what is not for it, how a VM gets it.
 */
#include "control/direct_private.h"

#include "base/checked.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

bool method_is_direct(enum method method)
{
	return method == METHOD_MEDIATE || method == METHOD_PASSTHROUGH;
}

static const char *const state_names[DIRECT_STATE_COUNT] = {
#define X(name, text) [DIRECT_##name] = text,
	DIRECT_STATES(X)
#undef X
};

const char *direct_state(const struct vgpu *v)
{
	if (v->def.phase == PHASE_CREATING)
		return v->stopping ? "stopping" : "creating";
	if (v->def.phase == PHASE_DELETING)
		return "deleting";
	return v->gpu_fault[0] ? "failed" : state_names[v->direct->state];
}

/* What each verb is not done for, and what to do instead. "{}": its name. */
static const struct {
	const char *verb, *instead;
} refusals[] = {
	{"move", "shut its VM down, delete it, and create one on the other GPU"},
	{"bind", "give it to a VM: vgpuctl qemu-args {}"},
	{"serve", "give it to a VM: vgpuctl qemu-args {}"},
	{"unbind", "shut its VM down"},
	{"screenshot", "look at the VM's own screen"},
};

int direct_refuse(const struct vgpu *v, const char *verb, struct error *err)
{
	const char *instead = "choose method forward or emulate for what shall be saved";
	size_t len = strcspn(verb, " ");

	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		if (len == strlen(refusals[i].verb) && !strncmp(verb, refusals[i].verb, len))
			instead = refusals[i].instead;
	}
	const char *mark = strstr(instead, "{}");
	return error_set(err, ENOTSUP,
		"%.*s %s: with method %s its VM owns the hardware, and vgpud sees nothing of what "
		"is done on it (%.*s%s)",
		(int)len, verb, v->def.name, method_names[v->def.method],
		mark ? (int)(mark - instead) : (int)strlen(instead), instead,
		mark ? v->def.name : "");
}

static const char *const operations[DIRECT_STATE_COUNT] = {
	[DIRECT_PLANNING] = "create",
	[DIRECT_APPLYING] = "create",
	[DIRECT_SCRUBBING] = "scrub",
	[DIRECT_LOOKING] = "delete",
	[DIRECT_RETIRING] = "delete",
	[DIRECT_UNDOING] = "delete",
};

const char *direct_operation(const struct vgpu *v, struct keeper_progress *ret)
{
	const struct direct *x = v->direct;

	*ret = (struct keeper_progress){
		.bytes = x->progress->bytes, .total_bytes = x->progress->total_bytes};
	snprintf(ret->step, sizeof(ret->step), "%.31s", x->progress->step);
	return operations[x->state];
}

static json_t *text_or_null(const char *s)
{
	json_t *json = *s ? json_string(s) : json_null();

	return json ? json : json_null();
}

void direct_render(const struct vgpu *v, json_t *json)
{
	const struct direct *x = v->direct;

	json_object_set_new(json, "device", text_or_null(x->stored.plan.device));
	json_object_set_new(json, "bound_to", text_or_null(v->vm.pid ? v->vm.label : ""));
	json_object_set_new(json, "bound_pid", v->vm.pid ? json_integer(v->vm.pid) : json_null());
	json_object_set_new(json, "bound_domain", text_or_null(x->domain));
	json_object_set_new(json, "owner_uid", json_integer(x->owner.uid));
	json_object_set_new(json, "owner_gid", json_integer(x->owner.gid));
	json_object_set_new(json, "vhost_user_socket", json_null());
	json_object_set_new(json, "vtest_socket", json_null());
	if (!x->scrub.done)
		return;
	json_object_set_new(json, "scrub",
		json_pack("{s:s, s:o, s:I, s:I, s:I}", "verdict", x->scrub.verdict, "text",
			text_or_null(x->scrub.text), "bytes", (json_int_t)x->scrub.bytes, "took_ms",
			(json_int_t)x->scrub.took_ms, "time_ms", (json_int_t)x->scrub.time_ms));
}

static void add_device(json_t *args, const char *device)
{
	json_array_append_new(args, json_string("-device"));
	json_array_append_new(args, json_string(device));
}

json_t *direct_qemu_args(const struct vgpu *v, struct error *err)
{
	const struct change_plan *plan = &v->direct->stored.plan;
	char device[CHANGE_SUBJECT_MAX + 64];

	if (!plan->device[0]) {
		error_set(err, EBUSY, "qemu-args %s: it is %s (wait for that)", v->def.name,
			direct_state(v));
		return NULL;
	}
	json_t *args = json_array();
	if (!pci_address_valid(plan->device)) {
		snprintf(device, sizeof(device), "vfio-pci,sysfsdev=/sys/bus/mdev/devices/%s",
			plan->device);
		add_device(args, device);
	}
	for (uint32_t i = 0; i < plan->count; i++) {
		if (plan->list[i].kind != CHANGE_VFIO)
			continue;
		snprintf(device, sizeof(device), "vfio-pci,host=%s", plan->list[i].subject);
		add_device(args, device);
	}
	/* A VF that stays with its vendor's driver. */
	if (!json_array_size(args)) {
		snprintf(device, sizeof(device), "vfio-pci,sysfsdev=/sys/bus/pci/devices/%s",
			plan->device);
		add_device(args, device);
	}
	return json_pack("{s:o, s:s}", "args", args, "note",
		"all of the guest's memory is locked while it runs: whoever starts QEMU needs that "
		"much as RLIMIT_MEMLOCK (ulimit -l), and the node that much free");
}
