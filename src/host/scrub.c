/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * Why: a reset does not empty a GPU's memory. It survives FLR and a reset of the bus (seen on the
 * node bench; on cards the memory goes on being refreshed), VFIO gives the BARs to the next VM as
 * they are, and no kernel empties them. So whoever has the GPU next could read what the one before
 * drew and computed.
 *
 * How: the function is woken (power, decoding of its addresses), its window is mapped, and
 *   1. each page of it gets a mark of its own which is read back: what holds no mark is no memory
 *      (registers, nothing), and pages that change one another are one page seen twice. Without
 *      this, a window that swallows writes and reads as zero would count as clean;
 *   2. all of it is written with zeroes, write-combining where the kernel offers that, with a
 *      fence and a read behind each chunk, because writes on the bus are posted;
 *   3. every byte is read back. Only what was seen to be zero counts.
 * Then it is put to sleep again as it was. If the process dies in between it stays awake, which
 * does no harm and ends with its next VM.
 *
 * What it cannot reach, and says so: memory beyond a window that was not resized (Resizable BAR);
 * memory that only the GPU sees (caches, registers, on-chip buffers: a reset's work); GPUs whose
 * window goes through tables that only their own driver fills (NVIDIA's BAR 1): there the marks do
 * not hold, and the verdict is "failed" rather than a guess; GPUs that draw in the host's memory.
 *
 * It does not keep others from opening the function meanwhile: nothing in the kernel could, short
 * of opening it through VFIO, which its group, its IOMMU and its reset would have to allow. That is
 * the caller's part (/dev/vfio belongs to root then), and it is looked at again afterwards.
 */
#include "host/scrub.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "host/held.h"
#include "host/pci_header.h"
#include "host/scrub_memory.h"
#include "host/scrub_wake.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define PAGE_BYTES     4096u
#define LIMIT_FLOOR_MS 20000u
#define PASSES         3u /* over all of the memory */

struct scrub {
	const struct host_roots *roots;
	const struct vfio_kernel *kernel;
	const struct scrub_request *request;
	struct scrub_result *ret;
	struct pci_device device;
};

unsigned scrub_limit_ms(uint64_t bytes)
{
	uint64_t ms = bytes / SCRUB_BYTES_PER_MS;

	return (unsigned)MIN(ms * PASSES + LIMIT_FLOOR_MS, (uint64_t)INT_MAX);
}

/* --- what it is --- */

static int look(struct scrub *s)
{
	struct sysfs_troubles troubles = {0};
	struct scrub_result *ret = s->ret;

	int r = held_check(s->roots, ret->address, ret->driver, &ret->holders);
	if (r < 0)
		return r;
	r = pci_read(s->roots, ret->address, &s->device, &troubles);
	if (r < 0)
		return r;
	/* Whatever decides which BAR is written has to be certain. */
	for (size_t i = 0; i < troubles.count; i++) {
		const char *file = troubles.list[i].file;
		if (!strcmp(file, "resource") || !strcmp(file, "vendor") || !strcmp(file, "device"))
			return troubles.list[i].code;
	}
	ret->bar = scrub_window(&s->device, &ret->beyond);
	ret->window_bytes = ret->bar < 0 ? 0 : s->device.bars[ret->bar].size;
	return 0;
}

/* --- the memory --- */

/* How much of the window is memory, if anybody knows. */
static uint64_t bytes_of(const struct scrub *s)
{
	uint64_t window = s->ret->window_bytes, vram = s->request->vram_bytes, rounded;

	if (!vram || !checked_add(vram, PAGE_BYTES - 1, &rounded))
		return window;
	return MIN(window, rounded / PAGE_BYTES * PAGE_BYTES);
}

static int work(struct scrub *s)
{
	char path[SYSFS_PATH_MAX], name[32];
	struct scrub_memory memory = {.path = path,
		.window = s->ret->window_bytes,
		.bytes = bytes_of(s),
		.request = s->request};

	if (memory.bytes % PAGE_BYTES)
		return -EBADMSG; /* no BAR of memory is so */
	cleanup_close int dir = pci_open(s->roots, s->ret->address);
	if (dir < 0)
		return dir;
	snprintf(name, sizeof(name), "resource%d_wc", s->ret->bar);
	bool combining = sysfs_exists(dir, name);
	snprintf(path, sizeof(path), "%s/bus/pci/devices/%s/resource%d%s", s->roots->sys,
		s->ret->address, s->ret->bar, combining ? "_wc" : "");
	unsigned limit_ms =
		s->request->limit_ms ? s->request->limit_ms : scrub_limit_ms(memory.bytes);
	return scrub_memory(&memory, limit_ms, s->ret);
}

/* Did it stay ours, and is it still what was emptied? */
static int look_again(struct scrub *s)
{
	struct scrub_result *ret = s->ret;
	char driver[PCI_DRIVER_MAX];
	struct pci_header header;

	ret->step = SCRUB_AFTER;
	int r = held_check(s->roots, ret->address, driver, &ret->holders);
	bool same = !strcmp(driver, ret->driver);
	memcpy(ret->driver, driver, sizeof(driver));
	if (r < 0)
		return r;
	if (!same)
		return -EBUSY;
	r = pci_header_read(s->roots, ret->address, &header);
	return r < 0 ? r : header.vendor == s->device.vendor ? 0 : -EIO;
}

static void judge(const struct scrub *s)
{
	struct scrub_result *ret = s->ret;
	uint64_t vram = s->request->vram_bytes;

	ret->step = SCRUB_DONE;
	if (vram) {
		ret->beyond = NULL;
		ret->unreached_bytes = vram > ret->window_bytes ? vram - ret->window_bytes : 0;
	}
	ret->beyond_unknown = ret->beyond != NULL;
	ret->verdict = ret->beyond_unknown || ret->unreached_bytes ? SCRUB_PARTIAL : SCRUB_CLEAN;
}

static int scrub(struct scrub *s)
{
	struct scrub_asleep was = {0};

	s->ret->step = SCRUB_LOOK;
	int r = look(s);
	if (r < 0)
		return r;
	if (s->ret->bar >= 0) {
		s->ret->step = SCRUB_WAKE;
		r = scrub_wake(s->roots, s->kernel, &s->device, &was);
		if (r == 0)
			r = work(s);
		if (r == 0)
			r = look_again(s);
		scrub_sleep(s->roots, s->kernel, &s->device, &was);
	}
	if (r == 0)
		judge(s);
	return r;
}

int scrub_vram(const struct host_roots *roots, const struct vfio_kernel *kernel,
	const struct scrub_request *request, struct scrub_result *ret)
{
	struct scrub s = {.roots = roots, .kernel = kernel, .request = request, .ret = ret};
	uint64_t began = clock_ms();

	*ret = (struct scrub_result){.bar = -1};
	if (!pci_address_valid(request->address))
		return ret->code = -ENODEV;
	snprintf(ret->address, sizeof(ret->address), "%s", request->address);
	ret->code = scrub(&s);
	ret->took_ms = (unsigned)(clock_ms() - began);
	return ret->code;
}
