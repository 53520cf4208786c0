/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_SHADER_CACHE_H
#define VGPU_PROCESS_SHADER_CACHE_H

/*
 * Compiled shaders, kept from one device process to the next: within a binding in the keeper's
 * custody, from one binding to the next of its tenant in an archive (shaders/shaders.h).
 *
 * They are no state: without them a successor compiles again what the guest gave, which is most of
 * what a client waits for after a start, a move, a recovery or waking. The driver (Mesa) keeps them
 * in files if told to: one with the compiled code, one that says where in it each is, and a table
 * of the source texts known. It opens them when it starts and at no other time.
 *
 *   begin    before the driver starts: it shall use the private file system, bounded in size
 *   open     after it has: the same files are opened once more, for the keeper's custody
 *   give     after lock-down: what others left is added to this process' own files, where the
 *            driver finds it: it looks at what was appended whenever it misses a shader
 *
 * Files of a predecessor that was taken over can hold anything, machine code included; so can an
 * archive, which was made from such. So they are looked at after lock-down only, never used in
 * place, and never given to another tenant: what runs from them runs where that tenant's shaders
 * run anyway. Nothing is remembered of files that are not what the driver writes; shaders are then
 * compiled.
 */

#include "shaders/shaders.h"

#define SHADER_CACHE_BYTES (32u << 20) /* of the private file system: no shader is added beyond */

struct shader_cache;

/*
 * `scratch` is the root of the private file system, taken. Changes the environment and the working
 * directory: no thread may run yet. 0 or -errno: nothing is kept.
 */
int shader_cache_begin(int scratch, struct shader_cache **ret);
/*
 * The driver has started; the working directory is "/" again. -ENOENT: it keeps no shaders, or
 * elsewhere. Then, too, all other calls are allowed and do nothing.
 */
int shader_cache_open(struct shader_cache *cache);
void shader_cache_destroy(struct shader_cache *cache); /* NULL-safe, as are those below */

/* Says which driver, and of which build, they are good for; 0: it keeps none. */
uint32_t shader_cache_driver(const struct shader_cache *cache);
/* For custody; stays the cache's. -1: there is none. */
int shader_cache_fd(const struct shader_cache *cache, enum shaders_driver_file file);
/*
 * Takes `fd`. When all files of a predecessor were given what is new in them is added; it may be
 * given again later. Returns how many shaders were added, or -errno (-EBADMSG: damaged).
 */
int shader_cache_give(struct shader_cache *cache, enum shaders_driver_file file, int fd);
/* Takes `fd`, an archive. Returns the same; -EBADMSG also: it is another driver's. */
int shader_cache_give_archive(struct shader_cache *cache, int fd);

#endif
