/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * The kernel knows up to half a dozen ways to reset a function (`reset_method`: flr, af_flr, pm,
 * bus, slot, a vendor's own) and takes the first that says it worked. Through this file it never
 * resets more than the one function: `bus` and `slot` are refused (ENOTTY) when another function
 * shares them, though `reset_method` names them. Then VFIO resets all of the slot, if it has all of
 * it and nobody uses any (reset_hot.c): graphics and sound of one card go together anyway. In both
 * cases the configuration space is saved before and written back afterwards.
 *
 * What can go wrong shows afterwards, so the header of the configuration space is read before and
 * after: a function that does not come back reads as ones; one that came back without its
 * addresses would answer a VM's accesses nowhere, or in another's window; one that came back as
 * another device (a GPU that lost its firmware) is not what was given away.
 *
 * A function that was never reset has its registers from the last tenant, and may still write to
 * memory by DMA until its IOMMU domain is gone. Hence no failure here is passed over.
 */
#include "host/reset.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "host/held.h"
#include "host/pci_header.h"
#include "host/reset_hot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define ANSWER_MS 1000u /* after a reset, beyond what the kernel itself waited */
#define LOOK_MS   20u
#define SLOW_MS   900u /* a reset that ends in ENOTTY after that waited for the function */

const char *const reset_step_names[RESET_STEP_COUNT] = {
	[RESET_LOOK] = "look",
	[RESET_WRITE] = "reset",
	[RESET_VERIFY] = "verify",
	[RESET_DONE] = "done",
};

/* --- before --- */

/* The other functions of its slot: names that differ in their last digit alone. */
static void find_others(const struct host_roots *roots, struct reset_result *ret)
{
	char other[PCI_ADDRESS_MAX];

	snprintf(other, sizeof(other), "%s", ret->address);
	for (unsigned i = 0; i <= PCI_SLOT_OTHERS; i++) {
		other[strlen(other) - 1] = (char)('0' + i);
		if (!strcmp(other, ret->address))
			continue;
		cleanup_close int dir = pci_open(roots, other);
		if (dir >= 0 && ret->n_others < PCI_SLOT_OTHERS)
			memcpy(ret->others[ret->n_others++], other, sizeof(other));
	}
}

static int look(const struct host_roots *roots, struct reset_result *ret, struct pci_header *was)
{
	int r = held_check(roots, ret->address, ret->driver, &ret->holders);
	if (r < 0)
		return r;
	cleanup_close int dir = pci_open(roots, ret->address);
	if (dir < 0)
		return dir;
	r = sysfs_read(dir, "reset_method", ret->methods, sizeof(ret->methods));
	if (r < 0 && r != -ENOENT) /* kernels before 5.15 do not tell */
		return r;
	find_others(roots, ret);
	if (!sysfs_exists(dir, "reset"))
		return -ENOENT;
	return pci_header_read(roots, ret->address, was);
}

/* --- after --- */

/* Waits a moment for a function that does not answer yet. */
static int read_again(const struct host_roots *roots, const char *address, struct pci_header *now)
{
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
	uint64_t end = clock_ms() + ANSWER_MS;
	int r;

	while ((r = pci_header_read(roots, address, now)) == -EIO && clock_ms() < end)
		nanosleep(&pause, NULL);
	return r;
}

static int verify(
	const struct host_roots *roots, const struct pci_header *was, struct reset_result *ret)
{
	struct pci_header now;

	int r = read_again(roots, ret->address, &now);
	if (r < 0)
		return r;
	ret->answers = true;
	bool same = now.vendor == was->vendor && now.device == was->device &&
		    now.class == was->class && !memcmp(now.bars, was->bars, sizeof(now.bars));
	return same ? 0 : -ESTALE;
}

static int reset_together(
	const struct host_roots *roots, unsigned limit_ms, struct reset_result *ret)
{
	uint64_t began = clock_ms();

	ret->together_code = reset_hot(roots, ret->address, limit_ms);
	ret->took_ms = (unsigned)(clock_ms() - began);
	ret->touched = ret->together_code == 0;
	/* Whether it was refused or is still under way is not the same. */
	return !ret->together_code || ret->together_code == -ETIMEDOUT ? ret->together_code
								       : -ENOTTY;
}

static int reset(const struct host_roots *roots, const struct vfio_kernel *kernel,
	unsigned limit_ms, struct reset_result *ret)
{
	struct pci_header was;
	char path[SYSFS_PATH_MAX];

	ret->step = RESET_LOOK;
	int r = look(roots, ret, &was);
	if (r < 0)
		return r;
	ret->step = RESET_WRITE;
	uint64_t began = clock_ms();
	snprintf(path, sizeof(path), "%s/bus/pci/devices/%s/reset", roots->sys, ret->address);
	r = kernel->write(kernel->data, path, "1\n", limit_ms);
	ret->took_ms = (unsigned)(clock_ms() - began);
	if (r == -ENOTTY && ret->took_ms < SLOW_MS && ret->n_others && ret->driver[0])
		r = reset_together(roots, limit_ms, ret);
	if (r < 0)
		return r;
	ret->step = RESET_VERIFY;
	r = verify(roots, &was, ret);
	if (r == 0)
		ret->step = RESET_DONE;
	return r;
}

int pci_reset(const struct host_roots *roots, const struct vfio_kernel *kernel, const char *address,
	unsigned limit_ms, struct reset_result *ret)
{
	*ret = (struct reset_result){0};
	if (!pci_address_valid(address))
		return ret->code = -ENODEV;
	snprintf(ret->address, sizeof(ret->address), "%s", address);
	return ret->code = reset(roots, kernel, limit_ms, ret);
}

/* --- what to say --- */

/* The first row that fits; RESET_STEP_COUNT: any step. "{}": its ways to be reset. */
static const struct {
	enum reset_step step;
	int code;
	unsigned from_ms; /* that the kernel took at least */
	const char *why, *remedy;
} sayings[] = {
	{RESET_LOOK, -ENODEV, 0, "it is not on this node", "plug it in"},
	{RESET_LOOK, -ENOENT, 0, "it has no way to be reset (no reset file)",
		"restart the node before another VM gets it"},
	{RESET_LOOK, -EIO, 0, "it does not answer", "restart the node, or take its power"},
	{RESET_STEP_COUNT, -ENODEV, 0, "it went while it was reset", "plug it in again"},
	{RESET_STEP_COUNT, -EACCES, 0, "the kernel asks for root", "run vgpud as root"},
	{RESET_STEP_COUNT, -EPERM, 0, "the kernel asks for root", "run vgpud as root"},
	{RESET_STEP_COUNT, -EROFS, 0, "sysfs is read-only here",
		"run vgpud outside of the container"},
	{RESET_WRITE, -ENOTTY, SLOW_MS, "it was reset ({}) and did not come back in time",
		"restart the node before another VM gets it; where its slot has ACPI hot-plug, "
		"turn that off"},
	{RESET_WRITE, -ENOTTY, 0, "none of its ways to be reset ({}) works where it is",
		"restart the node before another VM gets it"},
	{RESET_WRITE, -EINVAL, 0, "the kernel takes no reset of it",
		"restart the node before another VM gets it"},
	{RESET_WRITE, -ENOENT, 0, "it has no way to be reset any more",
		"see its reset_method file"},
	{RESET_WRITE, -EAGAIN, 0, "another reset or a driver has it locked", "try again"},
	{RESET_WRITE, -ETIMEDOUT, 0, "the kernel does not come to an end with it ({})",
		"see dmesg; restart the node"},
	{RESET_VERIFY, -EIO, 0, "it does not answer since it was reset ({})",
		"restart the node, or take its power"},
	{RESET_VERIFY, -ESTALE, 0,
		"it answers after the reset ({}), and its identity or addresses are others",
		"restart the node"},
};

/* `text` with the first "{}" in it replaced. */
static void fill(const char *text, const char *with, char *ret, size_t size)
{
	const char *mark = strstr(text, "{}");

	if (mark)
		snprintf(ret, size, "%.*s%s%s", (int)(mark - text), text, with, mark + 2);
	else
		snprintf(ret, size, "%s", text);
}

/* The first row that fits; row 0 is for all others. */
static const struct {
	int code;
	const char *why, *remedy;
} together[] = {
	{0, "and VFIO could not", "see dmesg; restart the node before another VM gets it"},
	{-EPERM, "and VFIO has not all of them", "let vfio-pci have the others, too"},
	{-EBUSY, "and one of them is in use", "end its user first"},
	{-ENOENT, "and VFIO is not there to do that", "load vfio_iommu_type1"},
};

static int explain_together(const struct reset_result *result, const char *what, struct error *err)
{
	size_t row = 0;

	for (size_t i = 1; i < ARRAY_SIZE(together); i++) {
		if (together[i].code == result->together_code)
			row = i;
	}
	return error_set(err, -result->code,
		"%s: it can be reset only together with %s%s, %s: %s (%s)", what, result->others[0],
		result->n_others > 1 ? " and others" : "", together[row].why,
		strerror(-result->together_code), together[row].remedy);
}

int pci_reset_explain(const struct reset_result *result, const char *what, struct error *err)
{
	const char *methods = result->methods[0] ? result->methods : "by its driver's own way";
	char text[256];

	if (result->code == 0)
		return 0;
	if (result->code == -EBUSY && result->step == RESET_LOOK &&
		(result->holders.count || !result->holders.complete))
		return error_set(err, EBUSY, "%s: not reset: %s (end that first)", what,
			held_text(&result->holders, text, sizeof(text)));
	if (result->code == -EBUSY && result->step == RESET_LOOK)
		return error_set(err, EBUSY,
			"%s: not reset: its driver %s has it (let vfio-pci have it first)", what,
			result->driver);
	if (result->code == -ENOTTY && result->together_code)
		return explain_together(result, what, err);
	for (size_t i = 0; i < ARRAY_SIZE(sayings); i++) {
		if (sayings[i].code != result->code || result->took_ms < sayings[i].from_ms ||
			(sayings[i].step != RESET_STEP_COUNT && sayings[i].step != result->step))
			continue;
		fill(sayings[i].why, methods, text, sizeof(text));
		return error_set(err, -result->code, "%s: %s (%s)", what, text, sayings[i].remedy);
	}
	return error_set(err, -result->code, "%s: %s fails: %s (see dmesg)", what,
		reset_step_names[result->step], strerror(-result->code));
}
