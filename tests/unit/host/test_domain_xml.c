/* SPDX-License-Identifier: Apache-2.0 */
/* What a domain's definition says; and what no definition says is refused with a reason. */
#include "host/domain_xml.h"

#include "base/checked.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB (1ull << 20)

static struct domain_xml domain;

static int parse(const char *text)
{
	const char *why = NULL;
	int r = domain_xml_parse(text, strlen(text), &domain, &why);

	assert_true(r == 0 || (r < 0 && why));
	return r;
}

static const char *refused(const char *text)
{
	const char *why = NULL;

	assert_true(domain_xml_parse(text, strlen(text), &domain, &why) < 0);
	assert_non_null(why);
	return why;
}

#define SMALL(inside) "<domain type='kvm'><name>a</name><memory>1024</memory>" inside "</domain>"

static void test_whole(void **state)
{
	assert_int_equal(parse("<?xml version='1.0' encoding='UTF-8'?>\n<!-- by hand -->"
			       "<domain type='qemu' id='3'><name> win 11 </name>"
			       "<uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>"
			       "<maxMemory slots='16' unit='GiB'>4</maxMemory>"
			       "<memory unit='MiB'>2048</memory>"
			       "<currentMemory unit='KiB'>1048576</currentMemory>"
			       "<memoryBacking><hugepages><page size='2' unit='M'/></hugepages>"
			       "<nosharepages/><locked/><source type='memfd'/>"
			       "<access mode='shared'/><allocation mode='immediate'/>"
			       "</memoryBacking><devices>"
			       "<memballoon model='virtio' freePageReporting='on'/>"
			       "<video><driver name='vhostuser'/>"
			       "<model type='virtio' heads='2' primary='yes'/></video>"
			       "<video><model type='vga'/></video>"
			       "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
			       "<address domain='0x0000' bus='0x03' slot='0x00' function='0x1'/>"
			       "</source></hostdev>"
			       "<hostdev mode='subsystem' type='mdev' model='vfio-pci' "
			       "display='on'><source>"
			       "<address uuid='C2177883-F1BB-47F0-914D-32A22E3A8804'/>"
			       "</source></hostdev>"
			       "<hostdev mode='subsystem' type='usb'/></devices></domain>"),
		0);
	assert_string_equal(domain.name, "win 11");
	assert_string_equal(domain.type, "qemu");
	assert_string_equal(domain.uuid, "c7a5fdbd-edaf-9455-926a-d65c16db1809");
	assert_int_equal(domain.memory_bytes, 2048 * MIB);
	assert_int_equal(domain.current_bytes, 1024 * MIB);
	assert_int_equal(domain.max_bytes, 4096 * MIB);
	assert_true(domain.locked && domain.hugepages && domain.nosharepages && domain.shared &&
		    domain.immediate && domain.balloon && domain.reporting);
	assert_int_equal(domain.source, DOMAIN_MEMORY_MEMFD);
	assert_int_equal(domain.n_videos, 2);
	assert_true(domain_xml_has_vhost_user_gpu(&domain));
	assert_int_equal(domain.videos[0].heads, 2);
	assert_true(domain.videos[0].primary && !domain.videos[1].primary);
	assert_string_equal(domain.videos[1].model, "vga");
	assert_int_equal(domain.n_hostdevs, 3);
	assert_string_equal(
		domain_xml_hostdev(&domain, DOMAIN_HOSTDEV_PCI)->address, "0000:03:00.1");
	assert_string_equal(domain_xml_hostdev(&domain, DOMAIN_HOSTDEV_MDEV)->address,
		"c2177883-f1bb-47f0-914d-32a22e3a8804");
}

static void test_little(void **state)
{
	assert_int_equal(parse(SMALL("")), 0);
	assert_int_equal(domain.memory_bytes, MIB);
	assert_int_equal(domain.current_bytes, MIB);
	assert_int_equal(domain.max_bytes, MIB);
	assert_true(domain.balloon && !domain.locked && !domain.shared);
	assert_false(domain_xml_has_vhost_user_gpu(&domain));
	assert_null(domain_xml_hostdev(&domain, DOMAIN_HOSTDEV_PCI));
	assert_int_equal(parse(SMALL("<memory>9</memory><name>b</name>")), 0);
	assert_string_equal(domain.name, "a"); /* the first, as libvirt reads it */
	assert_int_equal(domain.memory_bytes, MIB);
	assert_int_equal(parse(SMALL("<devices><memballoon model='none'/></devices>")), 0);
	assert_false(domain.balloon);
}

static void test_numa_cells_share(void **state)
{
	assert_int_equal(parse(SMALL("<cpu><numa><cell memory='1' memAccess='shared'/>"
				     "<cell memory='1' memAccess='shared'/></numa></cpu>")),
		0);
	assert_true(domain.shared);
	assert_int_equal(parse(SMALL("<cpu><numa><cell memory='1' memAccess='shared'/>"
				     "<cell memory='1'/></numa></cpu>")),
		0);
	assert_false(domain.shared);
}

static void test_sizes(void **state)
{
	static const struct {
		const char *number, *unit;
		uint64_t bytes;
	} good[] = {{"1", NULL, 1024}, {"1", "", 1024}, {"1", "b", 1024}, {"1025", "bytes", 2048},
		{"3", "k", 3 << 10}, {"3", "KiB", 3 << 10}, {"1000", "KB", 1000448},
		{"2", "m", 2 * MIB}, {"1", "MB", 1000448}, {"1", "g", 1024 * MIB},
		{"1", "tib", MIB * MIB}, {"1", "P", 1024 * MIB * MIB}, {"7", "EiB", 7ull << 60},
		{"0", "E", 0}};
	static const char *const bad[][2] = {{"", ""}, {"x", ""}, {"-1", ""}, {"1", "q"},
		{"1", "kib "}, {"1", "kx"}, {"1", "i"}, {"1", "iB"}, {"8", "EiB"},
		{"9223372036854775807", "b"}, {"9223372036854775807", "KiB"},
		{"99999999999999999999", "b"}, {"1 2", ""}};
	uint64_t bytes;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_true(domain_xml_size(good[i].number, good[i].unit, &bytes));
		assert_int_equal(bytes, good[i].bytes);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(domain_xml_size(bad[i][0], bad[i][1], &bytes));
}

static void test_no_definition(void **state)
{
	static const char *const texts[] = {"", " ", "<domain", "<domain/>", "<network/>",
		"<domain><name>a</name></domain>", "<domain><memory>1</memory></domain>",
		"<domain><name>a</name><memory>none</memory></domain>",
		"<domain><name>a</name><memory unit='KiB'>99999999999999999999</memory></domain>",
		"<x:domain xmlns:x='y'><name>a</name><memory>1</memory></x:domain>"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		refused(texts[i]);
	const char *why = NULL;
	assert_int_equal(domain_xml_parse("<a>\0</a>", 8, &domain, &why), -EINVAL);
	char *much = malloc(DOMAIN_XML_MAX + 1);
	assert_non_null(much);
	memset(much, ' ', DOMAIN_XML_MAX + 1);
	assert_int_equal(domain_xml_parse(much, DOMAIN_XML_MAX + 1, &domain, &why), -E2BIG);
	free(much);
}

/* Entities, files and encodings: nothing but the text itself counts. */
static void test_hostile(void **state)
{
	assert_string_equal(refused("<!DOCTYPE domain [<!ENTITY m SYSTEM \"file:///etc/passwd\">]>"
				    "<domain><name>&m;</name><memory>1</memory></domain>"),
		"it has a document type");
	assert_string_equal(refused("<!DOCTYPE d [<!ENTITY a \"aaaaaaaaaa\">"
				    "<!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]>"
				    "<domain><name>&b;</name><memory>1</memory></domain>"),
		"it has a document type");
	refused(SMALL("<description>&nobody;</description>"));
	/* "<!DOCTYPE" in another encoding is not even text to us. */
	assert_true(parse("<?xml version='1.0' encoding='UTF-7'?>+ADwAIQ-") < 0);
	assert_int_equal(parse("<?xml version='1.0' encoding='ISO-8859-1'?>" SMALL("")), 0);
	assert_int_equal(parse(SMALL("<uuid>\nx\ty</uuid>")), 0);
	assert_string_equal(domain.uuid, "x?y");
}

static void test_too_many_devices(void **state)
{
	static const char begin[] = "<domain><name>a</name><memory>1</memory><devices>",
			  one[] = "<hostdev type='pci'/>", end[] = "</devices></domain>",
			  more[] = "<hostdev/></devices></domain>";
	char text[16384];
	size_t len = sizeof(begin) - 1;

	memcpy(text, begin, sizeof(begin));
	for (int i = 0; i < DOMAIN_HOSTDEVS_MAX; i++, len += sizeof(one) - 1)
		memcpy(text + len, one, sizeof(one));
	memcpy(text + len, end, sizeof(end));
	assert_int_equal(parse(text), 0);
	assert_int_equal(domain.n_hostdevs, DOMAIN_HOSTDEVS_MAX);
	assert_string_equal(domain.hostdevs[0].address, "");
	memcpy(text + len, more, sizeof(more));
	assert_int_equal(parse(text), -E2BIG);
	assert_int_equal(domain.n_hostdevs, DOMAIN_HOSTDEVS_MAX); /* as it was */
}

/* As deep as a text can be: the parser's own limit answers, not the stack's. */
static void test_deep(void **state)
{
	size_t n = 100000;
	char *text = malloc(3 * n + 1);

	assert_non_null(text);
	for (size_t i = 0; i < n; i++)
		memcpy(text + 3 * i, "<a>", 3);
	text[3 * n] = '\0';
	refused(text);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_little),
		cmocka_unit_test(test_numa_cells_share),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_no_definition),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_too_many_devices),
		cmocka_unit_test(test_deep),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain_xml", tests, NULL, NULL);
}
