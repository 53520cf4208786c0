/* SPDX-License-Identifier: Apache-2.0 */
#include "host/vfio.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "host/held.h"
#include "host/iommu.h"
#include "host/sysfs_write.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *const vfio_step_names[VFIO_STEP_COUNT] = {
	[VFIO_LOOK] = "look",
	[VFIO_OVERRIDE] = "override",
	[VFIO_CLEAR] = "clear",
	[VFIO_UNBIND] = "unbind",
	[VFIO_PROBE] = "probe",
	[VFIO_DONE] = "done",
};

static int real_write(void *data, const char *path, const char *text, unsigned limit_ms)
{
	return sysfs_write(path, text, limit_ms);
}

const struct vfio_kernel vfio_kernel_real = {.write = real_write};

/* --- what it is now --- */

enum holds { BY_NONE, BY_VFIO, BY_OTHER, HOLDS_COUNT }; /* a driver; a driver_override */

struct now {
	char driver[PCI_DRIVER_MAX], override[PCI_DRIVER_MAX];
};

static enum holds kind_of(const char *driver)
{
	return !driver[0] ? BY_NONE : iommu_driver_is_vfio(driver) ? BY_VFIO : BY_OTHER;
}

int vfio_read(
	const struct host_roots *roots, const char *address, char *ret_driver, char *ret_override)
{
	ret_driver[0] = ret_override[0] = '\0';
	cleanup_close int dir = pci_open(roots, address);
	if (dir < 0)
		return dir;
	int r = sysfs_link(dir, "driver", ret_driver, PCI_DRIVER_MAX);
	if (r < 0 && r != -ENOENT)
		return r;
	r = sysfs_read(dir, "driver_override", ret_override, PCI_DRIVER_MAX);
	if (!strcmp(ret_override, "(null)"))
		ret_override[0] = '\0';
	return r;
}

static int read_now(const struct host_roots *roots, const char *address, struct now *ret)
{
	return vfio_read(roots, address, ret->driver, ret->override);
}

/* --- which step is next --- */

/* [driver][override] */
static const enum vfio_step take_steps[HOLDS_COUNT][HOLDS_COUNT] = {
	[BY_NONE] = {VFIO_OVERRIDE, VFIO_PROBE, VFIO_OVERRIDE},
	[BY_VFIO] = {VFIO_DONE, VFIO_DONE, VFIO_DONE},
	[BY_OTHER] = {VFIO_OVERRIDE, VFIO_UNBIND, VFIO_OVERRIDE},
};

/* An override that is neither empty nor ours is somebody's choice of its own driver, and stays. */
static const enum vfio_step give_steps[HOLDS_COUNT][HOLDS_COUNT] = {
	[BY_NONE] = {VFIO_PROBE, VFIO_CLEAR, VFIO_PROBE},
	[BY_VFIO] = {VFIO_UNBIND, VFIO_CLEAR, VFIO_UNBIND},
	[BY_OTHER] = {VFIO_DONE, VFIO_CLEAR, VFIO_DONE},
};

static const enum vfio_step release_steps[HOLDS_COUNT][HOLDS_COUNT] = {
	[BY_NONE] = {VFIO_DONE, VFIO_CLEAR, VFIO_DONE},
	[BY_VFIO] = {VFIO_UNBIND, VFIO_CLEAR, VFIO_UNBIND},
	[BY_OTHER] = {VFIO_DONE, VFIO_CLEAR, VFIO_DONE},
};

/* Where each step writes: the address stands between both parts. And what; NULL: the address. */
static const struct {
	const char *before, *after, *text;
} requests[VFIO_STEP_COUNT] = {
	[VFIO_OVERRIDE] = {"/bus/pci/devices/", "/driver_override", VFIO_DRIVER "\n"},
	[VFIO_CLEAR] = {"/bus/pci/devices/", "/driver_override", "\n"},
	[VFIO_UNBIND] = {"/bus/pci/devices/", "/driver/unbind", NULL},
	[VFIO_PROBE] = {"/bus/pci/drivers_probe", NULL, NULL},
};

static int take_step(const struct host_roots *roots, const struct vfio_kernel *kernel,
	const char *address, enum vfio_step step)
{
	char path[SYSFS_PATH_MAX];
	bool of_device = requests[step].after != NULL;

	snprintf(path, sizeof(path), "%s%s%s%s", roots->sys, requests[step].before,
		of_device ? address : "", of_device ? requests[step].after : "");
	const char *text = requests[step].text ? requests[step].text : address;
	return kernel->write(kernel->data, path, text, VFIO_STEP_MS);
}

/*
 * Takes the steps that a table names until it says that all is done, each at most once. 0; -ENXIO:
 * a step that said yes changed nothing; -errno.
 */
static int change(const struct host_roots *roots, const struct vfio_kernel *kernel,
	const enum vfio_step steps[HOLDS_COUNT][HOLDS_COUNT], struct vfio_change *ret)
{
	unsigned taken = 0;
	struct now now;

	for (;;) {
		int r = read_now(roots, ret->address, &now);
		if (r < 0)
			return r;
		memcpy(ret->driver, now.driver, sizeof(ret->driver));
		enum vfio_step step = steps[kind_of(now.driver)][kind_of(now.override)];
		if (step == VFIO_DONE) {
			ret->step = VFIO_DONE;
			return 0;
		}
		ret->step = step;
		if (taken & 1u << step)
			return -ENXIO;
		taken |= 1u << step;
		r = take_step(roots, kernel, ret->address, step);
		/* A driver that just went by itself is where we wanted to be. */
		if (r < 0 && !(step == VFIO_UNBIND && (r == -ENOENT || r == -ENODEV)))
			return r;
		ret->requests++;
	}
}

/* --- who has it open --- */

static int look(const struct host_roots *roots, struct vfio_change *ret)
{
	int r = held_find(roots, ret->address, &ret->holders);

	if (r < 0)
		return r;
	if (!ret->holders.total && !ret->holders.complete && geteuid() != 0)
		return -EACCES; /* only root can look at every process */
	return ret->holders.total || !ret->holders.complete ? -EBUSY : 0;
}

static int begin(const struct host_roots *roots, const char *address, enum holds wanted,
	struct vfio_change *ret)
{
	struct now now;

	*ret = (struct vfio_change){.step = VFIO_LOOK};
	if (!pci_address_valid(address))
		return -ENODEV;
	snprintf(ret->address, sizeof(ret->address), "%s", address);
	int r = read_now(roots, address, &now);
	if (r < 0)
		return r;
	memcpy(ret->before, now.driver, sizeof(ret->before));
	memcpy(ret->driver, now.driver, sizeof(ret->driver));
	if (!now.driver[0] || kind_of(now.driver) == wanted)
		return 0;
	return look(roots, ret);
}

int vfio_take(const struct host_roots *roots, const struct vfio_kernel *kernel, const char *address,
	struct vfio_change *ret)
{
	int r = begin(roots, address, BY_VFIO, ret);

	if (r == 0)
		r = change(roots, kernel, take_steps, ret);
	ret->code = r;
	if (r == 0 || r == -ETIMEDOUT || r == -ENODEV || !ret->requests)
		return r;
	struct vfio_change back = *ret;
	(void)change(roots, kernel, give_steps, &back);
	memcpy(ret->driver, back.driver, sizeof(ret->driver));
	ret->taken_back = !strcmp(ret->driver, ret->before);
	return r;
}

int vfio_give_back(const struct host_roots *roots, const struct vfio_kernel *kernel,
	const char *address, struct vfio_change *ret)
{
	int r = begin(roots, address, BY_OTHER, ret);

	if (r == 0)
		r = change(roots, kernel, give_steps, ret);
	if (r == -ENXIO && ret->step == VFIO_PROBE && !ret->driver[0]) {
		ret->step = VFIO_DONE; /* it was offered, and nobody wants it */
		r = 0;
	}
	return ret->code = r;
}

int vfio_release(const struct host_roots *roots, const struct vfio_kernel *kernel,
	const char *address, struct vfio_change *ret)
{
	int r = begin(roots, address, BY_OTHER, ret);

	return ret->code = r == 0 ? change(roots, kernel, release_steps, ret) : r;
}

/* --- what to say --- */

/* The first row that fits; step VFIO_STEP_COUNT: any. "{}": the driver it has. */
static const struct {
	enum vfio_step step;
	int code;
	const char *why, *remedy;
} sayings[] = {
	{VFIO_STEP_COUNT, -ENODEV, "it is not on this node", "plug it in"},
	{VFIO_STEP_COUNT, -EACCES, "the kernel asks for root", "run vgpud as root"},
	{VFIO_STEP_COUNT, -EPERM, "the kernel asks for root", "run vgpud as root"},
	{VFIO_STEP_COUNT, -EROFS, "sysfs is read-only here", "run vgpud outside of the container"},
	{VFIO_UNBIND, -ETIMEDOUT, "its driver {} does not let go of it",
		"end whoever uses it: the request stands, and is fulfilled then"},
	{VFIO_UNBIND, -ENXIO, "its driver {} keeps it", "see dmesg, or unload that driver"},
	{VFIO_PROBE, -ETIMEDOUT, "a driver does not come to an end with it",
		"see dmesg; restart the node"},
	{VFIO_PROBE, -ENXIO, "the driver vfio-pci does not take it",
		"see `vgpuctl gpu show` and dmesg: it needs an IOMMU group"},
	{VFIO_PROBE, -EINVAL, "the driver vfio-pci does not take it",
		"see `vgpuctl gpu show` and dmesg: it needs an IOMMU group"},
	{VFIO_OVERRIDE, -ENOENT, "this kernel has no driver_override", "use a newer kernel"},
	{VFIO_STEP_COUNT, -ETIMEDOUT, "the kernel does not answer", "see dmesg"},
};

int vfio_explain(const struct vfio_change *c, const char *what, struct error *err)
{
	const char *back = c->taken_back ? "; what was begun is undone" : "";
	char text[192];

	if (c->code == 0)
		return 0;
	if (c->code == -EBUSY && c->step == VFIO_LOOK)
		return error_set(err, EBUSY, "%s: %s (end that first)", what,
			held_text(&c->holders, text, sizeof(text)));
	for (size_t i = 0; i < ARRAY_SIZE(sayings); i++) {
		if (sayings[i].code != c->code ||
			(sayings[i].step != VFIO_STEP_COUNT && sayings[i].step != c->step))
			continue;
		const char *mark = strstr(sayings[i].why, "{}");
		size_t len = mark ? (size_t)(mark - sayings[i].why) : strlen(sayings[i].why);
		return error_set(err, -c->code, "%s: %.*s%s%s%s (%s)", what, (int)len,
			sayings[i].why, mark ? c->driver : "", mark ? mark + 2 : "", back,
			sayings[i].remedy);
	}
	return error_set(err, -c->code, "%s: %s fails: %s%s (see dmesg)", what,
		vfio_step_names[c->step], strerror(-c->code), back);
}
