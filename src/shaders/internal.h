/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_SHADERS_INTERNAL_H
#define VGPU_SHADERS_INTERNAL_H

/* Shared by store.c (what an archive gets) and folder.c (the archives there are). */

#include "shaders/shaders.h"

#define NAME_BYTES   64u    /* of an archive, with its end */
#define FRESH_SUFFIX ".new" /* of one that is being written */

/* Waits until nobody else changes the folder; a descriptor that holds the lock, or -errno. */
int folder_lock(int folder);
/*
 * With the lock held: removes what interrupted ones left, and archives other than `stays`, those
 * longest unused first, while there are too many of them or they have more than `budget` bytes.
 */
int folder_make_room(int folder, const char *stays, uint64_t budget);

#endif
