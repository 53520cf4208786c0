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
	const struct vgpud *d;
	const struct gpu *gpu;
	struct gpu_use use;
	gpus_shown done;
	void *data;
};

static_assert((int)METHOD_EMULATE == (int)HOST_EMULATE &&
		      (int)METHOD_FORWARD == (int)HOST_FORWARD &&
		      (int)METHOD_MEDIATE == (int)HOST_MEDIATE &&
		      (int)METHOD_PASSTHROUGH == (int)HOST_PASSTHROUGH,
	"the methods of control and host are the same");

/* Root, whom the kernel asks for; in a constructed tree, whoever may write there. */
static bool may_write(const struct vgpud *d)
{
	char path[SYSFS_PATH_MAX];

	snprintf(path, sizeof(path), "%s/bus/pci/drivers_probe", d->roots.sys);
	return geteuid() == 0 || access(path, W_OK) == 0;
}

void gpus_facts(const struct vgpud *d, const struct gpu *gpu, const struct gpu_use *use,
	struct host_facts *ret)
{
	const struct config_gpu *own = config_find_gpu(&d->config, gpu->name);
	struct host_gpu host = {.kind = gpu->kind, .vram_mib = gpu->vram_mib};
	const struct host_use host_use = {.root = may_write(d),
		.mixed = gpu->mixed,
		.vgpus = use ? use->vgpus : 0,
		.method = use ? gpu_method(d, gpu) : NULL,
		.kept = use && gpu->kept ? method_names[gpu->mode] : NULL,
		.offered = METHODS_OFFERED,
		.vfs = own ? own->vfs : 0};

	snprintf(host.name, sizeof(host.name), "%.39s", gpu->name);
	memcpy(host.driver, gpu->driver, sizeof(host.driver));
	memcpy(host.pci_address, gpu->pci_address, sizeof(host.pci_address));
	memcpy(host.render_node, gpu->render_node, sizeof(host.render_node));
	host_facts_read(&d->roots, &host, &host_use, ret);
}

/* In the child, which has all of this as it was. */
static json_t *show_work(const void *data)
{
	const struct show *show = data;
	struct host_facts *facts = calloc(1, sizeof(*facts));

	if (!facts)
		return NULL;
	gpus_facts(show->d, show->gpu, &show->use, facts);
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
	struct show *show = calloc(1, sizeof(*show));
	int r = -ENOMEM;

	if (show) {
		*show = (struct show){.d = d,
			.gpu = gpu,
			.use = vgpud_gpu_use(d, gpu->name, NULL),
			.done = done,
			.data = data};
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
