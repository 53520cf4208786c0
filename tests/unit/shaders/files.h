/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_SHADERS_FILES_H
#define TESTS_UNIT_SHADERS_FILES_H

/* The driver's files, as it writes them, in memory. */

#include "shaders/shaders.h"

#include <stddef.h>
#include <stdint.h>

struct files {
	int fd[SHADERS_DRIVER_FILES];
};

void files_make(struct files *files);
void files_close(struct files *files);
/* Appends a shader with that key, whose bytes are all the key's last. */
void files_add(const struct files *files, unsigned key, size_t bytes);
void files_add_text(const struct files *files, unsigned place, uint8_t number);
/* The offset of the header of the shader added last. */
uint64_t files_last(const struct files *files);

#endif
