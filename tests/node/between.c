/* SPDX-License-Identifier: Apache-2.0 */
/*
 * between reset|scrub|aer ADDRESS [VRAM_MIB]: what host/reset.h, host/scrub.h, host/aer.h make of
 * it, as one line of JSON.
 */
#include "host/aer.h"
#include "host/reset.h"
#include "host/scrub.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void count(void *data, enum scrub_step step, uint64_t done, uint64_t total)
{
	unsigned *steps = data;

	*steps |= 1u << step;
}

static void reset(const char *address)
{
	struct error err = {0};
	struct reset_result r;

	pci_reset(&host_roots_real, &vfio_kernel_real, address, PCI_RESET_MS, &r);
	pci_reset_explain(&r, address, &err);
	printf("{\"code\": %d, \"step\": \"%s\", \"methods\": \"%s\", \"driver\": \"%s\", "
	       "\"took_ms\": %u, \"answers\": %s, \"others\": %zu, \"touched\": %s, \"together\": "
	       "%d, \"text\": \"%s\"}\n",
		r.code, reset_step_names[r.step], r.methods, r.driver, r.took_ms,
		r.answers ? "true" : "false", r.n_others, r.touched ? "true" : "false",
		r.together_code, err.text);
}

static void scrub(const char *address, uint64_t vram)
{
	unsigned steps = 0;
	const struct scrub_request request = {
		.address = address, .vram_bytes = vram, .progress = count, .data = &steps};
	struct scrub_result r;
	struct error err = {0};

	scrub_vram(&host_roots_real, &vfio_kernel_real, &request, &r);
	scrub_explain(&r, address, &err);
	printf("{\"code\": %d, \"verdict\": \"%s\", \"step\": \"%s\", \"bar\": %d, "
	       "\"window\": %" PRIu64 ", \"scrubbed\": %" PRIu64 ", \"bad\": %" PRIu64
	       ", \"unreached\": %" PRIu64 ", \"unknown\": %s, \"took_ms\": %u, \"text\": "
	       "\"%s\"}\n",
		r.code, scrub_verdict_names[r.verdict], scrub_step_names[r.step], r.bar,
		r.window_bytes, r.scrubbed_bytes, r.bad_bytes, r.unreached_bytes,
		r.beyond_unknown ? "true" : "false", r.took_ms, err.text);
}

static void aer(const char *address)
{
	static const struct aer_counters none;
	static struct aer_counters now;
	char text[AER_TEXT_MAX];

	aer_read(&host_roots_real, address, &now);
	aer_difference(&none, &now, text, sizeof(text));
	printf("{\"present\": %s, \"text\": \"%s\"}\n", now.present ? "true" : "false", text);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	if (!strcmp(argv[1], "reset"))
		reset(argv[2]);
	else if (!strcmp(argv[1], "scrub"))
		scrub(argv[2], argc > 3 ? strtoull(argv[3], NULL, 10) << 20 : 0);
	else if (!strcmp(argv[1], "aer"))
		aer(argv[2]);
	else
		return 2;
	return 0;
}
