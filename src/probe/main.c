/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vgpu-probe: what a GPU, or a vGPU, offers a program, and how fast it draws one scene. It runs as
 * `vgpuctl advise --measure` starts it: once on the host's driver, once on a vGPU of each method.
 * It knows nothing of vgpud, draws off screen, and prints one line of JSON.
 *
 *	vgpu-probe [--device /dev/dri/renderDN] [--seconds S]     what is offered, and frames a
 *second vgpu-probe [--device ...] --hold S     draws the same frame 20 times a second, for S
 *seconds or until SIGTERM, and says how many came out otherwise
 */
#include "probe/probe.h"

#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_MAX   600.0
#define HOLD_FRAME_MS 50

struct options {
	const char *device;
	double seconds;
	bool hold;
};

static bool parse_seconds(const char *text, double *ret)
{
	char *end;

	*ret = strtod(text, &end);
	return end != text && !*end && *ret > 0 && *ret <= SECONDS_MAX;
}

static bool parse(int argc, char **argv, struct options *ret)
{
	static const struct option options[] = {{"device", required_argument, NULL, 'd'},
		{"seconds", required_argument, NULL, 's'}, {"hold", required_argument, NULL, 'h'},
		{0}};
	bool good = true;

	for (int c; good && (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (c == 'd')
			ret->device = optarg;
		else if (c == 's' || c == 'h')
			good = parse_seconds(optarg, &ret->seconds);
		else
			good = false;
		ret->hold |= c == 'h';
	}
	return good && optind == argc;
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int measure(const struct options *options)
{
	struct probe_offer gl, gles;
	unsigned frames = 0;

	if (probe_open(options->device, PROBE_GLES, &gles) < 0)
		gles = (struct probe_offer){.version = "none"};
	probe_close();
	if (probe_open(options->device, PROBE_GL, &gl) < 0 || probe_scene_begin() < 0)
		return EXIT_FAILURE;
	uint64_t picture = probe_still();
	for (unsigned i = 0; i < PROBE_WARM_UP; i++)
		probe_frame(i);
	probe_finish();
	double begin = now_s(), took = 0;
	while (took < options->seconds) {
		probe_frame(frames++);
		took = now_s() - begin;
	}
	probe_finish();
	took = now_s() - begin;
	printf("{\"renderer\": ");
	probe_print_text(gl.renderer);
	printf(", \"gl_version\": ");
	probe_print_text(gl.version);
	printf(", \"gl_extensions\": %u, \"gles_version\": ", gl.extensions);
	probe_print_text(gles.version);
	printf(", \"gles_extensions\": %u, \"frames\": %u, \"seconds\": %.3f, "
	       "\"frames_per_s\": %.2f, \"picture\": \"%016llx\"}\n",
		gles.extensions, frames, took, frames / took, (unsigned long long)picture);
	return EXIT_SUCCESS;
}

static int hold(const struct options *options)
{
	unsigned frames = 0, different = 0;
	struct probe_offer gl;

	if (probe_open(options->device, PROBE_GL, &gl) < 0 || probe_scene_begin() < 0)
		return EXIT_FAILURE;
	uint64_t picture = probe_still();
	puts("ready");
	fflush(stdout);
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	double begin = now_s();
	do {
		different += probe_still() != picture;
		frames++;
	} while (poll(&input, 1, HOLD_FRAME_MS) == 0 && now_s() - begin < options->seconds);
	printf("{\"frames\": %u, \"different\": %u}\n", frames, different);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct options options = {.seconds = 3};

	if (!parse(argc, argv, &options)) {
		fputs("usage: vgpu-probe [--device FILE] [--seconds S | --hold S]\n", stderr);
		return 2;
	}
	return options.hold ? hold(&options) : measure(&options);
}
