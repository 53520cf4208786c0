/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into a vgpu-device to make one that ignores its share: besides its work it has threads
 * that do nothing but use CPU time, as one that was taken over by its guest might. They begin a
 * moment after it has started, within its lock-down.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define BURNERS 4
#define AFTER_S 1

static time_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static void *burn(void *data)
{
	for (;;)
		;
	return NULL;
}

static void begin(void)
{
	static atomic_bool begun;
	pthread_t thread;

	if (atomic_exchange(&begun, true))
		return;
	for (int i = 0; i < BURNERS; i++)
		pthread_create(&thread, NULL, burn, NULL);
}

int epoll_wait(int fd, struct epoll_event *events, int count, int timeout_ms)
{
	static _Atomic time_t first;
	static int (*real)(int, struct epoll_event *, int, int);
	time_t none = 0;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "epoll_wait");
	if (!real)
		abort();
	atomic_compare_exchange_strong(&first, &none, seconds());
	if (seconds() > first + AFTER_S)
		begin();
	return real(fd, events, count, timeout_ms);
}
