/* SPDX-License-Identifier: Apache-2.0 */
/* The node's ledger, made anew from what keepers and hooks said whenever it is needed. */
#include "control/memory_private.h"

#include "base/checked.h"
#include "host/headroom.h"
#include "protocol/handover.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* NULL: it is no domain of libvirt's. */
static const char *domain_name(const struct vgpu *v)
{
	const char *label = vgpu_holder(v);
	size_t len = strlen(HANDOVER_LABEL);

	return !strncmp(label, HANDOVER_LABEL, len) && label[len] ? label + len : NULL;
}

const char *memory_vm_name(const struct vgpu *v)
{
	return domain_name(v) ?: vgpu_holder(v);
}

/* A domain is known by its name to the hook as well; a label of a process may be there twice. */
static void ledger_name(const struct vgpu *v, char ret[LEDGER_NAME_MAX])
{
	const char *domain = domain_name(v);

	if (domain)
		snprintf(ret, LEDGER_NAME_MAX, "%.*s", LEDGER_NAME_MAX - 1, domain);
	else
		snprintf(ret, LEDGER_NAME_MAX, "/%s", v->def.name); /* no name of a domain */
}

bool memory_has_vm(const struct vgpu *v)
{
	return v->have_status && v->status.binding_kind == KEEPER_BINDING_VM &&
	       v->status.memory.bytes && v->status.bound_to[0];
}

enum ledger_kind memory_kind(const struct vgpu *v)
{
	static const enum ledger_kind kinds[METHOD_COUNT] = {
		[METHOD_EMULATE] = LEDGER_VGPU,
		[METHOD_FORWARD] = LEDGER_VGPU,
		[METHOD_MEDIATE] = LEDGER_MEDIATED,
		[METHOD_PASSTHROUGH] = LEDGER_PASSTHROUGH,
	};
	return kinds[v->def.method];
}

static void ledger_measure(const struct vgpud *d, struct ledger_node *ret)
{
	char groups[SYSFS_PATH_MAX];

	snprintf(groups, sizeof(groups), "%s/fs/cgroup", d->roots.sys);
	*ret = (struct ledger_node){.physical = host_memory_total(d->roots.proc),
		.available = host_headroom(d->roots.proc, groups),
		.keep_free = d->config.min_free_mib << 20};
	if (ret->available > ret->physical)
		ret->available = ret->physical;
}

static int ledger_put_vgpu(struct ledger *ledger, const struct vgpu *v)
{
	const struct keeper_memory_status *s = &v->status.memory;
	bool granted = s->state == KEEPER_MEMORY_LOCKING ||
		       (s->state == KEEPER_MEMORY_ASKING && v->memory_answered == s->serial);
	struct ledger_entry entry = {.kind = LEDGER_VGPU,
		.reserves = granted || s->state == KEEPER_MEMORY_LOCKED,
		.bytes = s->bytes,
		.missing = granted ? s->missing : 0};

	ledger_name(v, entry.name);
	return ledger_put(ledger, &entry);
}

/* What the domain of that name has pinned by a vGPU whose hardware it has open. */
static uint64_t pinned_by_domain(const struct vgpud *d, const char *domain)
{
	for (const struct vgpu *v = d->vgpus; v; v = v->next) {
		const char *name = v->vm.pid ? domain_name(v) : NULL;
		if (name && !strcmp(name, domain))
			return v->vm.pinned;
	}
	return 0;
}

/*
 * One that also holds a vGPU's memory is in the ledger by that, which is what was verified. What is
 * pinned is reserved, whatever was asked for: with a whole GPU that becomes all of it, and where
 * the definition says <locked/> all of QEMU's own as well.
 */
static int ledger_put_told(struct ledger *ledger, const struct vgpud *d, const struct memory_vm *vm)
{
	uint64_t held = pinned_by_domain(d, vm->name);
	bool asked = memory_is_overcommitted(d) && vm->kind != LEDGER_VM;
	bool pinned = vm->kind != LEDGER_VGPU && vm->stage == MEMORY_VM_RUNNING;
	bool all = held >= vm->bytes || (held && vm->kind == LEDGER_PASSTHROUGH);
	struct ledger_entry entry = {.kind = vm->kind,
		.reserves = asked || all,
		.bytes = MAX(vm->bytes, held),
		.missing = asked && !pinned ? vm->bytes : 0};

	memcpy(entry.name, vm->name, sizeof(entry.name));
	return ledger_find(ledger, vm->name) ? 0 : ledger_put(ledger, &entry);
}

/* VFIO has pinned it. What a hook said of it is the whole, which may not be mapped yet. */
static int ledger_put_direct(struct ledger *ledger, const struct vgpu *v)
{
	struct ledger_entry entry = {
		.kind = memory_kind(v), .reserves = true, .bytes = v->vm.pinned};

	ledger_name(v, entry.name);
	return ledger_find(ledger, entry.name) ? 0 : ledger_put(ledger, &entry);
}

int memory_ledger(const struct vgpud *d, struct ledger *ret)
{
	struct ledger_node node;
	int r = 0, code;

	ledger_measure(d, &node);
	ledger_init(ret, &node);
	for (const struct vgpu *v = d->vgpus; v; v = v->next) {
		code = memory_has_vm(v) ? ledger_put_vgpu(ret, v) : 0;
		r = r < 0 ? r : code;
	}
	for (const struct memory_vm *vm = d->memory ? d->memory->vms : NULL; vm; vm = vm->next) {
		code = ledger_put_told(ret, d, vm);
		r = r < 0 ? r : code;
	}
	for (const struct vgpu *v = d->vgpus; v; v = v->next) {
		code = v->vm.pid ? ledger_put_direct(ret, v) : 0;
		r = r < 0 ? r : code;
	}
	return r;
}

/* --- what a keeper is told --- */

static const uint32_t modes[MEMORY_SWITCH_COUNT] = {
	[MEMORY_OFF] = KEEPER_MEMORY_OPEN,
	[MEMORY_LOCKING] = KEEPER_MEMORY_TRY,
	[MEMORY_STARTING] = KEEPER_MEMORY_TRY,
	[MEMORY_ON] = KEEPER_MEMORY_MUST,
	[MEMORY_STOPPING] = KEEPER_MEMORY_MUST,
};

static void memory_answer(struct vgpu *v)
{
	const struct keeper_memory_status *s = &v->status.memory;
	struct keeper_memory_grant grant = {
		.serial = s->serial, .keep_free = v->d->config.min_free_mib << 20};
	char name[LEDGER_NAME_MAX];
	struct ledger ledger;
	struct error err = {0};

	ledger_name(v, name);
	int r = memory_ledger(v->d, &ledger);
	if (r < 0)
		error_set(&err, -r, "it cannot be added up with the others: %s (end a VM)",
			strerror(-r));
	else
		r = ledger_fits(&ledger, name, s->bytes, s->missing, "reserve it", &err);
	ledger_finish(&ledger);
	grant.ok = r == 0;
	if (r < 0)
		snprintf(grant.reason, sizeof(grant.reason), "%.*s", (int)sizeof(grant.reason) - 1,
			err.text);
	v->memory_answered = s->serial;
	link_request(v->link, KEEPER_CONTROL_MEMORY_GRANT, &grant, -1, NULL, NULL);
}

void memory_tell(struct vgpu *v)
{
	const struct node_memory *m = v->d->memory;
	const struct keeper_memory_status *s = &v->status.memory;

	if (!m || !v->link || !v->have_status)
		return;
	const struct keeper_memory set = {
		.mode = modes[m->state], .timeout_ms = v->d->config.lock_timeout_s * 1000};
	if (s->mode != set.mode)
		link_request(v->link, KEEPER_CONTROL_MEMORY, &set, -1, NULL, NULL);
	else if (s->state == KEEPER_MEMORY_ASKING && v->memory_answered != s->serial)
		memory_answer(v);
}
