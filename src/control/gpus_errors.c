/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of PCI Express, as events. The kernel's word says of a function that recovery begins, that
 * it worked or failed; which errors they were is the difference of its counters since they were
 * last looked at. What was counted before vgpud came is nobody's news.
 *
 * A VM can make its GPU fail as often as it likes, so only some are told: with the first of them
 * how many were not, and what all of them were.
 *
 * This is what is left to see while a VM has the function: the errors' own eventfds are its VMM's.
 */
#include "control/gpus.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERRORS_BURST       4u /* of one GPU and stage; then one each interval */
#define ERRORS_INTERVAL_MS 10000u

struct seen {
	char address[PCI_ADDRESS_MAX];
	struct aer_counters counters;
	struct log_limit limits[AER_STAGE_COUNT]; /* that recovery failed is told in any case */
};

struct gpus_errors {
	struct seen list[VGPUD_MAX_GPUS];
	size_t count;
};

static struct seen *find(struct gpus_errors *errors, const char *address)
{
	for (size_t i = 0; i < errors->count; i++) {
		if (!strcmp(errors->list[i].address, address))
			return &errors->list[i];
	}
	return NULL;
}

void gpus_errors_begin(struct vgpud *d)
{
	if (!d->errors)
		d->errors = calloc(1, sizeof(*d->errors));
	struct gpus_errors *errors = d->errors;
	for (size_t i = 0; errors && i < d->n_gpus; i++) {
		const char *address = d->gpus[i].pci_address;
		if (d->gpus[i].gone || !pci_address_valid(address) || find(errors, address) ||
			errors->count == VGPUD_MAX_GPUS)
			continue;
		struct seen *seen = &errors->list[errors->count++];
		snprintf(seen->address, sizeof(seen->address), "%s", address);
		for (unsigned k = 0; k < AER_STAGE_COUNT; k++)
			seen->limits[k] = (struct log_limit){
				.burst = ERRORS_BURST, .interval_ms = ERRORS_INTERVAL_MS};
		aer_read(&d->roots, address, &seen->counters);
	}
}

void gpus_errors_close(struct vgpud *d)
{
	free(d->errors);
	d->errors = NULL;
}

static const struct gpu *gpu_at(const struct vgpud *d, const char *address)
{
	for (size_t i = 0; i < d->n_gpus; i++) {
		if (!d->gpus[i].gone && !strcmp(d->gpus[i].pci_address, address))
			return &d->gpus[i];
	}
	return NULL;
}

/* What was counted since it was last told; "" : nothing. */
static void say_which(const struct vgpud *d, struct seen *seen, char *ret, size_t size)
{
	cleanup_free struct aer_counters *now = malloc(sizeof(*now));

	ret[0] = '\0';
	if (!now)
		return;
	aer_read(&d->roots, seen->address, now);
	aer_difference(&seen->counters, now, ret, size);
	seen->counters = *now;
}

void gpus_error(void *data, const char *address, enum aer_stage stage)
{
	struct vgpud *d = data;
	char which[AER_TEXT_MAX], left_out[48] = "";
	const char *remedy = aer_stage_remedy(stage);
	const struct gpu *gpu = gpu_at(d, address);

	if (!gpu)
		return;
	gpus_errors_begin(d);
	struct seen *seen = d->errors ? find(d->errors, address) : NULL;
	if (!seen)
		return;
	uint32_t not_told = seen->limits[stage].suppressed;
	if (!log_limit_pass(&seen->limits[stage]))
		return;
	say_which(d, seen, which, sizeof(which));
	if (not_told)
		snprintf(left_out, sizeof(left_out), "; %u such events were left out", not_told);
	events_add(&d->events, "", "%s: PCIe error: %s%s%s%s%s%s%s", gpu->name,
		aer_stage_text(stage), which[0] ? ": " : "", which, left_out, remedy ? " (" : "",
		remedy ? remedy : "", remedy ? ")" : "");
}
