/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_DOCTOR_H
#define VGPU_HOST_DOCTOR_H

/*
 * What works on this node and what does not, found by trying it. Takes seconds; each program it
 * runs is ended after DOCTOR_PROGRAM_MS. To be run as the user the answer is for.
 */

#include "host/sysfs.h"

#include <jansson.h>

#define DOCTOR_PROGRAM_MS 8000

/* An array of {check, status: ok|warn|fail, detail, advice}. `device`: the vgpu-device program. */
json_t *host_doctor(const char *device, const struct host_roots *roots);

#endif
