/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into glmark2: counts the frames it has finished in a file that is mapped, FRAMES_FILE.
 * Off-screen it ends each frame with glFinish(), which it looks up by name; so does the library
 * through which it does.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LOOKUP "glXGetProcAddress" /* and …ARB */

static uint64_t *frames;
static void (*finish)(void);
static void *(*lookup)(const char *name);

static void counted_finish(void)
{
	finish();
	if (frames)
		__atomic_add_fetch(frames, 1, __ATOMIC_RELAXED);
}

/* Stands in for a function that was found. */
static void *stand_in(const char *name, void *found);

static void *counted_lookup(const char *name)
{
	return stand_in(name, lookup(name));
}

static void *stand_in(const char *name, void *found)
{
	if (found && strcmp(name, "glFinish") == 0) {
		*(void **)&finish = found;
		*(void (**)(void)) & found = counted_finish;
	} else if (found && strncmp(name, LOOKUP, strlen(LOOKUP)) == 0) {
		*(void **)&lookup = found;
		*(void *(**)(const char *)) & found = counted_lookup;
	}
	return found;
}

static void __attribute__((constructor)) map_frames(void)
{
	const char *path = getenv("FRAMES_FILE");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map = fd < 0 ? MAP_FAILED
			   : mmap(NULL, sizeof(*frames), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	frames = map == MAP_FAILED ? NULL : map;
	if (fd >= 0)
		close(fd);
}

void *dlsym(void *restrict library, const char *restrict name)
{
	static void *(*real)(void *, const char *);

	if (!real)
		*(void **)&real = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
	return stand_in(name, real(library, name));
}
