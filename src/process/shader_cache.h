/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_SHADER_CACHE_H
#define VGPU_PROCESS_SHADER_CACHE_H

/*
 * Compiled shaders, kept from one device process of a binding to the next.
 *
 * They are no state: without them a successor compiles again what the guest gave, which is most of
 * what a client waits for after a move, a recovery or waking. The driver (Mesa) keeps them in files
 * if told to: one with the compiled code, one that says where in it each is, and a table of the
 * source texts known. It opens them when it starts and at no other time.
 *
 *   begin    before the driver starts: it shall use the private file system, bounded in size
 *   open     after it has: the same files are opened once more, for the keeper's custody
 *   give     after lock-down: what a predecessor left is added to this process' own files, where
 *            the driver finds it: it looks at what was appended whenever it misses a shader
 *
 * Files of a predecessor that was taken over can hold anything, machine code included. So they are
 * looked at after lock-down only, never used in place, and never given to another binding: what
 * runs from them runs where that guest's shaders run anyway. Nothing is remembered of files that
 * are not what the driver writes; shaders are then compiled.
 *
 * The files are Fossilize databases (github.com/ValveSoftware/Fossilize, fossilize_db.cpp): a magic
 * of 16 bytes, then entries of 40 hex digits, a header of four 32-bit numbers (bytes, format,
 * CRC-32, bytes uncompressed) and the bytes; those of the second file are an offset into the first,
 * of the header.
 */

#include <stddef.h>

#define SHADER_CACHE_BYTES (32u << 20) /* of the private file system: no shader is added beyond */

enum shader_cache_file { SHADER_CACHE_DATA, SHADER_CACHE_INDEX, SHADER_CACHE_TEXTS };
#define SHADER_CACHE_FILES 3u

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

/* For custody; stays the cache's. -1: there is none. */
int shader_cache_fd(const struct shader_cache *cache, enum shader_cache_file file);
/*
 * Takes `fd`. When all files of a predecessor were given what is new in them is added; it may be
 * given again later. Returns how many shaders were added, or -errno (-EBADMSG: damaged).
 */
int shader_cache_give(struct shader_cache *cache, enum shader_cache_file file, int fd);

#endif
