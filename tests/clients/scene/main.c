/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scene: draws a moving 3D scene through the stock GL stack, on a screen or off-screen, and says
 * how it goes: `renderer: TEXT` first, then `frames N fps F` once a second, at the end `summary
 * frames N seconds S fps F`.
 *
 * With --still it draws one picture that depends on nothing but its options, prints
 * `still WIDTHxHEIGHT crc32 XXXXXXXX` of the pixels it drew, and keeps it on screen.
 *
 * With --every MS it draws a frame so often and no more, and says of each when it began and how
 * long it took until it was drawn: `took NS MS`, the first by the monotonic clock. A frame that is
 * late is drawn at once, those that it made impossible never.
 *
 * Exit status: 0 done (also when told to end by SIGTERM), 1 failed, 2 wrong usage, 3 the renderer
 * is not the expected one. That last one matters: when a virtual GPU dies, Mesa falls back to
 * software in silence and still draws the right picture.
 */
#include <GLES2/gl2.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "draw.h"
#include "output.h"
#include "picture.h"

#define STILL_TIME_S  1.0f
#define EXIT_RENDERER 3
#define DEFAULT_COLOR 0x3fa7ff
#define DEFAULT_CARD  "/dev/dri/card0"
#define FOREVER       1e9

struct options {
	struct output_options output;
	enum scene_variant variant;
	uint32_t color;        /* 0xRRGGBB */
	double seconds, every; /* every: s; 0: as fast as it goes */
	uint64_t frames;
	const char *png, *renderer; /* NULL: none */
	bool still;
};

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int usage(void)
{
	fputs("usage: scene [--variant cube|torus] [--color RRGGBB] [--seconds N] [--frames N]\n"
	      "             [--every MS] [--mode WxH] [--head N] [--card NODE | --offscreen] "
	      "[--png FILE]\n"
	      "             [--still] [--expect-renderer TEXT]\n",
		stderr);
	return 2;
}

static bool parse_variant(const char *name, enum scene_variant *ret_variant)
{
	static const char *const names[SCENE_VARIANT_COUNT] = {
		[SCENE_CUBE] = "cube",
		[SCENE_TORUS] = "torus",
	};

	for (int i = 0; i < SCENE_VARIANT_COUNT; i++) {
		if (strcmp(name, names[i]) == 0) {
			*ret_variant = (enum scene_variant)i;
			return true;
		}
	}
	return false;
}

static bool parse(int argc, char **argv, struct options *options)
{
	static const struct option table[] = {
		{"variant", required_argument, NULL, 'v'},
		{"color", required_argument, NULL, 'c'},
		{"seconds", required_argument, NULL, 's'},
		{"frames", required_argument, NULL, 'f'},
		{"every", required_argument, NULL, 'i'},
		{"mode", required_argument, NULL, 'm'},
		{"head", required_argument, NULL, 'h'},
		{"card", required_argument, NULL, 'd'},
		{"offscreen", no_argument, NULL, 'o'},
		{"png", required_argument, NULL, 'p'},
		{"still", no_argument, NULL, 't'},
		{"expect-renderer", required_argument, NULL, 'e'},
		{NULL, 0, NULL, 0},
	};
	bool ok = true;

	for (int c; ok && (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
		switch (c) {
		case 'v':
			ok = parse_variant(optarg, &options->variant);
			break;
		case 'c':
			options->color = (uint32_t)strtoul(optarg, NULL, 16);
			break;
		case 's':
			options->seconds = strtod(optarg, NULL);
			break;
		case 'f':
			options->frames = strtoull(optarg, NULL, 10);
			break;
		case 'i':
			options->every = strtod(optarg, NULL) / 1000;
			ok = options->every > 0;
			break;
		case 'm':
			ok = sscanf(optarg, "%ux%u", &options->output.width,
				     &options->output.height) == 2;
			break;
		case 'h':
			options->output.head = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'd':
			options->output.card = optarg;
			break;
		case 'o':
			options->output.card = NULL;
			break;
		case 'p':
			options->png = optarg;
			break;
		case 't':
			options->still = true;
			break;
		case 'e':
			options->renderer = optarg;
			break;
		default:
			ok = false;
		}
	}
	return ok && optind == argc;
}

/* A descriptor that becomes readable when somebody asks this program to end, or -1. */
static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static bool told_to_end(int signals, int wait_ms)
{
	struct pollfd pollfd = {.fd = signals, .events = POLLIN};

	return poll(&pollfd, 1, wait_ms) > 0;
}

/* Reads back the frame just drawn, before it is shown, and keeps or reports it. */
static int record(const struct options *options, const struct output *output)
{
	struct picture picture;
	int r = picture_read(&picture, output->width, output->height);

	if (r == 0 && options->still)
		printf("still %ux%u crc32 %08x\n", picture.width, picture.height,
			picture_crc32(&picture));
	if (r == 0 && options->png)
		r = picture_write_png(&picture, options->png);
	picture_finish(&picture);
	if (r)
		fprintf(stderr, "scene: the picture could not be kept: %s\n", strerror(-r));
	return r;
}

static int show_still(const struct options *options, const struct scene *scene,
	struct output *output, int signals)
{
	int r;

	scene_draw(scene, output->width, output->height, STILL_TIME_S);
	r = record(options, output);
	if (r == 0)
		r = output_show(output);
	if (r == 0) {
		printf("shown\n");
		if (options->seconds > 0)
			told_to_end(signals,
				options->seconds >= FOREVER ? -1 : (int)(options->seconds * 1000));
	}
	return r;
}

/* When the next frame begins, if it is drawn at that pace; the time now if that is past. */
static double wait_for_turn(const struct options *options, double *due)
{
	double time = now();

	if (options->every <= 0 || time >= *due) {
		*due = time + options->every;
		return time;
	}
	struct timespec until = {.tv_sec = (time_t)*due};
	until.tv_nsec = (long)((*due - (double)until.tv_sec) * 1e9);
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
	*due += options->every;
	return now();
}

static int animate(const struct options *options, const struct scene *scene, struct output *output,
	int signals)
{
	double start = now(), second = start, due = start;
	uint64_t frames = 0, before = 0;
	bool last = false;
	int r = 0;

	while (r == 0 && !last) {
		double began = wait_for_turn(options, &due), time = began;

		last = time - start >= options->seconds || frames + 1 >= options->frames ||
		       told_to_end(signals, 0);
		scene_draw(scene, output->width, output->height, (float)(time - start));
		if (last && options->png)
			r = record(options, output);
		if (r == 0)
			r = output_show(output);
		frames++;
		time = now();
		if (options->every > 0)
			printf("took %.0f %.3f\n", began * 1e9, (time - began) * 1e3);
		if (time - second >= 1) {
			printf("frames %lu fps %.1f\n", (unsigned long)frames,
				(double)(frames - before) / (time - second));
			before = frames;
			second = time;
		}
	}
	printf("summary frames %lu seconds %.2f fps %.1f\n", (unsigned long)frames, now() - start,
		(double)frames / (now() - start));
	return r;
}

int main(int argc, char **argv)
{
	struct options options = {
		.output.card = DEFAULT_CARD,
		.color = DEFAULT_COLOR,
		.seconds = FOREVER,
		.frames = UINT64_MAX,
	};
	struct output output;
	struct scene scene;
	int signals, r;

	if (!parse(argc, argv, &options))
		return usage();
	setvbuf(stdout, NULL, _IOLBF, 0);
	signals = open_signals();
	if (output_open(&output, &options.output))
		return EXIT_FAILURE;

	const char *renderer = (const char *)glGetString(GL_RENDERER);
	printf("renderer: %s\n", renderer ? renderer : "none");
	printf("size: %ux%u\n", output.width, output.height);
	if (options.renderer && (!renderer || !strstr(renderer, options.renderer)))
		return EXIT_RENDERER;
	r = scene_init(&scene, options.variant, options.color);
	if (r == 0)
		r = (options.still ? show_still : animate)(&options, &scene, &output, signals);
	scene_finish(&scene);
	output_close(&output);
	close(signals);
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
