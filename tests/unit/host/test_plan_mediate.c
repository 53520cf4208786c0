/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slices as types and as plans: each row is a GPU (one of a few, changed in one respect), what is
 * asked of it, and the whole plan as text, or the refusal. Nothing is read.
 */
#include "host/plan.h"

#include "base/checked.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define UUID "11111111-2222-4333-8444-555555555555"
#define PF   "0000:41:00.0"

static struct host_facts *facts;
static struct slice_types *types;

static int set_up(void **state)
{
	facts = calloc(1, sizeof(*facts));
	types = calloc(1, sizeof(*types));
	return facts && types ? 0 : -1;
}

static int tear_down(void **state)
{
	free(facts);
	free(types);
	return 0;
}

/* --- GPUs --- */

/* On PCI, and all that VFIO needs is there. */
static void any_pci(unsigned vendor, const char *driver)
{
	*facts = (struct host_facts){.is_pci = true,
		.gpu = {.kind = "pci", .name = "gpu-41:00.0", .pci_address = PF},
		.use = {.root = true, .offered = 15},
		.pci = {.address = PF, .vendor = (uint16_t)vendor, .class = 0x030000},
		.iommu = {.active = true, .firmware = true, .remapping = IOMMU_REMAPPING_YES},
		.group = {.number = 7, .viable = true},
		.holders = {.complete = true},
		.vfio = {.loaded = true, .installed = true, .type1 = true}};
	snprintf(facts->pci.driver, sizeof(facts->pci.driver), "%s", driver);
}

static void add_vfs(unsigned n, const char *driver)
{
	struct sriov *s = &facts->sriov;

	s->num_vfs = s->n_vfs = n;
	for (unsigned i = 0; i < n; i++) {
		s->vfs[i] = (struct sriov_vf){.number = i};
		assert_int_equal(sriov_vf_address(s, PF, i, s->vfs[i].address), 0);
		snprintf(s->vfs[i].driver, sizeof(s->vfs[i].driver), "%s", driver);
	}
}

static void plain(void)
{
	any_pci(0x1002, "amdgpu");
	facts->sriov = (struct sriov){.total_vfs = 4, .autoprobe = true, .offset = 4, .stride = 1};
}

static void plain_enabled(void)
{
	plain();
	add_vfs(4, "");
	facts->sriov.autoprobe = false;
}

static void xe(void)
{
	any_pci(0x8086, "xe");
	facts->sriov = (struct sriov){.total_vfs = 7, .autoprobe = true, .offset = 1, .stride = 1};
	facts->vendor.interface = VENDOR_XE;
	for (unsigned i = 0; i < 8; i++) {
		struct vendor_profile *p = &facts->vendor.profiles[facts->vendor.n_profiles++];
		*p = (struct vendor_profile){.timed = true};
		snprintf(p->function, sizeof(p->function), i ? "vf%u" : "pf", i);
	}
}

static void xe_enabled(void)
{
	xe();
	add_vfs(2, "");
	for (unsigned i = 1; i < 3; i++) {
		struct vendor_profile *p = &facts->vendor.profiles[i];
		memcpy(p->address, facts->sriov.vfs[i - 1].address, sizeof(p->address));
		p->vram_quota_bytes = 5ull << 30;
	}
}

static void nvidia(void)
{
	any_pci(0x10de, "nvidia");
	facts->gpu.vram_mib = 141 << 10;
	facts->sriov = (struct sriov){.total_vfs = 16, .autoprobe = true, .offset = 4, .stride = 1};
	add_vfs(16, "nvidia");
	facts->vendor.interface = VENDOR_NVIDIA;
	for (size_t i = 0; i < 16; i++)
		vendor_parse_nvidia(
			"1414 : NVIDIA H200X-1-18C\n1428 : NVIDIA H200X-141C\n", i, &facts->vendor);
}

static void add_type(const char *id, const char *words, unsigned available)
{
	struct mdev_type *type = &facts->mdev.types[facts->mdev.n_types++];

	*type = (struct mdev_type){.available = available, .available_known = true};
	snprintf(type->id, sizeof(type->id), "%s", id);
	snprintf(type->description, sizeof(type->description), "%s", words);
	if (available)
		snprintf(type->parent, sizeof(type->parent), "mbochs");
}

static void add_device(const char *uuid, const char *type)
{
	struct mdev_device *device = &facts->mdev.devices[facts->mdev.n_devices++];

	snprintf(device->uuid, sizeof(device->uuid), "%s", uuid);
	snprintf(device->type, sizeof(device->type), "%s", type);
	snprintf(device->parent, sizeof(device->parent), "mbochs");
}

static void mbochs(void)
{
	*facts = (struct host_facts){.gpu = {.kind = "mdev", .name = "mdev-mbochs"},
		.use = {.root = true},
		.mdev = {.n_parents = 1},
		.group = {.number = -1},
		.holders = {.complete = true}};
	add_type("mbochs-large", "virtual display, 16 MB video memory", 3);
	add_type("mbochs-medium", "virtual display, 8 MB video memory", 6);
	add_type("mbochs-small", "virtual display, 4 MB video memory", 12);
	add_device("aaaaaaaa-2222-4333-8444-555555555555", "mbochs-large");
}

/* --- in one respect --- */

static void asks_two(void)
{
	facts->use.vfs = 2;
}

static void asks_nine(void)
{
	facts->use.vfs = 9;
}

static void no_offset(void)
{
	facts->sriov.offset = 0;
}

static void last_bus(void)
{
	facts->sriov.offset = 65000;
}

static void on_vfio(void)
{
	snprintf(facts->pci.driver, sizeof(facts->pci.driver), "vfio-pci");
	facts->vfio.sriov = true;
}

static void on_vfio_forbidden(void)
{
	on_vfio();
	facts->vfio.sriov = false;
}

static void undriven(void)
{
	facts->pci.driver[0] = '\0';
}

static void all_held(void)
{
	for (size_t i = 0; i < facts->sriov.n_vfs; i++)
		facts->sriov.vfs[i].held = true;
}

static void all_grouped(void)
{
	for (size_t i = 0; i < facts->sriov.n_vfs; i++)
		facts->sriov.vfs[i].shares_group = true;
}

static void none_seen(void)
{
	facts->sriov.n_vfs = 0;
}

/* The host's first, one set aside next, a free one last. */
static void of_all_kinds(void)
{
	snprintf(facts->sriov.vfs[0].driver, PCI_DRIVER_MAX, "amdgpu");
	snprintf(facts->sriov.vfs[1].driver, PCI_DRIVER_MAX, "xe-vfio-pci");
	facts->sriov.vfs[2].held = true;
	facts->sriov.n_vfs = 3;
}

static void timed_by_hand(void)
{
	facts->vendor.profiles[1].exec_quantum_ms = 20;
}

static void untimed(void)
{
	for (size_t i = 0; i < facts->vendor.n_profiles; i++)
		facts->vendor.profiles[i].timed = false;
}

static void none_enabled(void)
{
	facts->sriov.num_vfs = facts->sriov.n_vfs = 0;
	facts->vendor = (struct vendor){0};
}

static void no_manager(void)
{
	facts->vendor = (struct vendor){0};
}

/* The first two VFs are vGPUs, and no other can be of the small type. */
static void two_made(void)
{
	facts->vendor.current[0] = facts->vendor.current[1] = 1414;
	facts->vendor.in_use = 2;
	facts->vendor.types[0].on = 3;
	facts->vendor.types[0].vfs = 2;
	facts->vendor.types[1].on &= ~3ull;
}

static void all_made(void)
{
	for (size_t i = 0; i < 16; i++)
		facts->vendor.current[i] = 1414;
	facts->vendor.n_types = 0;
	facts->vendor.in_use = 16;
}

static void pool_used(void)
{
	for (size_t i = 0; i < facts->mdev.n_types; i++)
		facts->mdev.types[i].available = 0;
}

static void small_used(void)
{
	facts->mdev.types[2].available = 0;
	facts->mdev.types[2].parent[0] = '\0';
}

static void same_uuid(void)
{
	add_device(UUID, "mbochs-small");
}

static void not_root(void)
{
	facts->use.root = false;
}

static void gone(void)
{
	facts->vanished = true;
}

static void other_method(void)
{
	facts->use.vgpus = 2;
	facts->use.method = "forward";
}

#define ENABLE(pf, n) "autoprobe " pf " 1>0 *\nvfs " pf " 0>" n " *\n"
#define GROUP(a)      "owner " a " >1000:36:0660\n"
#define GIVEN(a)      GROUP(a) "cdev " a " >1000:36:0660\n"
#define VF(a)         "vfio " a " >vfio-pci\n" GIVEN(a)

static const struct {
	const char *name;
	void (*gpu)(void), (*change)(void);
	const char *type, *uuid;
	const char *taken[2];
	int code;
	const char *says; /* the plan, or part of the refusal */
} rows[] = {
	{"VFs are enabled all at once", plain, NULL, "vf", UUID, {NULL}, 0,
		ENABLE(PF, "4") VF("0000:41:00.4")},
	{"as many as configured", plain, asks_two, "vf", UUID, {NULL}, 0,
		ENABLE(PF, "2") VF("0000:41:00.4")},
	{"more than there are", plain, asks_nine, "vf", UUID, {NULL}, ERANGE,
		"it has at most 4 virtual functions"},
	{"VFs that are there stay", plain_enabled, NULL, "vf", UUID, {NULL}, 0,
		"autoprobe " PF " 0>0 *\nvfs " PF " 4>4 *\n" VF("0000:41:00.4")},
	{"another number than there are", plain_enabled, asks_two, "vf", UUID, {NULL}, EBUSY,
		"4 of its virtual functions are enabled, not 2, and the kernel changes"},
	{"the next that is free", plain_enabled, NULL, "vf", UUID, {"0000:41:00.4", "0000:41:00.5"},
		0, "autoprobe " PF " 0>0 *\nvfs " PF " 4>4 *\n" VF("0000:41:00.6")},
	{"one set aside before one of the host's", plain_enabled, of_all_kinds, "vf", UUID, {NULL},
		0,
		"autoprobe " PF " 0>0 *\nvfs " PF " 4>4 *\n"
		"vfio 0000:41:00.5 xe-vfio-pci>xe-vfio-pci\n" GROUP("0000:41:00.5")},
	{"one of the host's if need be", plain_enabled, of_all_kinds, "vf", UUID, {"0000:41:00.5"},
		0,
		"autoprobe " PF " 0>0 *\nvfs " PF " 4>4 *\n"
		"vfio 0000:41:00.4 amdgpu>vfio-pci\n" GIVEN("0000:41:00.4")},
	{"held by others", plain_enabled, all_held, "vf", UUID, {NULL}, EBUSY,
		"somebody has 4 of them open that vgpud did not give away (end that VM"},
	{"not alone in their groups", plain_enabled, all_grouped, "vf", UUID, {NULL}, ENOTSUP,
		"share IOMMU groups"},
	{"counted and not seen", plain_enabled, none_seen, "vf", UUID, {NULL}, EIO,
		"4 virtual functions are enabled, and sysfs shows none"},
	{"a place that nobody knows", plain, no_offset, "vf", UUID, {NULL}, ENOTSUP,
		"(write 4 to its sriov_numvfs first)"},
	{"behind the last bus", plain, last_bus, "vf", UUID, {NULL}, ENOTSUP, "no bus left"},
	{"its PF is with a VM", plain, on_vfio, "vf", UUID, {NULL}, ENOTSUP, "only with a token"},
	{"its PF is on vfio-pci", plain, on_vfio_forbidden, "vf", UUID, {NULL}, ENOTSUP,
		"enable_sriov=1"},
	{"its PF has no driver", plain, undriven, "vf", UUID, {NULL}, ENOENT,
		"virtual functions need its driver"},
	{"another type", plain, NULL, "nvidia-63", UUID, {NULL}, ENOENT,
		"it offers no type nvidia-63"},
	{"not root", plain, not_root, "vf", UUID, {NULL}, EPERM, "run vgpud as root"},
	{"gone", plain, gone, "vf", UUID, {NULL}, ENODEV, "no longer on this node"},
	{"forwarded", plain, other_method, "vf", UUID, {NULL}, EBUSY, "rule 2"},

	{"xe: its time is limited", xe, NULL, "vf", UUID, {NULL}, 0,
		ENABLE(PF, "7") "xe " PF "/vf1/exec_quantum_ms 0>5\n"
				"xe " PF "/vf1/preempt_timeout_us 0>5000\n" VF("0000:41:00.1")},
	{"xe: a limit set by hand stays", xe_enabled, timed_by_hand, "vf", UUID, {NULL}, 0,
		"autoprobe " PF " 1>1 *\nvfs " PF " 2>2 *\n"
		"xe " PF "/vf1/exec_quantum_ms 20>20\nxe " PF
		"/vf1/preempt_timeout_us 0>20000\n" VF("0000:41:00.1")},
	{"xe: no limits on this GPU", xe_enabled, untimed, "vf", UUID, {"0000:41:00.1"}, 0,
		"autoprobe " PF " 1>1 *\nvfs " PF " 2>2 *\n" VF("0000:41:00.2")},
	{"xe: each is a vGPU's", xe_enabled, NULL, "vf", UUID, {"0000:41:00.1", "0000:41:00.2"},
		ENOSPC, "each of its 2 virtual functions is a vGPU's"},

	{"NVIDIA: a number on a VF", nvidia, NULL, "1414", UUID, {NULL}, 0,
		"nvidia 0000:41:00.4 0>1414\n" GROUP("0000:41:00.4")},
	{"NVIDIA: not on one that has a type", nvidia, two_made, "1428", UUID, {NULL}, 0,
		"nvidia 0000:41:00.6 0>1428\n" GROUP("0000:41:00.6")},
	{"NVIDIA: nor on one that is taken", nvidia, two_made, "1428", UUID, {"0000:41:00.6"}, 0,
		"nvidia 0000:41:00.7 0>1428\n" GROUP("0000:41:00.7")},
	{"NVIDIA: only where it can be made", nvidia, two_made, "1414", UUID, {NULL}, ENOSPC,
		"type 1414 cannot be made on a free virtual function"},
	{"NVIDIA: no room for any", nvidia, all_made, "1414", UUID, {NULL}, ENOSPC,
		"no type can be made"},
	{"NVIDIA: VFs by its own program", nvidia, none_enabled, "1414", UUID, {NULL}, ENOTSUP,
		"sriov-manage -e " PF},
	{"NVIDIA: no manager", nvidia, no_manager, "1414", UUID, {NULL}, ENOTSUP,
		"its 16 virtual functions offer no types"},

	{"mdev", mbochs, NULL, "mbochs-small", UUID, {NULL}, 0,
		"mdev mbochs/mbochs-small/" UUID " 0>1\n" GIVEN(UUID)},
	{"mdev: as the kernel writes it", mbochs, NULL, "mbochs-large",
		"ABCDEFAB-2222-4333-8444-555555555555", {NULL}, 0,
		"mdev mbochs/mbochs-large/abcdefab-2222-4333-8444-555555555555 0>1\n" GIVEN(
			"abcdefab-2222-4333-8444-555555555555")},
	{"mdev: no UUID", mbochs, NULL, "mbochs-large", "11111111-2222", {NULL}, EINVAL,
		"11111111-2222 is no UUID"},
	{"mdev: one made by hand", mbochs, same_uuid, "mbochs-large", UUID, {NULL}, EEXIST,
		"of that UUID already, of type mbochs-small"},
	{"mdev: the pool is used up", mbochs, pool_used, "mbochs-large", UUID, {NULL}, ENOSPC,
		"no mediated device can be made any more"},
	{"mdev: this type is used up", mbochs, small_used, "mbochs-small", UUID, {NULL}, ENOSPC,
		"types may share one pool"},
	{"mdev: no such type", mbochs, NULL, "mbochs-huge", UUID, {NULL}, ENOENT,
		"it offers no type mbochs-huge"},
};

static void print_plan(const struct change_plan *plan, char *ret, size_t size)
{
	size_t len = 0;

	ret[0] = '\0';
	for (uint32_t i = 0; i < plan->count; i++) {
		const struct change *c = &plan->list[i];
		assert_true(change_valid(c));
		len += (size_t)snprintf(ret + len, size - len, "%s %s %s>%s%s\n",
			change_kind_word(c->kind), c->subject, c->before, c->after,
			c->shared ? " *" : "");
	}
}

static int ask(size_t i, struct change_plan *plan, struct error *err)
{
	static const struct plan_owner owner = {1000, 36, 0660};
	char list[2][PCI_ADDRESS_MAX];
	struct plan_taken taken = {.list = (const char(*)[PCI_ADDRESS_MAX])list};

	rows[i].gpu();
	if (rows[i].change)
		rows[i].change();
	for (; taken.count < 2 && rows[i].taken[taken.count]; taken.count++)
		snprintf(list[taken.count], PCI_ADDRESS_MAX, "%s", rows[i].taken[taken.count]);
	return plan_mediate(
		facts, rows[i].type, rows[i].uuid, &owner, &taken, "create a", plan, err);
}

static void test_plans(void **state)
{
	char text[1024];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct change_plan plan;
		struct error err = {0};
		int r = ask(i, &plan, &err);
		if (r != -rows[i].code)
			fail_msg("%s: %d: %s", rows[i].name, r, err.text);
		if (r == 0) {
			print_plan(&plan, text, sizeof(text));
			assert_string_equal(text, rows[i].says);
			assert_string_equal(plan.device, plan.list[plan.count - 1].subject);
			continue;
		}
		assert_int_equal(plan.count, 0);
		assert_int_equal(err.code, rows[i].code);
		assert_memory_equal(err.text, "create a: ", 10);
		assert_non_null(strchr(err.text, '('));
		if (!strstr(err.text, rows[i].says))
			fail_msg("%s", err.text);
	}
}

/* Each reason for a refusal is in the table above. */
static void test_all_refusals_seen(void **state)
{
	for (size_t i = 0; plan_mediate_refusal(i); i++) {
		const char *why = plan_mediate_refusal(i), *mark = strstr(why, "{}");
		bool seen = false;
		for (size_t k = 0; k < ARRAY_SIZE(rows) && !seen; k++) {
			struct change_plan plan;
			struct error err = {0};
			ask(k, &plan, &err);
			seen = strstr(err.text, mark ? mark + 2 : why) != NULL;
		}
		if (!seen)
			fail_msg("never seen: %s", why);
	}
}

/* --- types --- */

static void check_type(
	const char *name, const char *id, unsigned vram_mib, unsigned most, unsigned available)
{
	for (size_t i = 0; i < types->count; i++) {
		const struct slice_type *type = &types->list[i];
		if (strcmp(type->name, name) != 0)
			continue;
		assert_string_equal(type->id, id);
		assert_int_equal(type->vram_mib, vram_mib);
		assert_int_equal(type->max_instances, most);
		assert_int_equal(type->available, available);
		return;
	}
	fail_msg("no type %s", name);
}

static void test_mdev_types(void **state)
{
	const struct plan_taken none = {0};

	mbochs();
	plan_slice_types(facts, &none, types);
	assert_int_equal(types->count, 3);
	check_type("mbochs-large", "mbochs-large", 16, 4, 3);
	check_type("mbochs-medium", "mbochs-medium", 8, 8, 6);
	check_type("mbochs-small", "mbochs-small", 4, 16, 12);
	/* A driver that tells no memory, and one that tells all. */
	mbochs();
	add_type("mtty_1", "", 24);
	add_type("nvidia-63", "num_heads=4, frl_config=60, framebuffer=2048M, max_instance=8", 5);
	plan_slice_types(facts, &none, types);
	check_type("mtty-1", "mtty_1", 0, 24, 24);
	check_type("nvidia-63", "nvidia-63", 2048, 8, 5);
	check_type("mbochs-large", "mbochs-large", 16, 4, 3);
	/* Two that would have one name. */
	add_type("mtty-1", "", 24);
	plan_slice_types(facts, &none, types);
	assert_int_equal(types->count, 5);
	assert_true(types->more);
}

static void test_nvidia_types(void **state)
{
	const struct plan_taken none = {0};

	nvidia();
	plan_slice_types(facts, &none, types);
	assert_int_equal(types->count, 2);
	check_type("nvidia-1414", "1414", 18 << 10, 7, 7);
	check_type("nvidia-1428", "1428", 141 << 10, 1, 1);
	assert_string_equal(types->list[0].description, "NVIDIA H200X-1-18C");
	two_made();
	plan_slice_types(facts, &none, types);
	check_type("nvidia-1414", "1414", 18 << 10, 2, 0);
	/* No VF shows the type any more, and it stays. */
	all_made();
	plan_slice_types(facts, &none, types);
	assert_int_equal(types->count, 1);
	check_type("nvidia-1414", "1414", 0, 16, 0);
	/* What a name does not tell is not made up. */
	nvidia();
	facts->vendor.n_types = 0;
	vendor_parse_nvidia(
		"5 : odd\n6 : GRID M60-0B\n7 : x-99999999999Q\n8 : A-4\n9 : -", 0, &facts->vendor);
	plan_slice_types(facts, &none, types);
	check_type("nvidia-5", "5", 0, 1, 1);
	check_type("nvidia-6", "6", 512, 1, 1);
	check_type("nvidia-7", "7", 0, 1, 1);
	check_type("nvidia-8", "8", 0, 1, 1);
	check_type("nvidia-9", "9", 0, 1, 1);
}

static void test_vf_types(void **state)
{
	static const char two[2][PCI_ADDRESS_MAX] = {"0000:41:00.4", "0000:41:00.5"};
	const struct plan_taken none = {0}, taken = {two, 2};

	plain();
	plan_slice_types(facts, &none, types);
	assert_int_equal(types->count, 1);
	check_type("vf", "vf", 0, 4, 4);
	asks_two();
	plan_slice_types(facts, &none, types);
	check_type("vf", "vf", 0, 2, 2);
	plain_enabled();
	plan_slice_types(facts, &taken, types);
	check_type("vf", "vf", 0, 4, 2);
	xe_enabled();
	plan_slice_types(facts, &none, types);
	assert_int_equal(types->list[0].interface, SLICE_XE);
	check_type("vf", "vf", 5 << 10, 2, 2);
	any_pci(0x1002, "amdgpu");
	plan_slice_types(facts, &none, types);
	assert_int_equal(types->count, 0);
	nvidia();
	none_enabled();
	plan_slice_types(facts, &none, types);
	assert_int_equal(types->count, 0);
}

static void test_more_types_than_fit(void **state)
{
	const struct plan_taken none = {0};
	char name[32];

	nvidia();
	for (unsigned i = 0; i < VENDOR_TYPES_MAX + 3; i++) {
		snprintf(name, sizeof(name), "%u : NVIDIA X-1Q\n", 5000 + i);
		vendor_parse_nvidia(name, 3, &facts->vendor);
	}
	facts->vendor.current[0] = 9;
	plan_slice_types(facts, &none, types);
	assert_int_equal(types->count, PLAN_TYPES_MAX);
	assert_true(types->more);
}

/* Where VFs are, by the standard's sum. */
static void test_addresses(void **state)
{
	static const struct {
		const char *pf;
		unsigned offset, stride, number;
		int code;
		const char *says;
	} places[] = {
		{"0000:41:00.0", 4, 1, 0, 0, "0000:41:00.4"},
		{"0000:41:00.0", 4, 1, 10, 0, "0000:41:01.6"},
		{"0000:41:00.0", 256, 2, 1, 0, "0000:42:00.2"},
		{"0000:41:00.1", 1, 0, 0, 0, "0000:41:00.2"},
		{"10000:ff:1f.6", 1, 1, 0, 0, "10000:ff:1f.7"},
		{"0000:ff:1f.6", 1, 1, 1, -ERANGE, NULL},
		{"0000:00:02.0", 65535, 65535, 65535, -ERANGE, NULL},
		{"0000:41:00.0", 0, 1, 0, -ENODATA, NULL},
		{"0000:41:00.0", 4, 0, 1, -ENODATA, NULL},
		{"mbochs", 4, 1, 0, -ENODATA, NULL},
	};
	char address[PCI_ADDRESS_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		struct sriov s = {.offset = places[i].offset, .stride = places[i].stride};
		assert_int_equal(sriov_vf_address(&s, places[i].pf, places[i].number, address),
			places[i].code);
		if (places[i].says)
			assert_string_equal(address, places[i].says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_plans, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_all_refusals_seen, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_mdev_types, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_nvidia_types, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_vf_types, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_more_types_than_fit, set_up, tear_down),
		cmocka_unit_test(test_addresses),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
