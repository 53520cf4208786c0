/* SPDX-License-Identifier: Apache-2.0 */
#include "process/configure.h"

#include "base/checked.h"
#include "device/device.h"

#include <errno.h>
#include <string.h>

#define CONFIGURE_ARGS 64 /* more than vgpu-device has options */

/* Points at the strings of `args`, behind argv[0]; their number with it, or -EINVAL. */
static int configure_argv(struct standby_args *args, char *argv[CONFIGURE_ARGS])
{
	static char program[] = "vgpu-device";
	char *at = args->text, *end = args->text + sizeof(args->text);
	int n = 0;

	argv[n++] = program;
	if (args->n >= CONFIGURE_ARGS - 1)
		return -EINVAL;
	for (uint32_t i = 0; i < args->n; i++) {
		char *stop = at < end ? memchr(at, '\0', (size_t)(end - at)) : NULL;
		if (!stop)
			return -EINVAL;
		argv[n++] = at;
		at = stop + 1;
	}
	argv[n] = NULL;
	return n;
}

int configure_late(struct configure *c, const struct standby_args *args)
{
	char *argv[CONFIGURE_ARGS];
	struct options options;

	if (!c->options->standby)
		return -EALREADY;
	c->args = *args;
	int argc = configure_argv(&c->args, argv);
	if (argc < 0)
		return argc;
	int err = options_parse_late(c->options, argc, argv, &options);
	if (err < 0)
		return err;
	const struct device_late_config late = {.name = options.name,
		.vram_bytes = (uint64_t)options.vram_mib << 20,
		.heads = options.heads,
		.max_width = options.max_width,
		.max_height = options.max_height,
		.max_fps = options.max_fps};
	err = device_configure(c->device, &late);
	if (err < 0)
		return err;
	*c->options = options;
	return 0;
}
