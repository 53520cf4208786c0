/* SPDX-License-Identifier: Apache-2.0 */
/* The rules over the GPUs of a vgpud: what they are told, what is on the disk, who has what. */
#include "base/checked.h"
#include "control/gpu_rules.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

/* A node with one GPU on PCI, and three vGPUs that are in no list yet. */
struct fixture {
	struct vgpud d;
	struct vgpu shared, other, whole;
	char folder[32], path[64];
};

static void vgpu_init(struct vgpu *v, struct vgpud *d, const char *name, enum method method)
{
	*v = (struct vgpu){.d = d, .def = {.method = method, .phase = PHASE_DEFINED}};
	snprintf(v->def.name, sizeof(v->def.name), "%s", name);
	snprintf(v->def.uuid, sizeof(v->def.uuid), "0-%s", name);
	snprintf(v->def.gpu, sizeof(v->def.gpu), "gpu-x");
	snprintf(v->def.type.name, sizeof(v->def.type.name), "t");
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct error err;

	assert_non_null(f);
	strcpy(f->folder, "/tmp/vgrXXXXXX");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->path, sizeof(f->path), "%s/db", f->folder);
	assert_int_equal(store_open(f->path, &f->d.store, &err), 0);
	f->d.n_gpus = 1;
	f->d.gpus[0] = (struct gpu){
		.name = "gpu-x", .kind = "pci", .pci_address = "0000:03:00.0", .vram_mib = 256};
	vgpu_init(&f->shared, &f->d, "s", METHOD_FORWARD);
	vgpu_init(&f->other, &f->d, "o", METHOD_FORWARD);
	vgpu_init(&f->whole, &f->d, "w", METHOD_PASSTHROUGH);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	static const char *const files[] = {"db", "db-wal", "db-shm"};
	struct fixture *f = *state;
	char path[64];

	store_close(f->d.store);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", f->folder, files[i]);
		unlink(path);
	}
	rmdir(f->folder);
	free(f);
	return 0;
}

static enum gpu_state tell(struct fixture *f, enum rules_event event, const char *vgpu)
{
	const struct rules_subject subject = {.vgpu = vgpu, .owner = "", .trouble = "no answer"};
	enum gpu_state phase;
	struct error err = {0};

	int r = gpu_tell(&f->d, "gpu-x", event, &subject, "x", &phase, &err);
	if (r < 0)
		fail_msg("%s: %s", rules_event_names[event], err.text);
	assert_int_equal(phase, f->d.gpus[0].phase);
	return gpu_state(&f->d, &f->d.gpus[0]);
}

static int refused(struct fixture *f, enum rules_event event)
{
	const struct rules_subject subject = {.vgpu = "w", .owner = "other"};
	enum gpu_state phase;
	struct error err;

	return gpu_tell(&f->d, "gpu-x", event, &subject, "x", &phase, &err);
}

/* What the next vgpud would read. */
static const char *on_disk(struct fixture *f)
{
	static struct gpu gpu;
	struct error err;

	gpu = (struct gpu){.name = "gpu-x"};
	assert_int_equal(gpu_rules_read(&f->d, &gpu, &err), 0);
	return gpu.left_by;
}

static void test_a_life_in_passthrough(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(gpu_state(&f->d, &f->d.gpus[0]), GPU_FREE);
	f->d.vgpus = &f->whole;
	assert_int_equal(gpu_state(&f->d, &f->d.gpus[0]), GPU_PASSTHROUGH);
	assert_int_equal(tell(f, RULES_TAKE, "w"), GPU_TAKING);
	assert_string_equal(on_disk(f), "");
	assert_int_equal(tell(f, RULES_TAKEN, "w"), GPU_PASSTHROUGH);
	assert_string_equal(on_disk(f), "w 0-w"); /* it has no tenant */
	assert_int_equal(tell(f, RULES_BIND, "w"), GPU_PASSTHROUGH);
	f->whole.vm.pid = 7;
	snprintf(f->whole.vm.label, sizeof(f->whole.vm.label), "QEMU[7]");
	assert_int_equal(refused(f, RULES_BIND), -EBUSY);
	assert_int_equal(refused(f, RULES_SCRUB), -EBUSY);
	assert_int_equal(refused(f, RULES_GIVE_BACK), -EBUSY);
	f->whole.vm.pid = 0;
	assert_int_equal(tell(f, RULES_LEAVE, "w"), GPU_PASSTHROUGH);
	assert_int_equal(refused(f, RULES_GIVE_BACK), -EBUSY); /* rule 5 */
	assert_int_equal(tell(f, RULES_SCRUB, NULL), GPU_SCRUBBING);
	assert_int_equal(refused(f, RULES_ADD_SHARE), -EBUSY);
	assert_int_equal(tell(f, RULES_SCRUBBED, NULL), GPU_PASSTHROUGH);
	assert_string_equal(on_disk(f), "");
	assert_int_equal(tell(f, RULES_GIVE_BACK, NULL), GPU_GIVING_BACK);
	assert_int_equal(tell(f, RULES_STUCK, NULL), GPU_FAULTED);
	assert_string_equal(f->d.gpus[0].trouble, "no answer");
	assert_int_equal(tell(f, RULES_GIVE_BACK, NULL), GPU_GIVING_BACK);
	f->d.vgpus = NULL;
	assert_int_equal(tell(f, RULES_GIVEN_BACK, NULL), GPU_FREE);
}

static void test_what_could_not_be_zeroed(void **state)
{
	struct fixture *f = *state;
	struct rules_subject again = {.method = METHOD_PASSTHROUGH, .owner = "red"};
	struct error err;

	snprintf(f->whole.def.tenant, sizeof(f->whole.def.tenant), "red");
	f->d.vgpus = &f->whole;
	tell(f, RULES_TAKE, "w");
	tell(f, RULES_TAKEN, "w");
	tell(f, RULES_SCRUB, NULL);
	assert_int_equal(tell(f, RULES_SCRUB_PARTIAL, NULL), GPU_PASSTHROUGH);
	f->d.vgpus = NULL;
	assert_int_equal(gpu_state(&f->d, &f->d.gpus[0]), GPU_UNSCRUBBED);
	assert_string_equal(on_disk(f), "red");
	assert_int_equal(refused(f, RULES_ADD_PASSTHROUGH), -EBUSY);
	assert_int_equal(gpu_ask(&f->d, "gpu-x", RULES_ADD_PASSTHROUGH, &again, "x", &err), 0);
	assert_int_equal(tell(f, RULES_OVERRIDE, NULL), GPU_GIVING_BACK);
	assert_string_equal(on_disk(f), "");
	assert_int_equal(tell(f, RULES_GIVEN_BACK, NULL), GPU_FREE);
}

/* A file-size limit is a full disk to the database. */
static void test_a_full_disk_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, none;

	f->d.vgpus = &f->whole;
	tell(f, RULES_TAKE, "w");
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	none = (struct rlimit){.rlim_cur = 1, .rlim_max = old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	int r = refused(f, RULES_TAKEN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(f->d.gpus[0].phase, GPU_TAKING);
	assert_string_equal(f->d.gpus[0].left_by, "");
	assert_int_equal(tell(f, RULES_TAKEN, "w"), GPU_PASSTHROUGH);
}

static void test_one_that_nobody_knows_is_gone(void **state)
{
	struct fixture *f = *state;
	const struct rules_subject subject = {
		.vgpu = "s", .method = METHOD_FORWARD, .type = "t", .owner = ""};
	enum gpu_state phase;
	struct error err;

	snprintf(f->shared.def.gpu, sizeof(f->shared.def.gpu), "gpu-y");
	f->d.vgpus = &f->shared;
	assert_int_equal(gpu_ask(&f->d, "gpu-y", RULES_ADD_SHARE, &subject, "x", &err), -ENODEV);
	assert_int_equal(gpu_ask(&f->d, "gpu-y", RULES_REMOVE, &subject, "x", &err), 0);
	assert_int_equal(
		gpu_tell(&f->d, "gpu-y", RULES_REMOVE, &subject, "x", &phase, &err), -ENODEV);
	f->d.gpus[0].gone = true;
	assert_int_equal(gpu_state(&f->d, &f->d.gpus[0]), GPU_GONE);
}

static void bound(struct vgpu *v, enum keeper_binding_kind kind, uint32_t pid, const char *label)
{
	v->have_status = true;
	v->status.binding_kind = kind;
	v->status.binding_pid = pid;
	snprintf(v->status.bound_to, sizeof(v->status.bound_to), "%s", label);
}

/* Rule 1: a VM is known by its process, or by its domain. */
static void test_what_a_vm_has(void **state)
{
	struct fixture *f = *state;

	f->d.vgpus = &f->shared;
	f->shared.next = &f->other;
	f->other.next = &f->whole;
	bound(&f->shared, KEEPER_BINDING_VM, 41, "libvirt domain win");
	bound(&f->other, KEEPER_BINDING_PROCESS, 42, "glxgears[42] uid 0");
	f->whole.vm.pid = 43;
	snprintf(f->whole.vm.label, sizeof(f->whole.vm.label), "qemu[43]");

	assert_ptr_equal(vgpud_vm_has(&f->d, 41, NULL, NULL), &f->shared);
	assert_ptr_equal(vgpud_vm_has(&f->d, 43, NULL, NULL), &f->whole);
	assert_ptr_equal(vgpud_vm_has(&f->d, 0, "win", NULL), &f->shared);
	assert_null(vgpud_vm_has(&f->d, 0, "windows", NULL));
	assert_null(vgpud_vm_has(&f->d, 41, "win", &f->shared)); /* that one itself */
	assert_null(vgpud_vm_has(&f->d, 42, NULL, NULL));        /* no VM */
	assert_null(vgpud_vm_has(&f->d, 0, NULL, NULL));
	/* a keeper let in a VM that has a device */
	assert_null(vgpu_vm_has_device(&f->shared));
	bound(&f->other, KEEPER_BINDING_VM, 43, "qemu[43] uid 0");
	assert_ptr_equal(vgpu_vm_has_device(&f->other), &f->whole);
	snprintf(f->whole.vm.label, sizeof(f->whole.vm.label), "libvirt domain win");
	assert_ptr_equal(vgpu_vm_has_device(&f->shared), &f->whole);
	f->whole.vm.pid = 0;
	assert_null(vgpu_vm_has_device(&f->other));
	assert_null(vgpu_vm_has_device(&f->shared));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_life_in_passthrough, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_could_not_be_zeroed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_full_disk_changes_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_one_that_nobody_knows_is_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_a_vm_has, setup, teardown),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
