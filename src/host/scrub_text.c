/* SPDX-License-Identifier: Apache-2.0 */
#include "host/held.h"
#include "host/scrub.h"

#include "base/checked.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *const scrub_verdict_names[SCRUB_VERDICT_COUNT] = {
	[SCRUB_FAILED] = "failed",
	[SCRUB_PARTIAL] = "partial",
	[SCRUB_CLEAN] = "clean",
};

const char *const scrub_step_names[SCRUB_STEP_COUNT] = {
	[SCRUB_LOOK] = "look",
	[SCRUB_WAKE] = "wake",
	[SCRUB_MAP] = "map",
	[SCRUB_PROBE] = "probe",
	[SCRUB_ZERO] = "zero",
	[SCRUB_VERIFY] = "verify",
	[SCRUB_AFTER] = "look again",
	[SCRUB_DONE] = "done",
};

#define DRAIN "keep it from other tenants until the node was without power"

/* The first row that fits; SCRUB_STEP_COUNT: any step. */
static const struct {
	enum scrub_step step;
	int code;
	const char *why, *remedy;
} sayings[] = {
	{SCRUB_LOOK, -ENODEV, "it is not on this node", "plug it in"},
	{SCRUB_STEP_COUNT, -ENODEV, "it went while its memory was emptied", "plug it in again"},
	{SCRUB_STEP_COUNT, -EACCES, "the kernel asks for root", "run vgpud as root"},
	{SCRUB_STEP_COUNT, -EPERM,
		"the kernel does not let its memory be mapped (no root, or kernel lockdown)",
		"run vgpud as root; with Secure Boot, turn lockdown off"},
	{SCRUB_STEP_COUNT, -EROFS, "sysfs is read-only here", "run vgpud outside of the container"},
	{SCRUB_WAKE, -ETIMEDOUT, "it does not wake", "see dmesg; take the node's power"},
	{SCRUB_WAKE, -EIO, "it does not answer", "see dmesg; reset it, or take the node's power"},
	{SCRUB_MAP, -ENOENT, "the kernel offers no file for its memory",
		"use a kernel with CONFIG_PCI and its sysfs resources"},
	{SCRUB_MAP, -EINVAL, "a driver of the host claims its memory",
		"see /proc/iomem, and unload that driver"},
	{SCRUB_MAP, -EBADMSG, "the file of its memory is not as large as its BAR", DRAIN},
	{SCRUB_PROBE, -EIO, "its memory reads as ones", "reset it; " DRAIN},
	{SCRUB_VERIFY, -EIO, "its memory reads as ones", "reset it; " DRAIN},
	{SCRUB_AFTER, -EIO, "it does not answer since", "reset it; " DRAIN},
	{SCRUB_STEP_COUNT, -EINTR, "the process that does it was ended", "try again"},
};

static const char *size_text(uint64_t bytes, char *ret, size_t size)
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	unsigned unit = 0;

	while (unit + 1 < ARRAY_SIZE(units) && bytes && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	snprintf(ret, size, "%" PRIu64 " %s", bytes, units[unit]);
	return ret;
}

static int explain_partial(const struct scrub_result *r, const char *what, struct error *err)
{
	char beyond[40], window[40];

	size_text(r->unreached_bytes, beyond, sizeof(beyond));
	size_text(r->scrubbed_bytes, window, sizeof(window));
	if (r->unreached_bytes)
		return error_set(err, EUCLEAN,
			"%s: %s of its memory are not emptied: %s are, and the rest is beyond its "
			"window (turn on Resizable BAR in the firmware)",
			what, beyond, window);
	return error_set(err, EUCLEAN,
		"%s: %s of its memory are emptied, and that may not be all: %s (say how much it "
		"has: vram_mib in [gpu] of the configuration)",
		what, window, r->beyond);
}

static int explain_busy(const struct scrub_result *r, const char *what, struct error *err)
{
	const char *when = r->step == SCRUB_AFTER ? "its memory was emptied, and meanwhile "
						  : "its memory is not emptied: ";
	char text[160];

	if (r->holders.count || !r->holders.complete)
		return error_set(err, EBUSY, "%s: %s%s (end that first)", what, when,
			held_text(&r->holders, text, sizeof(text)));
	return error_set(err, EBUSY, "%s: %sits driver %s has it (let vfio-pci have it first)",
		what, when, r->driver[0] ? r->driver : "none");
}

int scrub_explain(const struct scrub_result *r, const char *what, struct error *err)
{
	char size[40];

	if (r->verdict == SCRUB_CLEAN)
		return 0;
	if (r->verdict == SCRUB_PARTIAL)
		return explain_partial(r, what, err);
	if (r->code == -EBUSY)
		return explain_busy(r, what, err);
	if (r->code == -EUCLEAN)
		return error_set(err, EUCLEAN,
			"%s: %" PRIu64 " bytes of its memory did not become zero, the first at "
			"0x%" PRIx64 " (" DRAIN "; the card may be broken)",
			what, r->bad_bytes, r->bad_at);
	if (r->code == -ENXIO)
		return error_set(err, ENXIO,
			"%s: what is written to its BAR %d at 0x%" PRIx64
			" is not kept: no memory is there that the host reaches (%s)",
			what, r->bar, r->bad_at,
			r->bad_at ? "say how much it has: vram_mib in [gpu] of the configuration"
				  : DRAIN);
	if (r->code == -ETIMEDOUT && r->step != SCRUB_WAKE)
		return error_set(err, ETIMEDOUT,
			"%s: emptying its %s took longer than it may, at step %s (see dmesg; " DRAIN
			")",
			what, size_text(r->window_bytes, size, sizeof(size)),
			scrub_step_names[r->step]);
	for (size_t i = 0; i < ARRAY_SIZE(sayings); i++) {
		if (sayings[i].code == r->code &&
			(sayings[i].step == SCRUB_STEP_COUNT || sayings[i].step == r->step))
			return error_set(err, -r->code, "%s: its memory is not emptied: %s (%s)",
				what, sayings[i].why, sayings[i].remedy);
	}
	return error_set(err, -r->code,
		"%s: its memory is not emptied: step %s fails: %s (" DRAIN ")", what,
		scrub_step_names[r->step], strerror(-r->code));
}
