/* SPDX-License-Identifier: Apache-2.0 */

/*
 * glstate: draws frames each of which depends on all before it, and prints after each frame one
 * hash for every series (a use of GL, see glstate.h):
 *
 *	renderer: virgl (…)
 *	frame N NAME HEX
 *
 * Two runs print the same lines, whatever happened to the vGPU between two frames or within one.
 * It can also do harm: --hang-at gives the driver a shader that takes years.
 * Exit status: 0 done, 1 failed, 2 wrong usage.
 */

#include "glstate.h"

#include <epoxy/egl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_USAGE   2
#define MAX_CONTEXTS 8
#define MAX_SERIES   64

struct options {
	const char *only, *without, *expect;
	unsigned frames, contexts, pace_ms, fill_mib;
	unsigned hang_at; /* frame + 1, 0: never */
	bool list, versions;
};

struct run {
	const struct series *series;
	struct state state;
	unsigned context;
};

static void usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: glstate [--frames N] [--only NAME[,NAME…]] [--without NAME[,NAME…]]\n"
		"               [--contexts N] [--pace-ms N] [--fill-mib N]\n"
		"               [--hang-at FRAME]\n"
		"               [--expect-renderer SUBSTRING] [--list] [--versions]\n");
	exit(status);
}

static unsigned parse_number(const char *text, unsigned min, unsigned max)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end || value < min || value > max)
		usage(EXIT_USAGE);
	return (unsigned)value;
}

static void parse(struct options *o, int argc, char **argv)
{
	static const struct option long_options[] = {{"frames", required_argument, NULL, 'n'},
		{"only", required_argument, NULL, 'o'}, {"without", required_argument, NULL, 'w'},
		{"contexts", required_argument, NULL, 'c'},
		{"pace-ms", required_argument, NULL, 'p'},
		{"fill-mib", required_argument, NULL, 'f'},
		{"hang-at", required_argument, NULL, 'h'},
		{"expect-renderer", required_argument, NULL, 'r'}, {"list", no_argument, NULL, 'l'},
		{"versions", no_argument, NULL, 'v'}, {"help", no_argument, NULL, '?'}, {0}};
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (c) {
		case 'n':
			o->frames = parse_number(optarg, 1, 1000000000);
			break;
		case 'o':
			o->only = optarg;
			break;
		case 'w':
			o->without = optarg;
			break;
		case 'c':
			/* Two series have a query of the same kind open and cannot share one. */
			o->contexts = parse_number(optarg, 2, MAX_CONTEXTS);
			break;
		case 'p':
			o->pace_ms = parse_number(optarg, 0, 60000);
			break;
		case 'f':
			o->fill_mib = parse_number(optarg, 0, 1u << 14);
			break;
		case 'r':
			o->expect = optarg;
			break;
		case 'l':
			o->list = true;
			break;
		case 'v':
			o->versions = true;
			break;
		case 'h':
			o->hang_at = parse_number(optarg, 0, 1000000000) + 1;
			break;
		default:
			usage(EXIT_USAGE);
		}
	}
	if (optind != argc)
		usage(EXIT_USAGE);
}

static const struct series *series_at(unsigned i)
{
	const struct {
		const struct series *series;
		unsigned count;
	} groups[] = {{raster_series, raster_series_count},
		{multisample_series, multisample_series_count},
		{texture_series, texture_series_count}, {memory_series, memory_series_count},
		{feedback_series, feedback_series_count}, {query_series, query_series_count},
		{object_series, object_series_count}};

	for (unsigned k = 0; k < sizeof(groups) / sizeof(groups[0]); k++) {
		if (i < groups[k].count)
			return &groups[k].series[i];
		i -= groups[k].count;
	}
	return NULL;
}

static bool named(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = list; at; at = strchr(at, ',')) {
		at += *at == ',';
		if (!strncmp(at, name, len) && (at[len] == ',' || !at[len]))
			return true;
	}
	return false;
}

static EGLContext make_context(EGLDisplay display, EGLContext shared)
{
	static const EGLint attributes[] = {EGL_CONTEXT_MAJOR_VERSION, 4, EGL_CONTEXT_MINOR_VERSION,
		3, EGL_CONTEXT_OPENGL_PROFILE_MASK, EGL_CONTEXT_OPENGL_CORE_PROFILE_BIT, EGL_NONE};
	EGLContext context = eglCreateContext(display, EGL_NO_CONFIG_KHR, shared, attributes);

	if (context == EGL_NO_CONTEXT)
		die("no GL 4.3 core context");
	return context;
}

static void make_current(EGLDisplay display, EGLContext context)
{
	if (eglGetCurrentContext() == context)
		return;
	/* What one context did is seen by the next one that it shares objects with. */
	if (eglGetCurrentContext() != EGL_NO_CONTEXT)
		glFlush();
	if (!eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context))
		die("a context cannot be made current");
}

static void check_errors(const char *what)
{
	GLenum error = glGetError();

	if (error != GL_NO_ERROR)
		die("%s: GL error 0x%x", what, error);
}

static void check_renderer(const struct options *o)
{
	const char *renderer = (const char *)glGetString(GL_RENDERER);

	printf("renderer: %s\n", renderer);
	fflush(stdout);
	if (o->expect && !strstr(renderer, o->expect))
		die("the renderer is \"%s\", not \"%s\"", renderer, o->expect);
}

/* Resources that nothing draws with, so that there is more to carry: they compress as pictures do.
 */
static void fill(unsigned mib)
{
	static uint32_t texels[1024][1024];
	struct glhash g = {.random = 0x2545f491};

	for (unsigned done = 0; done < mib; done += 4) {
		GLuint texture;
		for (unsigned i = 0; i < 1024 * 1024; i++)
			texels[i / 1024][i % 1024] =
				i < 16 * 1024 ? random_u32(&g) : texels[i / 1024 - 16][i % 1024];
		glGenTextures(1, &texture);
		glBindTexture(GL_TEXTURE_2D, texture);
		glTexStorage2D(GL_TEXTURE_2D, 1, GL_RGBA8, 1024, 1024);
		glTexSubImage2D(
			GL_TEXTURE_2D, 0, 0, 0, 1024, 1024, GL_RGBA, GL_UNSIGNED_BYTE, texels);
	}
	glFinish();
	check_errors("filling");
}

/* Billions of invocations, because llvmpipe ends each one's loops after 65,535 rounds. */
static void hang(void)
{
	GLuint buffer,
		program = link_stages(&(struct stages){
			.compute = "layout(local_size_x = 1) in;\n"
				   "layout(std430, binding = 0) coherent buffer A { uint a[4]; };\n"
				   "void main() {\n"
				   "	while (atomicAdd(a[0], 0u) == 0u)\n"
				   "		atomicAdd(a[1], 1u);\n"
				   "}\n"});

	glGenBuffers(1, &buffer);
	glBindBuffer(GL_SHADER_STORAGE_BUFFER, buffer);
	glBufferData(GL_SHADER_STORAGE_BUFFER, 16, NULL, GL_DYNAMIC_COPY);
	glClearBufferData(
		GL_SHADER_STORAGE_BUFFER, GL_R32UI, GL_RED_INTEGER, GL_UNSIGNED_INT, NULL);
	glBindBufferBase(GL_SHADER_STORAGE_BUFFER, 0, buffer);
	glUseProgram(program);
	glDispatchCompute(65535, 65535, 64);
	glFinish();
}

static void draw_frame(struct run *run, EGLDisplay display, EGLContext *contexts, unsigned frame)
{
	struct state *s = &run->state;

	if (run->series->travels)
		run->context = frame % s->contexts;
	s->context = run->context;
	make_current(display, contexts[run->context]);
	s->g.hash = 0xcbf29ce484222325u;
	run->series->draw(s, frame);
	check_errors(run->series->name);
	printf("frame %u %s %016llx\n", frame, run->series->name, (unsigned long long)s->g.hash);
}

static unsigned prepare(
	const struct options *o, struct run *runs, EGLDisplay display, EGLContext *contexts)
{
	const struct series *series;
	unsigned n = 0;

	for (unsigned i = 0; (series = series_at(i)); i++) {
		struct run *run = &runs[n];
		if ((o->only && !named(o->only, series->name)) || named(o->without, series->name))
			continue;
		if (n == MAX_SERIES)
			die("too many series");
		run->series = series;
		run->context = series->travels ? 0 : n % o->contexts;
		run->state.g = (struct glhash){.width = SIDE, .height = SIDE, .random = 0x9e3779b9};
		run->state.contexts = o->contexts;
		run->state.context = run->context;
		make_current(display, contexts[run->context]);
		series->init(&run->state);
		check_errors(series->name);
		n++;
	}
	if (!n)
		die("no series is left");
	return n;
}

static EGLDisplay open_display(void)
{
	EGLDisplay display =
		eglGetPlatformDisplayEXT(EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY, NULL);

	if (display == EGL_NO_DISPLAY || !eglInitialize(display, NULL, NULL))
		die("no surfaceless EGL display");
	if (!eglBindAPI(EGL_OPENGL_API))
		die("EGL does not know desktop GL");
	return display;
}

/* The highest versions there are: "GL 4.5" and "ES 3.2". */
static int print_versions(void)
{
	static const EGLint es[] = {EGL_CONTEXT_MAJOR_VERSION, 3, EGL_NONE};
	static const EGLint core[] = {EGL_CONTEXT_MAJOR_VERSION, 3, EGL_CONTEXT_MINOR_VERSION, 2,
		EGL_CONTEXT_OPENGL_PROFILE_MASK, EGL_CONTEXT_OPENGL_CORE_PROFILE_BIT, EGL_NONE};
	EGLDisplay display = open_display();
	int version;

	make_current(display, eglCreateContext(display, EGL_NO_CONFIG_KHR, EGL_NO_CONTEXT, core));
	version = epoxy_gl_version();
	printf("GL %d.%d\n", version / 10, version % 10);
	eglBindAPI(EGL_OPENGL_ES_API);
	make_current(display, eglCreateContext(display, EGL_NO_CONFIG_KHR, EGL_NO_CONTEXT, es));
	version = epoxy_gl_version();
	printf("ES %d.%d\n", version / 10, version % 10);
	return 0;
}

static int draw(const struct options *o)
{
	static struct run runs[MAX_SERIES];
	EGLContext contexts[MAX_CONTEXTS];
	EGLDisplay display = open_display();
	unsigned n;

	for (unsigned i = 0; i < o->contexts; i++)
		contexts[i] = make_context(display, i ? contexts[0] : EGL_NO_CONTEXT);
	make_current(display, contexts[0]);
	check_renderer(o);
	fill(o->fill_mib);
	n = prepare(o, runs, display, contexts);
	for (unsigned frame = 0; frame < o->frames; frame++) {
		if (frame + 1 == o->hang_at)
			hang();
		for (unsigned i = 0; i < n; i++)
			draw_frame(&runs[i], display, contexts, frame);
		fflush(stdout);
		if (o->pace_ms)
			usleep(o->pace_ms * 1000);
	}
	printf("done\n");
	eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, EGL_NO_CONTEXT);
	eglTerminate(display);
	return 0;
}

int main(int argc, char **argv)
{
	struct options o = {.frames = 18, .contexts = 2};
	const struct series *series;

	parse(&o, argc, argv);
	for (unsigned i = 0; o.list && (series = series_at(i)); i++)
		printf("%s\n", series->name);
	if (o.versions)
		return print_versions();
	return o.list ? 0 : draw(&o);
}
