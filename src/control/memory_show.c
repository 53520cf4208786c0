/* SPDX-License-Identifier: Apache-2.0 */
/* The node's memory as JSON. */
#include "control/memory_private.h"

#include "base/checked.h"

#include <stdlib.h>
#include <string.h>

static const char *const state_names[KEEPER_MEMORY_STATE_COUNT] = {
	[KEEPER_MEMORY_NONE] = "none",
	[KEEPER_MEMORY_FREE] = "free",
	[KEEPER_MEMORY_ASKING] = "asking",
	[KEEPER_MEMORY_LOCKING] = "locking",
	[KEEPER_MEMORY_LOCKED] = "locked",
	[KEEPER_MEMORY_REFUSED] = "refused",
};

static const char *const stage_names[] = {
	[MEMORY_VM_PREPARED] = "prepared",
	[MEMORY_VM_RUNNING] = "running",
};

/* What the switch does, and what it does not: for people, in `node show` as in the manual. */
static const struct {
	const char *rule, *text;
} rules[] = {
	{"on", "KSM merges equal pages of private anonymous memory that asked for it, as QEMU's "
	       "does "
	       "without memory-backend-memfd; a merged page is copied again when it is written"},
	{"shared memory", "is never merged: the memory of a VM with a vGPU (vhost-user) is shared, "
			  "so over-commit gains nothing from it"},
	{"rule 4",
		"while it is on, a vGPU serves a VM only when all of that VM's memory is resident "
		"and locked, verified on its pages; what is taken away later is put back, or the "
		"vGPU stops serving"},
	{"off", "KSM unmerges, which needs the memory it saved; nothing is locked, and nothing is "
		"refused for its memory"},
	{"limits", "a VM started outside of libvirt, or with no hook installed, is not known here "
		   "unless it holds a vGPU"},
};

static json_t *mib(uint64_t bytes)
{
	return json_integer((json_int_t)(bytes >> 20));
}

static json_t *number(uint64_t value)
{
	return value == KSM_UNSAID ? json_null() : json_integer((json_int_t)(value & INT64_MAX));
}

static json_t *text(const char *s)
{
	json_t *json = *s ? json_string(s) : json_null();

	return json ?: json_string("?"); /* a process may have any name */
}

static const char *state_name(uint32_t state)
{
	return state < KEEPER_MEMORY_STATE_COUNT ? state_names[state] : "none";
}

static json_t *show_holder(const struct vgpu *v)
{
	const struct keeper_memory_status *s = &v->status.memory;

	return json_pack("{s:o, s:s, s:s, s:o, s:o, s:s, s:o, s:I, s:o}", "vm",
		text(memory_vm_name(v)), "vgpu", v->def.name, "kind",
		ledger_kind_names[memory_kind(v)], "memory_mib", mib(s->bytes), "locked_mib",
		mib(s->locked), "state", state_name(s->state), "verified_ms",
		s->verified_ms ? number(s->verified_ms) : json_null(), "holes",
		(json_int_t)s->holes, "repaired_mib", mib(s->repaired));
}

/*
 * VFIO pins what it maps, and all of a VM's memory is mapped when it runs. What is pinned beyond
 * the memory that its definition gives it (<locked/>) is QEMU's own.
 */
static json_t *show_direct(const struct vgpu *v)
{
	const struct memory_vm *told = memory_vms_find(v->d->memory, memory_vm_name(v));
	uint64_t bytes = told ? told->bytes : v->vm.pinned;

	return json_pack("{s:o, s:s, s:s, s:o, s:o, s:s, s:n, s:i, s:i}", "vm",
		text(memory_vm_name(v)), "vgpu", v->def.name, "kind",
		ledger_kind_names[memory_kind(v)], "memory_mib", mib(bytes), "locked_mib",
		mib(MIN(v->vm.pinned, bytes)), "state", "pinned", "verified_ms", "holes", 0,
		"repaired_mib", 0);
}

static json_t *show_told(const struct memory_vm *vm)
{
	return json_pack("{s:o, s:n, s:s, s:o, s:i, s:s, s:n, s:i, s:i}", "vm", text(vm->name),
		"vgpu", "kind", ledger_kind_names[vm->kind], "memory_mib", mib(vm->bytes),
		"locked_mib", 0, "state", stage_names[vm->stage], "verified_ms", "holes", 0,
		"repaired_mib", 0);
}

static void show_vms(const struct vgpud *d, json_t *holders, json_t *others)
{
	for (const struct vgpu *v = d->vgpus; v; v = v->next) {
		if (memory_has_vm(v))
			json_array_append_new(holders, show_holder(v));
		else if (v->vm.pid)
			json_array_append_new(holders, show_direct(v));
	}
	for (const struct memory_vm *vm = d->memory->vms; vm; vm = vm->next) {
		bool shown = false;
		for (const struct vgpu *v = d->vgpus; v; v = v->next)
			shown |= (memory_has_vm(v) || v->vm.pid) &&
				 !strcmp(memory_vm_name(v), vm->name);
		if (!shown)
			json_array_append_new(others, show_told(vm));
	}
}

static json_t *show_ksm(const struct node_memory *m, const struct ksm *ksm)
{
	bool on = m->state == MEMORY_ON, running = ksm->code == 0 && ksm->run == KSM_RUNNING;
	json_t *json = json_pack("{s:b, s:b, s:b, s:o, s:b}", "present", ksm->code == 0, "running",
		running, "switched_by_vgpud", on && m->switched, "run_before",
		on ? number(m->before) : json_null(), "changed_by_hand",
		m->state == MEMORY_OFF ? running : on && !running);

	json_object_set_new(json, "run", number(ksm->run));
	json_object_set_new(json, "pages_shared", number(ksm->pages_shared));
	json_object_set_new(json, "pages_sharing", number(ksm->pages_sharing));
	json_object_set_new(json, "pages_unshared", number(ksm->pages_unshared));
	json_object_set_new(json, "pages_to_scan", number(ksm->pages_to_scan));
	json_object_set_new(json, "sleep_millisecs", number(ksm->sleep_millisecs));
	json_object_set_new(json, "merge_across_nodes", number(ksm->merge_across_nodes));
	return json;
}

json_t *memory_show(const struct vgpud *d)
{
	json_t *json = json_object(), *holders = json_array(), *others = json_array();
	json_t *list = json_array();
	struct ledger ledger;
	struct ksm ksm;

	(void)memory_ledger(d, &ledger);
	ksm_read(&d->roots, &ksm);
	json_object_set_new(json, "memory_mib", mib(ledger.node.physical));
	json_object_set_new(json, "available_mib", mib(ledger.node.available));
	json_object_set_new(json, "keep_free_mib", mib(ledger.node.keep_free));
	json_object_set_new(json, "reserved_mib", mib(ledger.reserved));
	json_object_set_new(json, "promised_mib", mib(ledger.missing));
	json_object_set_new(json, "known_vms_mib", mib(ledger.known));
	json_object_set_new(json, "overcommitted_mib", mib(ledger_overcommitted(&ledger)));
	json_object_set_new(json, "merged_mib", mib(ksm_saved_bytes(&ksm)));
	json_object_set_new(json, "overcommit", json_string(memory_switch_names[d->memory->state]));
	show_vms(d, holders, others);
	json_object_set_new(json, "vgpu_vms", holders);
	json_object_set_new(json, "vms", others);
	json_object_set_new(json, "ksm", show_ksm(d->memory, &ksm));
	for (size_t i = 0; i < sizeof(rules) / sizeof(*rules); i++)
		json_array_append_new(list,
			json_pack("{s:s, s:s}", "rule", rules[i].rule, "text", rules[i].text));
	json_object_set_new(json, "rules", list);
	ledger_finish(&ledger);
	return json;
}

void memory_show_vgpu(const struct vgpu *v, json_t *json)
{
	static const struct keeper_memory_status none;
	const struct keeper_memory_status *s = v->have_status ? &v->status.memory : &none;

	json_object_set_new(json, "vm_memory_mib", mib(s->bytes));
	json_object_set_new(json, "vm_memory_locked_mib", mib(s->locked));
	json_object_set_new(json, "vm_memory_state", json_string(state_name(s->state)));
	json_object_set_new(json, "memory_holes", number(s->holes));
	json_object_set_new(json, "vm_refusal", text(s->refusal));
}
