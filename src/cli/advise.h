/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CLI_ADVISE_H
#define VGPU_CLI_ADVISE_H

/* What the files of `advise` share: measuring an answer here, on a vGPU that lives meanwhile. */

#include "cli/cli.h"

#include <signal.h>

#define ADVISE_NAME     "advise-" /* and our pid: a vGPU that is there to be measured */
#define ADVISE_PROBE_S  "3"
#define ADVISE_LIMIT_MS 30000u

struct measuring {
	struct cli *cli;
	const volatile sig_atomic_t *stop;
	char probe[4096]; /* vgpu-probe */
	char vgpuctl[4096];
	char name[64];  /* of the vGPU */
	json_t *native; /* what the probe said on the host's driver; NULL: nothing */
	char native_gpu[64];
};

/*
 * Adds "measured" to each answer of an advice that can be measured here: emulate and forward where
 * they are possible. Others get {"not_measured": why}. Takes about ten seconds for each; -EINTR
 * when it was interrupted. Whatever it made is gone again when it returns.
 */
int advise_measure(struct cli *cli, json_t *advice, struct error *err);
/* Before advice is asked for: deletes what a process that was killed left behind. */
void advise_clear(struct cli *cli);

/* advise_verbs.c: which verbs work on that vGPU while a client draws on it: an object. */
json_t *advise_try_verbs(const struct measuring *m, const char *gpu);

#endif
