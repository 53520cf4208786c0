/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vgpu-device, modified as somebody might who has taken one over: a vGPU whose name begins with
 * "rogue" does not know of time slices and gives the driver work whenever it has some. Any other is
 * as it ought to be. Linked with --wrap for both functions.
 */
#include "process/gate.h"
#include "process/options.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

int __real_gate_take(struct gate *gate, const struct keeper_grant *grant, int fd);
int __wrap_gate_take(struct gate *gate, const struct keeper_grant *grant, int fd);
int __real_options_parse(struct options *options, int argc, char **argv);
int __wrap_options_parse(struct options *options, int argc, char **argv);

static bool rogue;

int __wrap_options_parse(struct options *options, int argc, char **argv)
{
	int r = __real_options_parse(options, argc, argv);

	rogue = r == 0 && strncmp(options->name, "rogue", 5) == 0;
	return r;
}

int __wrap_gate_take(struct gate *gate, const struct keeper_grant *grant, int fd)
{
	if (!rogue)
		return __real_gate_take(gate, grant, fd);
	close(fd);
	return 0;
}
