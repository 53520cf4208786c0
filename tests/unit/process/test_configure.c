/* SPDX-License-Identifier: Apache-2.0 */
/* A stand-by's second command line. */
#include "process/configure.h"

#include "device/device.h"

#include "protocol/stats.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct standby {
	struct options options;
	struct vgpu_stats stats;
	struct configure configure;
};

static void standby_start(struct standby *s)
{
	char *argv[] = {"vgpu-device", "--name", "standby", "--renderer", "null", "--vram-mib",
		"64", "--formats", "/f", "--standby", "--keeper-fd", "3", "--stats-fd", "4", NULL};

	*s = (struct standby){0};
	assert_int_equal(options_parse(&s->options, 14, argv), 0);
	assert_true(s->options.standby);
	const struct device_config config = {.name = s->options.name,
		.vram_bytes = (uint64_t)s->options.vram_mib << 20,
		.heads = 1,
		.max_width = 1920,
		.max_height = 1200,
		.renderer_ops = renderer_find("null"),
		.stats = &s->stats};
	const struct device_events events = {0};
	s->configure.options = &s->options;
	assert_int_equal(device_create(&config, &events, NULL, &s->configure.device), 0);
}

/* The words of `line`, one after another. */
static int standby_tell(struct standby *s, const char *line)
{
	struct standby_args args = {0};
	size_t len = strlen(line);

	assert_true(len < sizeof(args.text));
	memcpy(args.text, line, len + 1);
	args.n = len != 0;
	for (size_t i = 0; i < len; i++) {
		if (args.text[i] == ' ') {
			args.text[i] = '\0';
			args.n++;
		}
	}
	return configure_late(&s->configure, &args);
}

static void test_it_becomes_what_it_is_told(void **state)
{
	struct standby s;

	standby_start(&s);
	assert_int_equal(standby_tell(&s, "--name a --renderer null --vram-mib 256 --heads 2 "
					  "--max-width 800 --max-height 640 --formats /f"),
		0);
	assert_string_equal(s.options.name, "a");
	assert_int_equal(s.options.keeper_fd, 3);
	assert_int_equal(s.stats.vram_limit_bytes, 256u << 20);
	assert_int_equal(device_heads(s.configure.device), 2);
	assert_int_equal(device_preferred_mode(s.configure.device, 0).width, 800);
	assert_int_equal(
		standby_tell(&s, "--name b --renderer null --vram-mib 1 --formats /f"), -EALREADY);
	assert_string_equal(s.options.name, "a");
	device_destroy(s.configure.device);
}

static void test_what_it_is_not_told(void **state)
{
	static const char *const wrong[] = {
		"",
		"--name a --renderer null --formats /f",       /* no memory */
		"--renderer virgl --vram-mib 64 --formats /f", /* another renderer */
		"--renderer null --vram-mib 64",               /* without its file */
		"--renderer null --vram-mib 64 --formats /g",  /* another file */
		"--renderer null --vram-mib 64 --formats /f --exact-only",
		"--renderer null --vram-mib 64 --formats /f --lockdown off",
		"--renderer null --vram-mib 64 --formats /f --keeper-fd 5",
		"--renderer null --vram-mib 64 --formats /f more",
		"--nonsense",
		"--renderer null --vram-mib 64 --formats /f --heads 17",
		"--renderer null --vram-mib -1 --formats /f",
		"--vram-mib",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct standby s;
		standby_start(&s);
		assert_int_equal(standby_tell(&s, wrong[i]), -EINVAL);
		assert_string_equal(s.options.name, "standby");
		assert_true(s.options.standby);
		device_destroy(s.configure.device);
	}
}

static void test_a_text_that_does_not_end(void **state)
{
	struct standby_args args = {.n = 1};
	struct standby s;

	standby_start(&s);
	memset(args.text, 'x', sizeof(args.text));
	assert_int_equal(configure_late(&s.configure, &args), -EINVAL);
	args.n = UINT32_MAX;
	assert_int_equal(configure_late(&s.configure, &args), -EINVAL);
	device_destroy(s.configure.device);
}

static void test_not_while_it_has_clients(void **state)
{
	struct device_client *client;
	struct standby s;

	standby_start(&s);
	assert_int_equal(device_client_create(s.configure.device, "c", &client), 0);
	assert_int_equal(standby_tell(&s, "--renderer null --vram-mib 256 --formats /f"), -EBUSY);
	device_destroy(s.configure.device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_becomes_what_it_is_told),
		cmocka_unit_test(test_what_it_is_not_told),
		cmocka_unit_test(test_a_text_that_does_not_end),
		cmocka_unit_test(test_not_while_it_has_clients),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
