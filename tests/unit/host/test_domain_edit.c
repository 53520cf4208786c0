/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching to definitions as people have them (tests/golden/domain): the result is the one kept
 * there, attaching again changes nothing, nothing lacks then, and detaching gives back what was.
 * With VGPU_GOLDEN_WRITE=1 the results are written instead.
 */
#include "host/domain_edit.h"
#include "host/domain_tree.h"

#include "base/checked.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define WHAT "libvirt attach x"

static const struct domain_vgpu screen = {.name = "desk", .device = DOMAIN_VIDEO, .heads = 2},
				dotted = {.name = "a_b.c", .device = DOMAIN_VIDEO, .heads = 1},
				card = {.name = "card",
					.device = DOMAIN_PCI,
					.address = {"0000:03:00.0", "0000:03:00.1"},
					.n_addresses = 2},
				slice = {.name = "slice",
					.device = DOMAIN_MDEV,
					.locked = true,
					.address = {"4b20d080-1b54-4048-85b3-a6a62d165c01"},
					.n_addresses = 1};

static const struct {
	const char *file, *variant;
	const struct domain_vgpu *vgpu;
	bool keep_video;
	bool stays_shared; /* others need it: detaching leaves that */
} cases[] = {
	{"spice-qxl", "screen", &screen, false, false},
	{"spice-qxl", "second", &screen, true, false},
	{"virtio-video", "screen", &screen, false, false},
	{"hostdevs", "card", &card, false, false},
	{"hugepages", "dotted", &dotted, false, true},
	{"numa", "screen", &screen, false, false},
	{"commandline", "slice", &slice, false, false},
	{"compact", "screen", &screen, false, false},
};

static char *read_golden(const char *name, size_t *ret_size)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s.xml", GOLDEN, name);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	char *text = calloc(1, DOMAIN_TREE_MAX);
	assert_non_null(text);
	*ret_size = fread(text, 1, DOMAIN_TREE_MAX - 1, f);
	fclose(f);
	return text;
}

static void compare_golden(const char *name, const char *text)
{
	char path[512];
	size_t size;

	if (getenv("VGPU_GOLDEN_WRITE")) {
		snprintf(path, sizeof(path), "%s/%s.xml", GOLDEN, name);
		FILE *f = fopen(path, "we");
		assert_non_null(f);
		fputs(text, f);
		fclose(f);
		return;
	}
	char *wanted = read_golden(name, &size);
	assert_string_equal(text, wanted);
	free(wanted);
}

/* As it comes out when nothing is changed. */
static char *unchanged(const char *text, size_t size)
{
	struct domain_tree tree;
	struct error err;

	assert_int_equal(domain_tree_parse(text, size, "", &tree, &err), 0);
	char *same = domain_tree_text(&tree);
	domain_tree_finish(&tree);
	return same;
}

static struct domain_edit attach(
	const char *text, size_t size, const struct domain_vgpu *vgpu, bool keep_video)
{
	struct domain_edit edit;
	struct error err;

	if (domain_attach(text, size, vgpu, NULL, 0, keep_video, WHAT, &edit, &err) < 0)
		fail_msg("%s", err.text);
	return edit;
}

static unsigned lacking(const char *text, const struct domain_vgpu *vgpu)
{
	struct domain_findings findings;
	struct error err;
	unsigned n = 0;

	assert_int_equal(domain_check(text, strlen(text), vgpu, "", &findings, &err), 0);
	for (size_t i = 0; i < findings.count; i++)
		n += findings.list[i].missing;
	return n;
}

static void test_golden(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct domain_vgpu *vgpu = cases[i].vgpu;
		char name[128];
		size_t size;
		struct domain_edit back;
		struct error err;

		print_message("# %s, %s\n", cases[i].file, cases[i].variant);
		char *text = read_golden(cases[i].file, &size), *before = unchanged(text, size);
		assert_true(lacking(text, vgpu) > 0);

		struct domain_edit once = attach(text, size, vgpu, cases[i].keep_video);
		assert_true(once.changed && once.said.count);
		snprintf(name, sizeof(name), "%s.%s", cases[i].file, cases[i].variant);
		compare_golden(name, once.xml);
		assert_int_equal(lacking(once.xml, vgpu), 0);
		assert_true(domain_has_device(once.xml, strlen(once.xml), vgpu));

		struct domain_edit twice =
			attach(once.xml, strlen(once.xml), vgpu, cases[i].keep_video);
		assert_false(twice.changed);
		assert_string_equal(twice.xml, once.xml);

		assert_int_equal(
			domain_detach(once.xml, strlen(once.xml), vgpu->name, "", &back, &err), 0);
		assert_true(back.changed);
		if (!cases[i].stays_shared)
			assert_string_equal(back.xml, before);
		else
			assert_non_null(strstr(back.xml, "<access mode=\"shared\"/>"));
		assert_null(strstr(back.xml, "vgpu"));
		domain_edit_finish(&once);
		domain_edit_finish(&twice);
		domain_edit_finish(&back);
		free(before);
		free(text);
	}
}

#define SMALL(inside)                                                                              \
	"<domain type='kvm'><name>a</name><memory>1024</memory><os><type>hvm</type></os>" inside   \
	"</domain>"

static const struct {
	const char *xml;
	const struct domain_vgpu *vgpu;
	int code;
	const char *says;
} refusals[] = {
	{"<domain type='xen'><name>a</name></domain>", &screen, ENOTSUP, "'xen'"},
	{"<domain type='kvm'><os><type>exe</type></os></domain>", &screen, ENOTSUP, "'exe'"},
	{SMALL("<launchSecurity type='sev'/>"), &screen, ENOTSUP, "encrypted"},
	{SMALL("<devices><video><model type='virtio'/><alias name='ua-vgpu-other'/></video>"
	       "</devices>"),
		&screen, EBUSY, "the vGPU other already"},
	{SMALL("<devices><hostdev type='mdev'><alias name='ua-vgpu-_1_-o_d'/></hostdev></devices>"),
		&screen, EBUSY, "the vGPU o. already"},
	{SMALL("<devices><hostdev type='pci'><source><address bus='0x03' slot='0' function='1'/>"
	       "</source></hostdev></devices>"),
		&screen, EBUSY, "card (0000:03:00.1)"},
	{SMALL("<devices><hostdev type='pci'><source><address bus='3' slot='0x0' function='0x1'/>"
	       "</source></hostdev></devices>"),
		&card, EEXIST, "0000:03:00.1"},
	{SMALL("<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value="
	       "'vhost-user-vga,chardev=x'/></q:commandline>"),
		&screen, EBUSY, "vhost-user-vga,chardev=x"},
	{"<!DOCTYPE domain [<!ENTITY a 'b'>]><domain type='kvm'/>", &screen, EINVAL,
		"document type"},
	{"<domain type='kvm'><name>", &screen, EINVAL, "is no XML: line 1: "},
	{"<domain xmlns='urn:x' type='kvm'/>", &screen, EINVAL, "is no <domain>"},
	{"<network/>", &screen, EINVAL, "is no <domain>"},
	{"", &screen, EINVAL, "is no text"},
};

static void test_refusals(void **state)
{
	const struct domain_vgpu others[] = {card, slice};
	struct domain_edit edit;
	struct error err;

	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		err = (struct error){0};
		int r = domain_attach(refusals[i].xml, strlen(refusals[i].xml), refusals[i].vgpu,
			others, ARRAY_SIZE(others), false, WHAT, &edit, &err);
		assert_int_equal(r, -refusals[i].code);
		if (!strstr(err.text, refusals[i].says) || strncmp(err.text, WHAT ": ", 18) != 0 ||
			err.text[strlen(err.text) - 1] != ')')
			fail_msg("\"%s\" does not say \"%s\"", err.text, refusals[i].says);
		assert_null(edit.xml);
	}
}

static void test_bounds(void **state)
{
	struct domain_edit edit;
	struct error err;
	const size_t size = DOMAIN_TREE_MAX + 1, deep = 20000;
	char *text = malloc(size);

	assert_non_null(text);
	memset(text, ' ', size);
	assert_int_equal(
		domain_attach(text, size, &screen, NULL, 0, false, WHAT, &edit, &err), -E2BIG);
	for (size_t i = 0; i < deep; i++)
		memcpy(text + 3 * i, "<a>", 3);
	assert_int_equal(
		domain_attach(text, 3 * deep, &screen, NULL, 0, false, WHAT, &edit, &err), -EINVAL);
	memcpy(text, SMALL("<a\0/>"), sizeof(SMALL("<a\0/>")));
	assert_int_equal(domain_attach(text, sizeof(SMALL("<a\0/>")), &screen, NULL, 0, false, WHAT,
				 &edit, &err),
		-EINVAL);
	free(text);
}

/* A vGPU changes its kind, its heads; a second one does not come in by another door. */
static void test_changes(void **state)
{
	static const char plain[] =
		SMALL("<devices><video><model type='cirrus'/></video></devices>");
	struct domain_vgpu other = screen;
	struct domain_edit one, two, three;
	struct error err;

	one = attach(plain, strlen(plain), &screen, false);
	other.heads = 1;
	assert_int_equal(lacking(one.xml, &other), 1);
	two = attach(one.xml, strlen(one.xml), &other, false);
	assert_non_null(strstr(two.xml, "heads=\"1\""));
	assert_null(strstr(two.xml, "heads=\"2\""));
	assert_non_null(strstr(two.xml, "<model type=\"cirrus\"/>"));
	domain_edit_finish(&one);
	one = attach(two.xml, strlen(two.xml),
		&(struct domain_vgpu){.name = "desk",
			.device = DOMAIN_PCI,
			.address = {"0001:af:1f.7"},
			.n_addresses = 1},
		false);
	assert_non_null(strstr(one.xml,
		"<address domain=\"0x0001\" bus=\"0xaf\" slot=\"0x1f\" function=\"0x7\"/>"));
	assert_null(strstr(one.xml, "vhostuser"));
	assert_int_equal(domain_detach(one.xml, strlen(one.xml), "desk", "", &three, &err), 0);
	assert_null(strstr(three.xml, "memoryBacking"));
	assert_non_null(strstr(three.xml, "cirrus"));
	domain_edit_finish(&one);
	assert_int_equal(
		domain_detach(three.xml, strlen(three.xml), "desk", "x", &one, &err), -ENOENT);
	domain_edit_finish(&two);
	domain_edit_finish(&three);
}

/* What somebody did meanwhile stays. */
static void test_by_hand(void **state)
{
	static const char taken_out[] = SMALL(
		"<metadata><v:vgpu xmlns:v='urn:vgpud:domain:1' name='desk' backing='none' "
		"source='none' access='none'><v:replaced><video><model type='vga'/></video>"
		"</v:replaced></v:vgpu></metadata><memoryBacking><source type='file'/>"
		"<access mode='shared'/></memoryBacking><devices><video><model type='qxl'/></video>"
		"</devices>");
	struct domain_edit edit;
	struct error err;
	struct domain_vgpu other = screen;

	assert_int_equal(domain_detach(taken_out, strlen(taken_out), "desk", "", &edit, &err), 0);
	assert_non_null(strstr(edit.xml, "<source type=\"file\"/>"));
	assert_null(strstr(edit.xml, "access"));
	assert_null(strstr(edit.xml, "vga"));
	assert_null(strstr(edit.xml, "metadata"));
	domain_edit_finish(&edit);
	snprintf(other.name, sizeof(other.name), "new");
	edit = attach(taken_out, strlen(taken_out), &other, false);
	assert_non_null(strstr(edit.xml, "name=\"new\""));
	assert_null(strstr(edit.xml, "type=\"vga\""));
	assert_non_null(strstr(edit.xml, "type=\"qxl\""));
	domain_edit_finish(&edit);
}

static void test_look(void **state)
{
	static const char text[] = SMALL("<devices><video><driver name='vhostuser'/></video>"
					 "<hostdev><alias name='ua-vgpu-card'/></hostdev>"
					 "<hostdev><alias name='ua-vgpu-_1_card'/></hostdev>"
					 "<hostdev><alias name='ua-vgpu-'/></hostdev></devices>");
	struct domain_seen seen;
	struct error err;

	assert_int_equal(domain_look(text, strlen(text), "", &seen, &err), 0);
	assert_string_equal(seen.domain, "a");
	assert_int_equal(seen.n_names, 1);
	assert_string_equal(seen.names[0], "card");
	assert_true(seen.unnamed);
	assert_int_equal(lacking(text, &card), 2); /* no addresses, and a second vGPU */
}

static void test_aliases(void **state)
{
	static const struct {
		const char *name, *alias;
		unsigned index;
	} good[] = {{"desk", "ua-vgpu-desk", 0}, {"a_b-c", "ua-vgpu-a_b-c", 0},
		{"a_b.c", "ua-vgpu--a__b_dc", 0}, {"a__d.", "ua-vgpu--a____d_d", 0},
		{"1-x", "ua-vgpu-_7_1-x", 7}, {"1.x", "ua-vgpu-_99_-1_dx", 99}};
	static const char *const bad[] = {"", "ua-", "ua-vgpu", "ua-vgpu-", "ua-vgpu--",
		"ua-vgpu--ab", "ua-vgpu--a_", "ua-vgpu--a_x", "ua-vgpu-_0_a", "ua-vgpu-_01_a",
		"ua-vgpu-_100_a", "ua-vgpu-_1_", "ua-vgpu-_1a", "ua-vgpu-a.b", "ua-vgpu- a",
		"ua-vgpu-_ 1_a", "xua-vgpu-a"};
	char alias[DOMAIN_ALIAS_MAX], name[DOMAIN_ALIAS_NAME_MAX], longest[80];
	unsigned index;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_true(domain_alias_make(good[i].name, good[i].index, alias));
		assert_string_equal(alias, good[i].alias);
		assert_true(domain_alias_read(alias, name, &index));
		assert_string_equal(name, good[i].name);
		assert_int_equal(index, good[i].index);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (domain_alias_read(bad[i], name, &index))
			fail_msg("%s was taken as %s", bad[i], name);
	}
	memset(longest, '.', sizeof(longest));
	longest[0] = 'a';
	longest[DOMAIN_ALIAS_NAME_MAX - 1] = '\0';
	assert_true(domain_alias_make(longest, 99, alias));
	assert_true(domain_alias_read(alias, name, &index));
	longest[DOMAIN_ALIAS_NAME_MAX - 1] = '.';
	longest[DOMAIN_ALIAS_NAME_MAX] = '\0';
	assert_false(domain_alias_make(longest, 0, alias));
	assert_false(domain_alias_make("a b", 0, alias));
	assert_false(domain_alias_make("a", 100, alias));
}

static void test_by_name(void **state)
{
	static const char video[] =
		"<domain type='kvm'><name>Büro 1</name><os><type>hvm</type></os>"
		"<memoryBacking><source type='memfd'/><access mode='shared'/>"
		"</memoryBacking><devices><video><driver name='vhostuser'/>"
		"</video></devices></domain>";
	struct domain_vgpu named = screen;
	char name[DOMAIN_ALIAS_NAME_MAX];

	assert_true(domain_alias_by_domain("Büro 1", name));
	assert_string_equal(name, "B--ro-1");
	assert_true(domain_alias_by_domain("-a", name));
	assert_string_equal(name, "xa");
	assert_false(domain_alias_by_domain("", name));
	assert_false(domain_has_device(video, strlen(video), &screen));
	assert_int_equal(lacking(video, &screen), 2);
	snprintf(named.name, sizeof(named.name), "B--ro-1");
	assert_true(domain_has_device(video, strlen(video), &named));
	assert_int_equal(lacking(video, &named), 0);
	struct domain_edit edit = attach(video, strlen(video), &named, false);
	assert_true(edit.changed && strstr(edit.xml, "ua-vgpu-B--ro-1"));
	domain_edit_finish(&edit);
}

static void test_names_of_files(void **state)
{
	static const struct {
		const char *text, *name;
		size_t domain;
	} files[] = {{"desk-video0", NULL, 0}, {"desk-ua-vgpu-a", "a", 4},
		{"a-b-ua-vgpu--c_d", "c.", 3}, {"x-ua-vgpu-y-ua-vgpu-z", "z", 11},
		{"desk-ua-vgpu-", NULL, 0}, {"-ua-vgpu-a", "a", 0}, {"", NULL, 0}};
	char name[DOMAIN_ALIAS_NAME_MAX];
	size_t domain;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		bool found =
			domain_alias_in_file(files[i].text, strlen(files[i].text), name, &domain);
		assert_int_equal(found, files[i].name != NULL);
		if (!found)
			continue;
		assert_string_equal(name, files[i].name);
		assert_int_equal(domain, files[i].domain);
	}
	/* A name that could not be told apart is refused. */
	assert_false(domain_alias_make("a-ua-vgpu-b", 0, (char[DOMAIN_ALIAS_MAX]){0}));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_by_hand),
		cmocka_unit_test(test_look),
		cmocka_unit_test(test_aliases),
		cmocka_unit_test(test_by_name),
		cmocka_unit_test(test_names_of_files),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain_edit", tests, NULL, NULL);
}
