/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_METRICS_PROMETHEUS_H
#define VGPU_METRICS_PROMETHEUS_H

/*
 * Prometheus' text format, version 0.0.4, made from the table in metrics/account.h: each row is a
 * family vgpud_NAME with the label `vgpu`, in base units, so X_ns_total is vgpud_X_seconds_total.
 * Frame times are a histogram. What a vGPU is (GPU, type, method, state) is in the labels of
 * vgpud_vgpu_info, to be joined: labels that change would begin new series.
 */

#include "metrics/account.h"

#include <stddef.h>
#include <stdio.h>

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Beside the table: X(name, kind, help), numbers that the keeper knows. */
#define METRICS_EVENTS_TABLE(X)                                                                    \
	X(device_starts_total, COUNTER, "device processes started")                                \
	X(recoveries_total, COUNTER, "times a new device process went on for one that died")       \
	X(moves_total, COUNTER, "to another GPU, or another process on the same")                  \
	X(wakes_total, COUNTER, "from hibernation")

/* One vGPU; texts are borrowed and may hold any bytes. */
struct metrics_vgpu {
	const char *name, *gpu, *type, *method, *state;
	const struct metrics_values *values;
#define X(name, kind, help) uint64_t name;
	METRICS_EVENTS_TABLE(X)
#undef X
};

void metrics_print(FILE *out, const struct metrics_vgpu *vgpus, size_t n);

#endif
