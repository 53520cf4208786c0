/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A definition that anybody wrote, and a vGPU that is attached to it. What is attached is there,
 * lacks nothing, attaching again changes nothing, and after detaching nothing of it is left.
 */
#include "host/domain_edit.h"
#include "host/domain_tree.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const struct domain_vgpu vgpus[] = {
	{.name = "desk", .device = DOMAIN_VIDEO, .heads = 2, .locked = true},
	{.name = "a.b",
		.device = DOMAIN_PCI,
		.address = {"0000:03:00.0", "0000:03:00.1"},
		.n_addresses = 2},
	{.name = "slice",
		.device = DOMAIN_MDEV,
		.address = {"4b20d080-1b54-4048-85b3-a6a62d165c01"},
		.n_addresses = 1},
};

#define VGPUS (sizeof(vgpus) / sizeof(vgpus[0]))

static void demand(int good)
{
	if (!good)
		abort();
}

/* It fits into the limit after it has grown. */
static int small(const char *text)
{
	return strlen(text) < DOMAIN_TREE_MAX;
}

static void round_trip(const char *text, size_t size, const struct domain_vgpu *vgpu, int keep)
{
	struct domain_edit once, twice, back;
	struct domain_findings findings;
	struct domain_seen seen;
	struct error err = {0};

	if (domain_attach(text, size, vgpu, vgpus, VGPUS, keep, "x", &once, &err) < 0) {
		demand(err.text[0] && !once.xml);
		return;
	}
	if (small(once.xml)) {
		size = strlen(once.xml);
		demand(domain_has_device(once.xml, size, vgpu));
		demand(domain_check(once.xml, size, vgpu, "x", &findings, &err) == 0);
		demand(domain_look(once.xml, size, "x", &seen, &err) == 0 && seen.n_names == 1);
		demand(domain_attach(once.xml, size, vgpu, vgpus, VGPUS, keep, "x", &twice, &err) ==
			0);
		demand(!twice.changed); /* libxml2 itself may write a name space otherwise */
		demand(domain_detach(once.xml, size, vgpu->name, "x", &back, &err) == 0);
		if (small(back.xml))
			demand(domain_look(back.xml, strlen(back.xml), "x", &seen, &err) == 0);
		domain_edit_finish(&twice);
		domain_edit_finish(&back);
	}
	domain_edit_finish(&once);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	char *text = malloc(size); /* exactly as long: it need not end in NUL */
	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	round_trip(text, size - 1, &vgpus[data[0] % VGPUS], data[0] & 0x80);
	free(text);
	return 0;
}
