/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/fences.h"

#include "renderer/virgl/gl_context.h"

#include "base/log.h"

#include <epoxy/egl.h>
#include <epoxy/gl.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct virgl_fence {
	GLsync sync;
	uint64_t id;
	struct virgl_fence *next;
};

struct virgl_fences {
	EGLDisplay display;
	EGLContext context;
	pthread_t thread;
	int event_fd;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* the queue grew, emptied, or must end */
	struct virgl_fence *first, **last;
	bool waiting; /* the thread is inside a wait for a fence it took off the queue */
	bool ended;
	enum { FENCES_STARTING, FENCES_RUNNING, FENCES_NO_CONTEXT } thread_state;
	bool failed;          /* a wait ended otherwise than by the fence */
	struct log_limit log; /* of the thread */
	uint64_t done;        /* highest id complete */
};

/* False: the driver failed, and what came before the fence may not be complete. */
static bool fence_wait(const struct virgl_fence *fence)
{
	const GLuint64 second = 1000000000;
	GLenum r;

	do {
		r = glClientWaitSync(fence->sync, 0, second);
	} while (r == GL_TIMEOUT_EXPIRED);
	glDeleteSync(fence->sync);
	return r == GL_ALREADY_SIGNALED || r == GL_CONDITION_SATISFIED;
}

static void *fences_thread(void *data)
{
	struct virgl_fences *f = data;
	const uint64_t one = 1;

	bool current = eglBindAPI(EGL_OPENGL_API) &&
		       eglMakeCurrent(f->display, EGL_NO_SURFACE, EGL_NO_SURFACE, f->context);
	pthread_mutex_lock(&f->lock);
	f->thread_state = current ? FENCES_RUNNING : FENCES_NO_CONTEXT;
	pthread_cond_broadcast(&f->changed);
	while (current) {
		while (!f->first && !f->ended)
			pthread_cond_wait(&f->changed, &f->lock);
		struct virgl_fence *fence = f->first;
		if (!fence)
			break;
		f->first = fence->next;
		if (!f->first)
			f->last = &f->first;
		f->waiting = true;
		pthread_mutex_unlock(&f->lock);
		bool done = fence_wait(fence);
		pthread_mutex_lock(&f->lock);
		f->waiting = false;
		f->failed |= !done;
		if (fence->id && !f->failed)
			f->done = fence->id;
		if (!f->first)
			pthread_cond_broadcast(&f->changed);
		if ((fence->id || f->failed) && write(f->event_fd, &one, sizeof(one)) < 0)
			log_limited(&f->log, LOG_LEVEL_ERROR,
				"the fence event could not be raised: %m");
		free(fence);
	}
	pthread_mutex_unlock(&f->lock);
	if (current)
		eglMakeCurrent(f->display, EGL_NO_SURFACE, EGL_NO_SURFACE, EGL_NO_CONTEXT);
	return NULL;
}

static bool fences_thread_runs(struct virgl_fences *f)
{
	pthread_mutex_lock(&f->lock);
	while (f->thread_state == FENCES_STARTING)
		pthread_cond_wait(&f->changed, &f->lock);
	bool runs = f->thread_state == FENCES_RUNNING;
	pthread_mutex_unlock(&f->lock);
	return runs;
}

int virgl_fences_create(struct virgl_fences **ret)
{
	struct virgl_fences *f = calloc(1, sizeof(*f));
	int err = -ENOMEM;

	if (!f)
		return err;
	f->last = &f->first;
	f->log = (struct log_limit)LOG_LIMIT_INIT;
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	f->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->event_fd < 0) {
		err = -errno;
		goto free_fences;
	}
	f->display = eglGetCurrentDisplay();
	f->context = gl_context_shared(f->display);
	if (f->context == EGL_NO_CONTEXT) {
		err = -ENODEV;
		goto close_event;
	}
	err = -pthread_create(&f->thread, NULL, fences_thread, f);
	if (err < 0)
		goto destroy_context;
	if (!fences_thread_runs(f)) {
		pthread_join(f->thread, NULL);
		err = -ENODEV;
		goto destroy_context;
	}
	*ret = f;
	return 0;

destroy_context:
	eglDestroyContext(f->display, f->context);
close_event:
	close(f->event_fd);
free_fences:
	free(f);
	return err;
}

void virgl_fences_destroy(struct virgl_fences *f)
{
	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	f->ended = true;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->thread, NULL);
	eglDestroyContext(f->display, f->context);
	close(f->event_fd);
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

int virgl_fences_push(struct virgl_fences *f, uint64_t id)
{
	struct virgl_fence *fence = calloc(1, sizeof(*fence));
	if (!fence)
		return -ENOMEM;
	fence->id = id;
	fence->sync = glFenceSync(GL_SYNC_GPU_COMMANDS_COMPLETE, 0);
	if (!fence->sync) {
		free(fence);
		return -ENOMEM;
	}
	glFlush();
	pthread_mutex_lock(&f->lock);
	*f->last = fence;
	f->last = &fence->next;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
	return 0;
}

int virgl_fences_fd(const struct virgl_fences *f)
{
	return f->event_fd;
}

uint64_t virgl_fences_reap(struct virgl_fences *f)
{
	uint64_t count;

	/* Without news there is nothing to read, and news stay readable. */
	(void)!read(f->event_fd, &count, sizeof(count));
	pthread_mutex_lock(&f->lock);
	uint64_t done = f->done;
	pthread_mutex_unlock(&f->lock);
	return done;
}

bool virgl_fences_failed(struct virgl_fences *f)
{
	pthread_mutex_lock(&f->lock);
	bool failed = f->failed;
	pthread_mutex_unlock(&f->lock);
	return failed;
}

void virgl_fences_wait(struct virgl_fences *f)
{
	pthread_mutex_lock(&f->lock);
	while (f->first || f->waiting)
		pthread_cond_wait(&f->changed, &f->lock);
	pthread_mutex_unlock(&f->lock);
}
