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

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define COMMAND_MEMORY 0x2u /* it answers to accesses of its memory BARs */
#define PAGE_BYTES     4096u
#define AWAKE_MS       2000u
#define LOOK_MS        20u
#define WRITE_MS       5000u
#define LIMIT_FLOOR_MS 20000u
#define PASSES         3u /* over all of the memory */
#define POWER_ON       "on"

/* What it was before it was woken; what is false, 0 or "" was not changed. */
struct asleep {
	char power[16]; /* of power/control */
	bool disabled;
	bool deaf;
	uint16_t command;
};

struct scrub {
	const struct host_roots *roots;
	const struct vfio_kernel *kernel;
	const struct scrub_request *request;
	struct scrub_result *ret;
	struct pci_device device;
	struct asleep was;
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

/* --- waking it, and back --- */

static int write_file(const struct scrub *s, const char *name, const char *text)
{
	char path[SYSFS_PATH_MAX];

	snprintf(path, sizeof(path), "%s/bus/pci/devices/%s/%s", s->roots->sys, s->ret->address,
		name);
	return s->kernel->write(s->kernel->data, path, text, WRITE_MS);
}

/* In the kernel's runtime power management; a kernel without it has the function awake. */
static int power_up(struct scrub *s)
{
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000l};
	uint64_t end = clock_ms() + AWAKE_MS;
	char text[16];

	cleanup_close int dir = pci_open(s->roots, s->ret->address);
	if (dir < 0)
		return dir;
	int r = sysfs_read(dir, "power/control", text, sizeof(text));
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (strcmp(text, POWER_ON) != 0) {
		r = write_file(s, "power/control", POWER_ON "\n");
		if (r < 0)
			return r;
		memcpy(s->was.power, text, sizeof(text));
	}
	while ((r = sysfs_read(dir, "power/runtime_status", text, sizeof(text))) == 0 &&
		(!strncmp(text, "suspend", 7) || !strcmp(text, "resuming"))) {
		if (clock_ms() >= end)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
	return strcmp(text, "error") != 0 ? 0 : -EIO;
}

/* Without a driver nobody has enabled it, nor the bridges above it. */
static int enable(struct scrub *s)
{
	uint64_t enabled;

	if (s->ret->driver[0])
		return 0;
	cleanup_close int dir = pci_open(s->roots, s->ret->address);
	if (dir < 0)
		return dir;
	int r = sysfs_number(dir, "enable", 10, UINT32_MAX, &enabled);
	if (r < 0 || enabled)
		return r == -ENOENT ? 0 : r;
	r = write_file(s, "enable", "1\n");
	s->was.disabled = r == 0;
	return r;
}

/* A virtual function's decoding is its parent's, and its own bit is not there. */
static int make_answer(struct scrub *s)
{
	struct pci_header header;

	int r = pci_header_read(s->roots, s->ret->address, &header);
	if (r < 0 || s->device.physfn[0] || (header.command & COMMAND_MEMORY))
		return r;
	s->was.command = header.command;
	r = pci_command_write(
		s->roots, s->ret->address, (uint16_t)(header.command | COMMAND_MEMORY));
	if (r < 0)
		return r;
	s->was.deaf = true;
	r = pci_header_read(s->roots, s->ret->address, &header);
	return r < 0 ? r : header.command & COMMAND_MEMORY ? 0 : -EIO;
}

static int wake(struct scrub *s)
{
	int r = power_up(s);

	if (r == 0)
		r = enable(s);
	return r < 0 ? r : make_answer(s);
}

/* As it was, as far as it can be: it may be gone, and an awake function does no harm. */
static void put_to_sleep(struct scrub *s)
{
	char text[sizeof(s->was.power) + 1];

	if (s->was.deaf)
		(void)pci_command_write(s->roots, s->ret->address, s->was.command);
	if (s->was.disabled)
		(void)write_file(s, "enable", "0\n");
	snprintf(text, sizeof(text), "%s\n", s->was.power);
	if (s->was.power[0])
		(void)write_file(s, "power/control", text);
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
	s->ret->step = SCRUB_LOOK;
	int r = look(s);
	if (r < 0)
		return r;
	if (s->ret->bar >= 0) {
		s->ret->step = SCRUB_WAKE;
		r = wake(s);
		if (r == 0)
			r = work(s);
		if (r == 0)
			r = look_again(s);
		put_to_sleep(s);
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
