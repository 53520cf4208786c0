/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM leaves behind in a whole GPU: what runs is stopped by a reset of its functions, then
 * its memory is emptied and read back (host/reset.h, host/scrub.h). Slices are their driver's to
 * empty: a VF's memory is given and taken by the PF.
 */
#include "control/direct_private.h"

#include "host/reset.h"
#include "host/scrub.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static void on_progress(void *data, enum scrub_step step, uint64_t done, uint64_t total)
{
	struct direct_progress *progress = data;

	progress->bytes = done;
	progress->total_bytes = total;
	snprintf(progress->step, sizeof(progress->step), "%s", scrub_step_names[step]);
}

/* It has no way to be reset, or none that works: what it has in its registers stays. */
static bool cannot_reset(int code)
{
	return code == -ENOENT || code == -ENOTTY;
}

static bool has_vfio(const struct vgpu *v, const char *function)
{
	char driver[PCI_DRIVER_MAX], override[PCI_DRIVER_MAX];

	return vfio_read(&v->d->roots, function, driver, override) == 0 &&
	       iommu_driver_is_vfio(driver);
}

/*
 * All functions of the plan, the GPU first. 0; -errno and why. A GPU that cannot be reset is said
 * in `err` and is 1; of a function beside it that is of no account.
 */
static int reset_all(const struct vgpu *v, struct error *err)
{
	const struct change_plan *plan = &v->direct->stored.plan;
	struct reset_result result;
	int ret = 0;

	for (int gpu = 1; gpu >= 0; gpu--) {
		for (uint32_t i = 0; i < plan->count; i++) {
			const struct change *c = &plan->list[i];
			if (c->kind != CHANGE_VFIO ||
				(strcmp(c->subject, plan->device) == 0) != (gpu == 1))
				continue;
			if (!has_vfio(v, c->subject)) /* somebody took it, by hand */
				continue;
			int r = pci_reset(
				&v->d->roots, &v->d->kernel, c->subject, PCI_RESET_MS, &result);
			if (r == 0 || (cannot_reset(r) && !gpu))
				continue;
			pci_reset_explain(&result, v->direct->what, err);
			if (!cannot_reset(r))
				return r;
			ret = 1;
		}
	}
	return ret;
}

/* Somebody gave it back by hand, or it is gone: there is nothing that we could empty. */
static bool is_set_aside(const struct vgpu *v, struct direct_result *ret)
{
	char driver[PCI_DRIVER_MAX], override[PCI_DRIVER_MAX];

	int r = vfio_read(&v->d->roots, v->direct->stored.plan.device, driver, override);
	if (r == 0 && iommu_driver_is_vfio(driver))
		return true;
	ret->scrub = (struct direct_scrub_report){
		.done = true, .verdict = "failed", .time_ms = now_ms()};
	snprintf(ret->scrub.text, sizeof(ret->scrub.text), "%s: %.40s was given to %s by hand",
		v->direct->what, v->direct->stored.plan.device,
		r < 0       ? "nobody"
		: driver[0] ? driver
			    : "no driver");
	return false;
}

uint64_t direct_window(const struct vgpu *v)
{
	struct sysfs_troubles troubles = {0};
	struct pci_device device;
	const char *beyond;

	if (v->def.method != METHOD_PASSTHROUGH ||
		pci_read(&v->d->roots, v->direct->stored.plan.device, &device, &troubles) < 0)
		return 0;
	int bar = scrub_window(&device, &beyond);
	return bar < 0 ? 0 : device.bars[bar].size;
}

static void report(const struct scrub_result *result, struct direct_scrub_report *ret)
{
	snprintf(ret->verdict, sizeof(ret->verdict), "%s", scrub_verdict_names[result->verdict]);
	ret->bytes = result->scrubbed_bytes;
}

int direct_scrub_work(const struct vgpu *v, struct direct_result *ret)
{
	const struct scrub_request request = {.address = v->direct->stored.plan.device,
		.vram_bytes = v->direct->stored.vram_mib << 20,
		.progress = on_progress,
		.data = v->direct->progress};
	struct scrub_result result;
	struct error err = {0};
	uint64_t began_ms = now_ms();

	if (v->def.method != METHOD_PASSTHROUGH || !is_set_aside(v, ret))
		return 0;
	ret->scrub = (struct direct_scrub_report){.done = true, .verdict = "failed"};
	int reset = reset_all(v, &err), r = reset;
	if (reset >= 0) {
		struct error scrub_err = {0};
		/* Before it is looked at who has it open: a reset opens it itself. */
		v->direct->progress->emptying = true;
		scrub_vram(&v->d->roots, &v->d->kernel, &request, &result);
		report(&result, &ret->scrub);
		r = scrub_explain(&result, v->direct->what, &scrub_err);
		if (r < 0)
			err = scrub_err;
	}
	if (r == 0 && reset > 0) { /* empty, and not reset */
		snprintf(ret->scrub.verdict, sizeof(ret->scrub.verdict), "partial");
		r = -EUCLEAN;
	}
	ret->scrub.time_ms = now_ms();
	ret->scrub.took_ms = ret->scrub.time_ms - began_ms;
	ret->code = r;
	if (r < 0) {
		snprintf(ret->scrub.text, sizeof(ret->scrub.text), "%.*s",
			(int)sizeof(ret->scrub.text) - 1, err.text);
		snprintf(
			ret->text, sizeof(ret->text), "%.*s", (int)sizeof(ret->text) - 1, err.text);
	}
	return r;
}
