/* SPDX-License-Identifier: Apache-2.0 */
#include "control/gpus.h"

#include "control/gpu_rules.h"
#include "host/report.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct show {
	struct host_roots roots;
	struct host_gpu gpu;
	struct host_use use;
	gpus_shown done;
	void *data;
};

static_assert((int)METHOD_EMULATE == (int)HOST_EMULATE &&
		      (int)METHOD_FORWARD == (int)HOST_FORWARD &&
		      (int)METHOD_MEDIATE == (int)HOST_MEDIATE &&
		      (int)METHOD_PASSTHROUGH == (int)HOST_PASSTHROUGH,
	"the methods of control and host are the same");

/* In the child. */
static json_t *show_work(const void *data)
{
	const struct show *show = data;
	struct host_facts *facts = calloc(1, sizeof(*facts));

	if (!facts)
		return NULL;
	host_facts_read(&show->roots, &show->gpu, &show->use, facts);
	json_t *report = host_report(facts);
	free(facts);
	return report;
}

static void show_done(void *data, json_t *report)
{
	struct show *show = data;

	show->done(show->data, report);
	free(show);
}

int gpus_show(
	struct vgpud *d, const struct gpu *gpu, gpus_shown done, void *data, struct error *err)
{
	struct gpu_use use = vgpud_gpu_use(d, gpu->name, NULL);
	struct show *show = calloc(1, sizeof(*show));
	int r = -ENOMEM;

	if (show) {
		*show = (struct show){.roots = d->roots,
			.gpu = {.kind = gpu->kind, .vram_mib = gpu->vram_mib},
			.use = {.root = geteuid() == 0,
				.mixed = gpu->mixed,
				.vgpus = use.vgpus,
				.method = gpu_method(d, gpu),
				.offered = METHODS_OFFERED},
			.done = done,
			.data = data};
		snprintf(show->gpu.name, sizeof(show->gpu.name), "%.39s", gpu->name);
		memcpy(show->gpu.driver, gpu->driver, sizeof(show->gpu.driver));
		memcpy(show->gpu.pci_address, gpu->pci_address, sizeof(show->gpu.pci_address));
		memcpy(show->gpu.render_node, gpu->render_node, sizeof(show->gpu.render_node));
		r = child_start(
			&d->children, d->event, show_work, show, GPUS_SHOW_MS, show_done, show);
	}
	if (r < 0) {
		free(show);
		return error_set(err, -r, "gpu show %s: it cannot be looked at: %s (try again)",
			gpu->name, strerror(-r));
	}
	return 0;
}
