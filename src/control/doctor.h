/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_DOCTOR_H
#define VGPU_CONTROL_DOCTOR_H

/* Runs the checks of host/doctor.h in a child process, so that none of them holds vgpud up. */

#include "control/vgpud.h"

#include <jansson.h>

#define DOCTOR_MS 20000u

/* `checks` (an array, never NULL) is the callee's. Called once, later. */
typedef void (*doctor_done)(void *data, json_t *checks);

int doctor_start(struct vgpud *d, doctor_done done, void *data, struct error *err);

#endif
