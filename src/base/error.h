/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_BASE_ERROR_H
#define VGPU_BASE_ERROR_H

/*
 * The error object of control-plane boundaries: a number for programs, and one line for people that
 * says what failed, why, and what to do: "WHAT: WHY (WHAT TO DO)". Everything below those
 * boundaries returns 0 or -errno and no text.
 */

#include <stddef.h>

#define ERROR_TEXT_MAX 512

struct error {
	int code; /* positive errno; 0: no error */
	char text[ERROR_TEXT_MAX];
};

/* Fills *err (may be NULL) and returns -code. */
int error_set(struct error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
