/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_SHADER_ADDING_H
#define VGPU_PROCESS_SHADER_ADDING_H

/*
 * Appends compiled shaders to the driver's files: a piece of the data, then what the index says of
 * it, so that whatever is interrupted in between leads nobody astray.
 */

#include "shaders/shaders.h"

struct shader_adding {
	int data, index;                   /* the driver's files */
	int from;                          /* file with the contents */
	bool from_index;                   /* the list is another driver's index, and not checked */
	const struct shaders_entry *known; /* in the driver's files already, sorted */
	size_t n_known;
};

/*
 * `list` is changed. How many were added, those before the first that is damaged; or -errno, then
 * what came before is added (-ENOSPC: there was no room).
 */
int shader_adding_run(const struct shader_adding *adding, struct shaders_list *list);

#endif
