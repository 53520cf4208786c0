/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/memory_claim.h"

#include "base/clock.h"
#include "keeper/keeper.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool pace_pass(struct memory_pace *pace, uint64_t now)
{
	uint64_t earned = (now - pace->last_ms) / MEMORY_CLAIM_MS;

	if (earned) {
		pace->spent = earned >= pace->spent ? 0 : pace->spent - (uint32_t)earned;
		pace->last_ms = now;
	}
	if (pace->spent >= MEMORY_CLAIM_BURST)
		return false;
	pace->spent++;
	return true;
}

static void claim(struct device_process *d)
{
	struct keeper *k = d->keeper;
	struct keeper_verdict verdict = {.serial = d->claim_serial};
	int r;

	if (d->staging) /* it can have no other memory than its predecessor */
		r = custody_has_claimed(&k->custody, &d->staged) ? 0 : -EPERM;
	else
		r = custody_claim_memory(&k->custody);
	if (r == 0) {
		memory_changed(d, d->claim_serial);
		return;
	}
	if (r == -EBUSY)
		snprintf(verdict.reason, sizeof(verdict.reason),
			"this VM already holds another vGPU (rule: one vGPU per VM)");
	else
		snprintf(verdict.reason, sizeof(verdict.reason),
			"the guest's memory cannot be claimed: %s", strerror(-r));
	control_event(k, "refused: %s", verdict.reason);
	device_verdict(d, &verdict);
}

static void claim_all(struct keeper *k, uint64_t now)
{
	struct memory_pace *pace = &k->memory.pace;

	for (uint32_t i = 0, first = pace->turn; i < KEEPER_PROCESSES; i++) {
		uint32_t at = (first + i) % KEEPER_PROCESSES;
		struct device_process *d = &k->processes[at];
		if (!d->claim_waits)
			continue;
		if (!pace_pass(pace, now)) {
			pace->due = pace->due ?: now + MEMORY_CLAIM_MS;
			keeper_set_timer(k);
			return;
		}
		pace->turn = (at + 1) % KEEPER_PROCESSES;
		d->claim_waits = false;
		claim(d);
	}
	pace->due = 0;
}

void memory_claim(struct device_process *d, uint32_t serial)
{
	d->claim_serial = serial;
	d->claim_waits = true;
	claim_all(d->keeper, clock_ms());
}

void memory_claim_check_time(struct keeper *k, uint64_t now)
{
	struct memory_pace *pace = &k->memory.pace;

	if (!pace->due || now < pace->due)
		return;
	pace->due = 0;
	claim_all(k, now);
}

uint64_t memory_claim_next_time(const struct keeper *k)
{
	return k->memory.pace.due ?: UINT64_MAX;
}
