/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/inspect.h"

#include "base/checked.h"
#include "base/idmap.h"
#include "protocol/keeper.h"
#include "protocol/virgl.h"
#include "state/section.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TEXT_MAX    256
#define DESC_FIELDS 10

/* More than any device has: a small file must not become a large report. */
#define RESOURCES_MAX (1u << 20)
#define CLIENTS_MAX   (1u << 16)
#define CONTEXTS_MAX  (1u << 16)
#define PICTURES_MAX  (1u << 16)
#define LOSSY_MAX     1024u
#define CAPSETS_MAX   64u

enum { ENCODING_RAW, ENCODING_ZERO, ENCODING_NOT_HERE };
enum {
	DESC_TARGET,
	DESC_FORMAT,
	DESC_BIND,
	DESC_WIDTH,
	DESC_HEIGHT,
	DESC_DEPTH,
	DESC_LAYERS,
	DESC_LAST_LEVEL,
	DESC_SAMPLES
};

struct resource {
	json_t *json; /* in the list */
	uint32_t desc[DESC_FIELDS];
	uint64_t bytes;
	bool elsewhere;
};

struct inspection {
	struct state_reader *r;
	const char *png_dir;
	json_t *root, *clients, *resources, *contexts, *lossy, *sections;
	struct idmap by_id, context_by_id;
	unsigned pictures;
	uint64_t payload;
	bool excess; /* the section at hand has more than there can be */
};

typedef void (*section_reader)(struct inspection *in, const struct state_section *section);

static const char *const targets[] = {
	"buffer", "1d", "2d", "3d", "cube", "rect", "1d array", "2d array", "cube array"};

static void set(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer((json_int_t)(value & INT64_MAX)));
}

/* A text of the file; only ASCII of it, as jansson takes nothing but UTF-8. */
static json_t *get_text(struct state_reader *r)
{
	char text[TEXT_MAX];

	state_get_text(r, text, sizeof(text));
	for (char *p = text; *p; p++)
		*p = *p & 0x80 ? '?' : *p;
	return json_string(text);
}

static bool room(struct inspection *in, size_t used, size_t max)
{
	in->excess |= used >= max;
	return used < max;
}

static void add(json_t *object, const char *key, json_int_t n)
{
	json_object_set_new(
		object, key, json_integer(json_integer_value(json_object_get(object, key)) + n));
}

/* ---- sections ---- */

static void read_source(struct inspection *in, const struct state_section *section)
{
	json_t *capsets = json_array();

	json_object_set_new(in->root, "renderer", get_text(in->r));
	json_object_set_new(in->root, "program_version", get_text(in->r));
	uint32_t n = state_get_u32(in->r);
	for (uint32_t i = 0; i < n && !state_bad(in->r) && room(in, i, CAPSETS_MAX); i++) {
		json_t *capset = json_object();
		set(capset, "id", state_get_u32(in->r));
		set(capset, "version", state_get_u32(in->r));
		uint32_t size = state_get_u32(in->r);
		set(capset, "bytes", size);
		state_take(in->r, size);
		json_array_append_new(capsets, capset);
	}
	json_object_set_new(in->root, "capsets", capsets);
}

static void read_head(struct inspection *in, json_t *heads)
{
	static const char *const names[] = {"resource", "x", "y", "width", "height"};
	enum { PREFERRED = 3, CURSOR = 5, CURSOR_BYTES = 64 * 64 * 4 };
	json_t *head = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		set(head, names[i], state_get_u32(in->r));
	for (unsigned i = 0; i < PREFERRED + CURSOR; i++)
		state_get_u32(in->r);
	if (state_get_u32(in->r))
		state_take(in->r, CURSOR_BYTES);
	json_array_append_new(heads, head);
}

static void read_device(struct inspection *in, const struct state_section *section)
{
	static const char *const names[] = {"heads", "max_width", "max_height"};
	json_t *device = json_object(), *heads = json_array();
	uint32_t numbers[3];

	set(device, "vram_mib", state_get_u64(in->r) >> 20);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		numbers[i] = state_get_u32(in->r);
		set(device, names[i], numbers[i]);
	}
	for (unsigned i = 0; i < 3; i++)
		state_get_u32(in->r); /* next ids */
	state_get_u64(in->r);
	set(device, "resources_bytes", state_get_u64(in->r));
	for (uint32_t i = 0; i < numbers[0] && !state_bad(in->r) && room(in, i, KEEPER_MAX_HEADS);
		i++)
		read_head(in, heads);
	json_object_set_new(device, "screens", heads);
	json_object_set_new(in->root, "device", device);
}

static void read_client(struct inspection *in, const struct state_section *section)
{
	if (!room(in, json_array_size(in->clients), CLIENTS_MAX))
		return;
	json_t *client = json_object();
	set(client, "id", state_get_u32(in->r));
	json_object_set_new(client, "name", get_text(in->r));
	json_array_append_new(in->clients, client);
}

static void describe(json_t *json, const uint32_t *desc)
{
	uint32_t target = desc[DESC_TARGET];

	json_object_set_new(
		json, "target", json_string(target < ARRAY_SIZE(targets) ? targets[target] : "?"));
	json_object_set_new(
		json, "format", json_string(target ? inspect_format_name(desc[DESC_FORMAT]) : "-"));
	set(json, "width", desc[DESC_WIDTH]);
	set(json, "height", desc[DESC_HEIGHT]);
	set(json, "depth", desc[DESC_DEPTH]);
	set(json, "layers", desc[DESC_LAYERS]);
	set(json, "levels", (uint64_t)desc[DESC_LAST_LEVEL] + 1);
	set(json, "samples", MAX(desc[DESC_SAMPLES], 1u));
}

static void read_resource(struct inspection *in, const struct state_section *section)
{
	uint32_t client = state_get_u32(in->r), handle = state_get_u32(in->r);
	uint32_t id = state_get_u32(in->r);
	struct resource *res = idmap_get(&in->by_id, id);

	state_get_u64(in->r);
	/* Copied ahead, and again: the last one counts. */
	if (!res) {
		bool fits = room(in, in->by_id.count, RESOURCES_MAX);
		res = fits ? calloc(1, sizeof(*res)) : NULL;
		if (!res || idmap_add(&in->by_id, id, res) < 0) {
			free(res);
			return;
		}
		res->json = json_object();
		json_array_append_new(in->resources, res->json);
	}
	for (unsigned i = 0; i < DESC_FIELDS; i++)
		res->desc[i] = state_get_u32(in->r);
	set(res->json, "id", id);
	set(res->json, "client", client);
	set(res->json, "handle", handle);
	describe(res->json, res->desc);
}

/* Level 0 of what has a width and a height; several layers have a picture each. */
static void draw(struct inspection *in, uint32_t id, const struct resource *res, uint32_t part,
	uint64_t size)
{
	uint32_t samples = MAX(res->desc[DESC_SAMPLES], 1u), target = res->desc[DESC_TARGET];
	uint32_t layers = target == 3 ? res->desc[DESC_DEPTH] : MAX(res->desc[DESC_LAYERS], 1u);
	char path[4096];
	int n;

	if (!in->png_dir || target < 2 || target == 6 || part % samples || part / samples >= layers)
		return;
	struct picture picture = {.format = res->desc[DESC_FORMAT],
		.width = res->desc[DESC_WIDTH],
		.height = res->desc[DESC_HEIGHT],
		.bytes = state_take(in->r, size),
		.size = size};
	if (!picture.bytes || !room(in, in->pictures, PICTURES_MAX))
		return;
	if (layers > 1)
		n = snprintf(path, sizeof(path), "%s/resource-%u-layer-%u.png", in->png_dir, id,
			part / samples);
	else
		n = snprintf(path, sizeof(path), "%s/resource-%u.png", in->png_dir, id);
	if (n > 0 && (size_t)n < sizeof(path) && inspect_write_png(&picture, path) == 0)
		in->pictures++;
}

static void read_content(struct inspection *in, const struct state_section *section)
{
	uint32_t id = state_get_u32(in->r), part = state_get_u32(in->r);
	uint32_t encoding = state_get_u32(in->r);
	struct resource *res = idmap_get(&in->by_id, id);

	state_get_u64(in->r);
	uint64_t size = state_get_u64(in->r);
	if (!res || (encoding == ENCODING_RAW && size != state_left(in->r)) ||
		size > STATE_SECTION_MAX)
		return;
	if (part == 0)
		res->bytes = 0;
	res->bytes += encoding == ENCODING_NOT_HERE ? 0 : size;
	res->elsewhere |= encoding == ENCODING_NOT_HERE;
	set(res->json, "content_bytes", res->bytes);
	json_object_set_new(res->json, "content",
		json_string(res->elsewhere ? "in the client's memory" : "here"));
	if (encoding == ENCODING_RAW)
		draw(in, id, res, part, size);
}

static void read_context(struct inspection *in, const struct state_section *section)
{
	if (!room(in, json_array_size(in->contexts), CONTEXTS_MAX))
		return;
	json_t *context = json_object();
	uint32_t client = state_get_u32(in->r), handle = state_get_u32(in->r);
	uint32_t id = state_get_u32(in->r), flags = state_get_u32(in->r);

	set(context, "id", id);
	set(context, "client", client);
	set(context, "handle", handle);
	json_object_set_new(context, "lost", json_boolean(flags & 1));
	json_object_set_new(context, "name", get_text(in->r));
	uint32_t attached = state_get_u32(in->r);
	set(context, "resources", attached);
	state_take(in->r, 8ull * attached);
	json_object_set_new(context, "objects", json_object());
	json_array_append_new(in->contexts, context);
	if (idmap_add(&in->context_by_id, id, context) < 0)
		return; /* twice: only the first one gets what follows */
}

static json_t *context_of(struct inspection *in)
{
	return idmap_get(&in->context_by_id, state_get_u32(in->r));
}

/* Long shaders come in several commands; those after the first are marked. */
static bool goes_on(const uint32_t *command, uint32_t length)
{
	return VIRGL_HEADER_TYPE(command[0]) == VIRGL_OBJECT_SHADER && length >= 3 &&
	       command[3] & 0x80000000u;
}

static void read_objects(struct inspection *in, const struct state_section *section)
{
	static const char *const names[VIRGL_OBJECTS] = {
#define VIRGL_OBJECT(type, name, ...) [type] = #name,
#include "protocol/virgl.def"
	};
	json_t *context = context_of(in), *objects = json_object_get(context, "objects");
	uint32_t header;
	const void *at;

	while (context && state_left(in->r) >= 4 && (at = state_take(in->r, 4))) {
		memcpy(&header, at, 4);
		uint32_t length = VIRGL_HEADER_LENGTH(header), command[4] = {header};
		at = state_take(in->r, 4ull * length);
		if (!at)
			return;
		memcpy(command + 1, at, 4 * MIN(length, 3u));
		uint32_t type = VIRGL_HEADER_TYPE(header);
		if (VIRGL_HEADER_OPCODE(header) == VIRGL_CREATE_SUB_CTX)
			add(context, "sub_contexts", 1);
		else if (VIRGL_HEADER_OPCODE(header) == VIRGL_CREATE_OBJECT &&
			 type < VIRGL_OBJECTS && names[type] && !goes_on(command, length))
			add(objects, names[type], 1);
	}
}

static void read_queries(struct inspection *in, const struct state_section *section)
{
	json_t *context = context_of(in);
	uint32_t n = state_get_u32(in->r);
	set(context, "queries", n);
	state_take(in->r, 24ull * n);
}

static void read_bindings(struct inspection *in, const struct state_section *section)
{
	json_t *context = context_of(in);
	set(context, "bindings_bytes", state_left(in->r));
}

static void read_streamout(struct inspection *in, const struct state_section *section)
{
	json_t *context = context_of(in);
	set(context, "streamouts", state_get_u32(in->r));
}

static void read_lossy(struct inspection *in, const struct state_section *section)
{
	if (room(in, json_array_size(in->lossy), LOSSY_MAX))
		json_array_append_new(in->lossy, get_text(in->r));
}

static const section_reader readers[] = {
	[STATE_SOURCE] = read_source,
	[STATE_DEVICE] = read_device,
	[STATE_CLIENT] = read_client,
	[STATE_RESOURCE] = read_resource,
	[STATE_CONTENT] = read_content,
	[STATE_CONTEXT] = read_context,
	[STATE_OBJECTS] = read_objects,
	[STATE_QUERIES] = read_queries,
	[STATE_BINDINGS] = read_bindings,
	[STATE_STREAMOUT] = read_streamout,
	[STATE_LOSSY] = read_lossy,
};

/* ---- all of it ---- */

static void begin(struct inspection *in)
{
	*in = (struct inspection){.r = in->r, .png_dir = in->png_dir};
	in->root = json_object();
	in->clients = json_array();
	in->resources = json_array();
	in->contexts = json_array();
	in->lossy = json_array();
	in->sections = json_object();
	idmap_init(&in->by_id, 1);
	idmap_init(&in->context_by_id, 2);
	json_object_set_new(in->root, "renderer", json_null());
	json_object_set_new(in->root, "malformed_sections", json_integer(0));
	json_object_set_new(in->root, "sections", in->sections);
	json_object_set_new(in->root, "clients", in->clients);
	json_object_set_new(in->root, "resources", in->resources);
	json_object_set_new(in->root, "contexts", in->contexts);
	json_object_set_new(in->root, "lossy", in->lossy);
}

static void finish(struct inspection *in)
{
	uint32_t cursor = 0;
	void *res;

	set(in->root, "payload_bytes", in->payload);
	if (in->png_dir)
		set(in->root, "pictures", in->pictures);
	while ((res = idmap_next(&in->by_id, &cursor, NULL)))
		free(res);
	idmap_finish(&in->by_id);
	idmap_finish(&in->context_by_id);
}

static int refuse(const char *name, int r, const char *why, struct error *err)
{
	if (r == -EINVAL)
		why = "this is no saved state of a vGPU";
	else if (!*why && r == -ENOTSUP)
		why = "it is of a newer version, or of a machine of another byte order";
	else if (!*why)
		why = strerror(-r);
	return error_set(err, -r, "inspect %.200s: %s (%s)", name, why,
		r == -ENOTSUP ? "use the vgpuctl that belongs to it" : "give a whole file");
}

int inspect_read(int fd, const char *name, const char *png_dir, json_t **ret, struct error *err)
{
	struct inspection in = {.png_dir = png_dir};
	struct state_section section;
	struct stat st;

	if (png_dir && mkdir(png_dir, 0777) < 0 && errno != EEXIST)
		return error_set(err, errno, "inspect: %.200s: %s (choose another folder)", png_dir,
			strerror(errno));
	int r = state_reader_create(fd, &in.r);
	if (r < 0)
		return refuse(name, r, "", err);
	begin(&in);
	while ((r = state_next(in.r, &section)) == 1) {
		in.excess = false;
		add(in.sections, state_section_name(section.type), 1);
		in.payload += section.size;
		if ((size_t)section.type < ARRAY_SIZE(readers) && readers[section.type])
			readers[section.type](&in, &section);
		if (state_bad(in.r) || in.excess)
			add(in.root, "malformed_sections", 1);
	}
	if (r < 0)
		refuse(name, r, state_reader_why(in.r), err);
	state_reader_destroy(in.r);
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		set(in.root, "stored_bytes", (uint64_t)st.st_size);
	finish(&in);
	if (r < 0)
		json_decref(in.root);
	else
		*ret = in.root;
	return r;
}
