/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_BASE_LOOP_H
#define VGPU_BASE_LOOP_H

/*
 * A single-threaded epoll loop for the device process and the keeper: level-triggered fds, one-shot
 * deferred calls, one periodic tick. (vgpud uses sd-event instead.)
 *
 * A callback may remove any source, its own included: sources are freed only after the batch of
 * events they came in was handled.
 */

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_source;

typedef void (*loop_fd_fn)(void *data, uint32_t epoll_events);
typedef void (*loop_fn)(void *data);

int loop_create(struct loop **ret);
void loop_destroy(struct loop *loop); /* NULL-safe; frees all sources, closes none of their fds */

/* Watches `fd` (not owned). `events` are EPOLLIN etc. Returns -errno. */
int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *data,
	struct loop_source **ret);
int loop_set_events(struct loop_source *source, uint32_t events);
void loop_remove(struct loop_source *source); /* NULL-safe */

/*
 * Calls fn(data) before the loop next blocks, each time the loop comes round, until removed.
 * This is where a device runs what is left over within a budget: return false to block again.
 */
typedef bool (*loop_idle_fn)(void *data);
void loop_set_idle(struct loop *loop, loop_idle_fn fn, void *data);

/* Calls fn(data) once, when the loop is woken next, before anything else is called. */
void loop_set_woken(struct loop *loop, loop_fn fn, void *data);

/* Runs fn(data) once after `delay_ms`; re-arm by calling again. NULL fn disarms. One per loop. */
void loop_set_timer(struct loop *loop, uint64_t delay_ms, loop_fn fn, void *data);

/* Runs until loop_quit(), and may run again; returns its status, or -errno if epoll itself fails.
 */
int loop_run(struct loop *loop);

/* Would the loop call somebody now? For who works within a call and can leave off. */
bool loop_ready(const struct loop *loop);

/* When the events at hand were reported, by base/clock.h; 0: none were yet. */
uint64_t loop_woken_ns(const struct loop *loop);
void loop_quit(struct loop *loop, int status);

#endif
