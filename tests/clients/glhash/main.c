/* SPDX-License-Identifier: Apache-2.0 */

/*
 * glhash: draws fixed scenes without a window system and prints a hash of each frame, so that two
 * renderers can be compared bit by bit:
 *
 *	renderer: virgl (…)
 *	scene NAME frame N hash HEX
 *
 * It can also misbehave as real programs do (--alloc-mib, --contexts, --fork). Exit status: 0 done,
 * 1 failed, 2 wrong usage, 3 the renderer is not the expected one, 4 GL_OUT_OF_MEMORY.
 */

#include "glhash.h"

#include <epoxy/egl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_USAGE    2
#define EXIT_RENDERER 3
#define EXIT_MEMORY   4

struct options {
	const char *scene;
	const char *expect;
	unsigned frames, contexts, forks, pause_ms;
	int width, height;
	unsigned alloc_mib;
	bool gles, list;
};

static void usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: glhash [--scene NAME[,NAME…]|all] [--frames N] [--size WxH] [--gles]\n"
		"              [--expect-renderer SUBSTRING] [--contexts N] [--fork N]\n"
		"              [--pause-ms N] [--alloc-mib N] [--list]\n");
	exit(status);
}

static unsigned parse_number(const char *text, unsigned max)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end || value > max)
		usage(EXIT_USAGE);
	return (unsigned)value;
}

static void parse_size(struct options *o, const char *text)
{
	if (sscanf(text, "%dx%d", &o->width, &o->height) != 2 || o->width < 32 || o->height < 32 ||
		o->width > 4096 || o->height > 4096)
		usage(EXIT_USAGE);
}

static void parse(struct options *o, int argc, char **argv)
{
	static const struct option long_options[] = {{"scene", required_argument, NULL, 's'},
		{"frames", required_argument, NULL, 'n'}, {"size", required_argument, NULL, 'z'},
		{"gles", no_argument, NULL, 'e'}, {"expect-renderer", required_argument, NULL, 'r'},
		{"contexts", required_argument, NULL, 'c'}, {"fork", required_argument, NULL, 'f'},
		{"pause-ms", required_argument, NULL, 'p'},
		{"alloc-mib", required_argument, NULL, 'a'}, {"list", no_argument, NULL, 'l'},
		{"help", no_argument, NULL, 'h'}, {0}};
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (c) {
		case 's':
			o->scene = optarg;
			break;
		case 'n':
			o->frames = parse_number(optarg, 1000000000);
			break;
		case 'z':
			parse_size(o, optarg);
			break;
		case 'e':
			o->gles = true;
			break;
		case 'r':
			o->expect = optarg;
			break;
		case 'c':
			o->contexts = parse_number(optarg, 64);
			break;
		case 'f':
			o->forks = parse_number(optarg, 64);
			break;
		case 'p':
			o->pause_ms = parse_number(optarg, 60000);
			break;
		case 'a':
			o->alloc_mib = parse_number(optarg, 1u << 20);
			break;
		case 'l':
			o->list = true;
			break;
		case 'h':
			usage(0);
			break;
		default:
			usage(EXIT_USAGE);
		}
	}
	if (optind != argc)
		usage(EXIT_USAGE);
}

static EGLDisplay open_display(const struct options *o)
{
	EGLDisplay display =
		eglGetPlatformDisplayEXT(EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY, NULL);

	if (display == EGL_NO_DISPLAY || !eglInitialize(display, NULL, NULL))
		die("no surfaceless EGL display");
	if (!eglBindAPI(o->gles ? EGL_OPENGL_ES_API : EGL_OPENGL_API))
		die("EGL does not know this API");
	return display;
}

static EGLContext open_context(EGLDisplay display, const struct options *o)
{
	static const EGLint desktop[] = {EGL_CONTEXT_MAJOR_VERSION, 3, EGL_CONTEXT_MINOR_VERSION, 3,
		EGL_CONTEXT_OPENGL_PROFILE_MASK, EGL_CONTEXT_OPENGL_CORE_PROFILE_BIT, EGL_NONE};
	static const EGLint es[] = {
		EGL_CONTEXT_MAJOR_VERSION, 3, EGL_CONTEXT_MINOR_VERSION, 0, EGL_NONE};
	EGLContext context = eglCreateContext(
		display, EGL_NO_CONFIG_KHR, EGL_NO_CONTEXT, o->gles ? es : desktop);

	if (context == EGL_NO_CONTEXT)
		die("no %s context", o->gles ? "GLES 3.0" : "GL 3.3 core");
	if (!eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context))
		die("the context cannot be made current");
	return context;
}

static const struct glhash_scene *scene_at(unsigned i)
{
	if (i < glhash_draw_scene_count)
		return &glhash_draw_scenes[i];
	i -= glhash_draw_scene_count;
	return i < glhash_data_scene_count ? &glhash_data_scenes[i] : NULL;
}

static bool scene_wanted(const struct options *o, const struct glhash_scene *scene)
{
	size_t len = strlen(scene->name);

	if (o->gles && scene->desktop)
		return false;
	if (!strcmp(o->scene, "all"))
		return true;
	for (const char *at = o->scene; at; at = strchr(at, ',')) {
		at += *at == ',';
		if (!strncmp(at, scene->name, len) && (at[len] == ',' || !at[len]))
			return true;
	}
	return false;
}

static void check_errors(const char *what)
{
	GLenum error = glGetError();

	if (error == GL_OUT_OF_MEMORY) {
		fprintf(stderr, "glhash: %s: GL_OUT_OF_MEMORY\n", what);
		exit(EXIT_MEMORY);
	}
	if (error != GL_NO_ERROR)
		die("%s: GL error 0x%x", what, error);
}

static void run_scene(const struct options *o, const struct glhash_scene *scene)
{
	struct glhash g = {
		.width = o->width, .height = o->height, .gles = o->gles, .random = 0x9e3779b9};

	make_target(&g);
	scene->init(&g);
	check_errors(scene->name);
	for (unsigned frame = 0; frame < o->frames; frame++) {
		g.hash = 0xcbf29ce484222325u;
		scene->draw(&g, frame);
		check_errors(scene->name);
		printf("scene %s frame %u hash %016llx\n", scene->name, frame,
			(unsigned long long)g.hash);
		fflush(stdout);
		if (o->pause_ms)
			usleep(o->pause_ms * 1000);
	}
	free_objects(&g);
}

/* Allocates and fills textures until there is no more, and says how far it came. */
static void run_alloc(unsigned mib)
{
	const int side = 1024; /* RGBA8: 4 MiB */
	void *texels = malloc(4u << 20);

	if (!texels)
		die("out of memory");
	memset(texels, 0x5a, 4u << 20);
	for (unsigned done = 0; done < mib; done += 4) {
		GLuint texture;
		glGenTextures(1, &texture);
		glBindTexture(GL_TEXTURE_2D, texture);
		glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MAX_LEVEL, 0);
		glTexImage2D(GL_TEXTURE_2D, 0, GL_RGBA8, side, side, 0, GL_RGBA, GL_UNSIGNED_BYTE,
			texels);
		glFinish();
		check_errors("allocating");
		printf("allocated %u MiB\n", done + 4);
		fflush(stdout);
	}
	free(texels);
}

static void run_context(EGLDisplay display, const struct options *o)
{
	const struct glhash_scene *scene;
	EGLContext context = open_context(display, o);
	unsigned ran = 0;
	const char *renderer = (const char *)glGetString(GL_RENDERER);

	printf("renderer: %s\n", renderer);
	fflush(stdout);
	if (o->expect && !strstr(renderer, o->expect)) {
		fprintf(stderr, "glhash: the renderer is \"%s\", not \"%s\"\n", renderer,
			o->expect);
		exit(EXIT_RENDERER);
	}
	if (o->alloc_mib) {
		run_alloc(o->alloc_mib);
		ran++;
	}
	for (unsigned i = 0; !o->alloc_mib && (scene = scene_at(i)); i++) {
		if (!scene_wanted(o, scene))
			continue;
		run_scene(o, scene);
		ran++;
	}
	if (!ran)
		die("no scene is called \"%s\"", o->scene);
	(void)context;
}

static int run(const struct options *o)
{
	EGLDisplay display = open_display(o);

	for (unsigned i = 0; i < o->contexts; i++)
		run_context(display, o);
	eglTerminate(display);
	return 0;
}

static int run_forks(const struct options *o)
{
	int worst = 0;

	for (unsigned i = 0; i < o->forks; i++) {
		pid_t pid = fork();
		if (pid < 0)
			die("fork failed");
		if (pid == 0)
			exit(run(o));
	}
	for (unsigned i = 0; i < o->forks; i++) {
		int status;
		if (wait(&status) < 0)
			die("wait failed");
		int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		worst = code > worst ? code : worst;
	}
	return worst;
}

int main(int argc, char **argv)
{
	struct options o = {
		.scene = "all", .frames = 3, .contexts = 1, .width = 256, .height = 192};
	const struct glhash_scene *scene;

	parse(&o, argc, argv);
	if (o.list) {
		for (unsigned i = 0; (scene = scene_at(i)); i++)
			printf("%s%s\n", scene->name, scene->desktop ? " (not with --gles)" : "");
		return 0;
	}
	return o.forks ? run_forks(&o) : run(&o);
}
