/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_CONFIGURE_H
#define VGPU_PROCESS_CONFIGURE_H

/*
 * The second half of a stand-by's command line, which comes as a message once it is ready:
 * protocol/standby.h says what may be told so late. Everything else must be as it was started.
 */

#include "process/options.h"

#include "protocol/standby.h"

struct device;

struct configure {
	struct options *options; /* not owned; its texts may point into `args` afterwards */
	struct device *device;
	struct standby_args args;
};

/*
 * Makes the stand-by that vGPU's device process. -EALREADY: it is no stand-by, or not any more;
 * -EINVAL: the command line is broken or says something else than the one it was started with;
 * another -errno. Whoever gets an error has to end.
 */
int configure_late(struct configure *c, const struct standby_args *args);

#endif
