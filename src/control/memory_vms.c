/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMs that libvirt's qemu hook told of. They are kept in RUN_DIR/node-vms.json, because libvirt
 * does not tell it twice; one that ended while no vgpud ran is left out when libvirt has no status
 * file of it any more.
 */
#include "control/memory_private.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "control/direct.h"
#include "host/domain_xml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VMS_FILE     "node-vms.json"
#define LIBVIRT_VMS  "/run/libvirt/qemu"
#define VMS_TEXT_MAX 160

/* --- the list --- */

struct memory_vm *memory_vms_find(const struct node_memory *m, const char *name)
{
	struct memory_vm *vm = m->vms;

	while (vm && strcmp(vm->name, name) != 0)
		vm = vm->next;
	return vm;
}

static void vms_drop(struct node_memory *m, const char *name)
{
	for (struct memory_vm **at = &m->vms; *at; at = &(*at)->next) {
		struct memory_vm *vm = *at;
		if (strcmp(vm->name, name) != 0)
			continue;
		*at = vm->next;
		free(vm);
		return;
	}
}

/* Takes the place of one of that name. 0, -EINVAL, -ENOSPC or -ENOMEM. */
static int vms_put(struct node_memory *m, const struct memory_vm *vm)
{
	struct memory_vm **at = &m->vms;
	size_t n = 0;

	for (const struct memory_vm *other = m->vms; other; other = other->next)
		n++;
	if (!vm->name[0] || vm->kind >= LEDGER_KIND_COUNT)
		return -EINVAL;
	if (n >= LEDGER_ENTRIES_MAX)
		return -ENOSPC;
	struct memory_vm *copy = malloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	vms_drop(m, vm->name);
	while (*at && strcmp((*at)->name, vm->name) < 0)
		at = &(*at)->next;
	*copy = *vm;
	copy->next = *at;
	*at = copy;
	return 0;
}

void memory_vms_finish(struct node_memory *m)
{
	while (m->vms)
		vms_drop(m, m->vms->name);
}

/* --- the file --- */

static void vms_path(const struct node_memory *m, const char *tail, char *ret, size_t size)
{
	snprintf(ret, size, "%s/" VMS_FILE "%s", m->d->run_dir, tail);
}

/* Without it the VMs that run are unknown to the next vgpud, no more. */
static void vms_write(const struct node_memory *m)
{
	char path[VGPUD_PATH_MAX], next[VGPUD_PATH_MAX];
	json_t *list = json_array();

	for (const struct memory_vm *vm = m->vms; vm; vm = vm->next) {
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:I, s:b}", "name", vm->name, "kind",
				      ledger_kind_names[vm->kind], "bytes", (json_int_t)vm->bytes,
				      "running", vm->stage == MEMORY_VM_RUNNING));
	}
	vms_path(m, "", path, sizeof(path));
	vms_path(m, ".new", next, sizeof(next));
	if (!list || json_dump_file(list, next, JSON_INDENT(1)) < 0 || rename(next, path) < 0)
		log_warning("%s cannot be written: %s", path, strerror(errno));
	json_decref(list);
}

static bool libvirt_has(const char *name)
{
	char path[sizeof(LIBVIRT_VMS) + LEDGER_NAME_MAX + 8];

	if (access(LIBVIRT_VMS, F_OK) < 0 || strchr(name, '/'))
		return true; /* it keeps them elsewhere */
	snprintf(path, sizeof(path), LIBVIRT_VMS "/%s.xml", name);
	return access(path, F_OK) == 0;
}

static void vms_read_one(struct node_memory *m, json_t *object)
{
	struct memory_vm vm = {0};
	const char *name, *kind;
	json_int_t bytes;
	int running;

	if (json_unpack(object, "{s:s, s:s, s:I, s:b}", "name", &name, "kind", &kind, "bytes",
		    &bytes, "running", &running) < 0 ||
		bytes <= 0 || strlen(name) >= sizeof(vm.name) || !libvirt_has(name))
		return;
	vm.kind = LEDGER_KIND_COUNT;
	for (size_t i = 0; i < LEDGER_KIND_COUNT; i++) {
		if (!strcmp(kind, ledger_kind_names[i]))
			vm.kind = (enum ledger_kind)i;
	}
	vm.bytes = (uint64_t)bytes;
	vm.stage = running ? MEMORY_VM_RUNNING : MEMORY_VM_PREPARED;
	memcpy(vm.name, name, strlen(name) + 1);
	(void)vms_put(m, &vm);
}

void memory_vms_read(struct node_memory *m)
{
	char path[VGPUD_PATH_MAX];
	json_t *object;
	size_t i;

	vms_path(m, "", path, sizeof(path));
	json_t *list = json_load_file(path, 0, NULL);
	json_array_foreach(list, i, object) vms_read_one(m, object);
	json_decref(list);
}

/* --- libvirt's hook --- */

static enum ledger_kind vm_kind(const struct domain_xml *domain)
{
	if (domain_xml_has_vhost_user_gpu(domain))
		return LEDGER_VGPU;
	if (domain_xml_hostdev(domain, DOMAIN_HOSTDEV_MDEV))
		return LEDGER_MEDIATED;
	return domain_xml_hostdev(domain, DOMAIN_HOSTDEV_PCI) ? LEDGER_PASSTHROUGH : LEDGER_VM;
}

/* What can be said before its memory is there; keepers verify the pages themselves. */
static int vm_admit(struct vgpud *d, const struct domain_xml *domain, struct error *err)
{
	char what[VMS_TEXT_MAX];
	enum ledger_kind kind = vm_kind(domain);
	struct ledger ledger;

	snprintf(what, sizeof(what), "start %.100s", domain->name);
	if (!memory_is_overcommitted(d) || kind == LEDGER_VM)
		return 0;
	if (kind == LEDGER_VGPU && !domain->shared)
		return error_set(err, EPERM,
			"%s: memory over-commit is on and its vGPU needs shared memory that can be "
			"locked (memoryBacking: source type='memfd', access mode='shared')",
			what);
	if (kind == LEDGER_MEDIATED && !domain->locked && !domain->hugepages)
		return error_set(err, EPERM,
			"%s: memory over-commit is on and its mediated device does not pin all of "
			"its memory (memoryBacking: locked, or vgpuctl node overcommit off)",
			what);
	(void)memory_ledger(d, &ledger);
	int r = ledger_reserve(&ledger, kind, domain->name, domain->memory_bytes, what, err);
	ledger_finish(&ledger);
	return r;
}

static int vm_prepare(struct vgpud *d, const struct domain_xml *domain, struct error *err)
{
	struct memory_vm vm = {.kind = vm_kind(domain), .bytes = domain->memory_bytes};

	int r = vm_admit(d, domain, err);
	if (r < 0) {
		events_add(&d->events, "", "refused: %s", err->text);
		return r;
	}
	memcpy(vm.name, domain->name, sizeof(vm.name));
	r = vms_put(d->memory, &vm);
	if (r < 0)
		return error_set(err, -r, "start %.100s: it cannot be noted: %s (end a VM)",
			domain->name, strerror(-r));
	vms_write(d->memory);
	return 0;
}

static int vm_running(struct vgpud *d, const struct domain_xml *domain, struct error *err)
{
	struct memory_vm *vm = memory_vms_find(d->memory, domain->name);
	struct memory_vm fresh = {
		.kind = vm_kind(domain), .stage = MEMORY_VM_RUNNING, .bytes = domain->memory_bytes};

	memcpy(fresh.name, domain->name, sizeof(fresh.name));
	if (vm)
		vm->stage = MEMORY_VM_RUNNING;
	else
		(void)vms_put(d->memory, &fresh); /* it runs: nothing is refused any more */
	vms_write(d->memory);
	return 0;
}

static int vm_gone(struct vgpud *d, const struct domain_xml *domain, struct error *err)
{
	vms_drop(d->memory, domain->name);
	vms_write(d->memory);
	return 0;
}

/* As https://libvirt.org/hooks.html names them; others change nothing. */
static const struct {
	const char *operation;
	int (*fn)(struct vgpud *d, const struct domain_xml *domain, struct error *err);
} vm_operations[] = {
	{"prepare", vm_prepare},
	{"migrate", vm_prepare},
	{"restore", vm_prepare},
	{"started", vm_running},
	{"reconnect", vm_running},
	{"attach", vm_running},
	{"release", vm_gone},
};

int memory_vm_event(struct vgpud *d, const struct memory_vm_event *event, struct error *err)
{
	struct domain_xml *domain = malloc(sizeof(*domain)); /* large */
	const char *why = "out of memory";
	int r = domain ? domain_xml_parse(event->xml, event->xml_size, domain, &why) : -ENOMEM;

	if (r < 0)
		error_set(err, -r,
			"hook: the definition of %.64s cannot be used: %s (see "
			"`virsh dumpxml`)",
			event->domain, why);
	else if (strcmp(domain->name, event->domain) != 0)
		r = error_set(err, EINVAL,
			"hook: the definition is of %.64s, not of %.64s (do not call it by hand)",
			domain->name, event->domain);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(vm_operations); i++) {
		if (!strcmp(event->operation, vm_operations[i].operation)) {
			r = vm_operations[i].fn(d, domain, err);
			break;
		}
	}
	free(domain);
	direct_look(d);
	return r;
}
