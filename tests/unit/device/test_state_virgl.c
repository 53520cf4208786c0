/* SPDX-License-Identifier: Apache-2.0 */
/* The same with the real library: each process of its own, as it is in life. */
#include "state_fixture.h"

#include "device/private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define QUOTA (64u << 20)
#define ROOM  (32u << 20)

/* Memory that all of them see. */
struct shared {
	size_t size[3];
	uint8_t bytes[3][ROOM];
};

/* Draws on, in what was drawn before. */
static void go_on(struct device *dev)
{
	uint32_t dw[64];
	unsigned n;

	for (struct device_client *c = dev->clients; c; c = c->next) {
		n = fake_put_clear(dw, 0x3f000000); /* 0.5 */
		n += fake_put_query_end(dw + n, 21);
		assert_int_equal(device_submit(c, 1, dw, n), 0);
	}
}

static void keep(struct shared *s, unsigned which, struct device *dev)
{
	struct image image = image_save(dev, false);
	if (image.size > ROOM)
		_exit(3);
	memcpy(s->bytes[which], image.bytes, image.size);
	s->size[which] = image.size;
	image_free(&image);
}

/* 0: lives on undisturbed, 1: ends after the scene, 2: takes up and goes on. */
static void process(struct shared *s, unsigned role)
{
	const struct renderer_ops *virgl = renderer_find("virgl");
	struct image image = {.bytes = s->bytes[1], .size = s->size[1]};
	struct vgpu v;
	char why[256];

	vgpu_start(&v, virgl, QUOTA);
	if (!v.dev->ops->content_read)
		_exit(77);
	if (role == 2) {
		if (image_load(v.dev, NULL, &image, why) < 0) {
			fprintf(stderr, "%s\n", why);
			_exit(2);
		}
	} else {
		scene_build(v.dev, false);
	}
	if (role != 1)
		go_on(v.dev);
	keep(s, role, v.dev);
	vgpu_stop(&v);
	_exit(0);
}

static void run(struct shared *s, unsigned role)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		alarm(60);
		process(s, role);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

static void test_another_process_goes_on(void **state)
{
	struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(s, MAP_FAILED);
	for (unsigned role = 0; role < 3; role++)
		run(s, role);
	assert_int_equal(s->size[0], s->size[2]);
	assert_memory_equal(s->bytes[0], s->bytes[2], s->size[0]);
	/* Going on has changed something. */
	assert_false(s->size[0] == s->size[1] && !memcmp(s->bytes[0], s->bytes[1], s->size[0]));
	munmap(s, sizeof(*s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_another_process_goes_on),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
