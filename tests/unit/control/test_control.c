/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "base/cleanup.h"
#include "control/config.h"
#include "control/events.h"
#include "control/render.h"
#include "control/store.h"
#include "control/types.h"
#include "protocol/screen.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

static void remove_tree(const char *path)
{
	assert_int_equal(nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

/* --- types and rules --- */

static const struct gpu soft = {.name = "soft0", .kind = "soft", .vram_mib = 1000};

static void test_ladder(void **state)
{
	struct type types[16];
	size_t n = types_ladder(&soft, types, ARRAY_SIZE(types));

	assert_int_equal(n, 4); /* 64, 128, 256, 512 */
	assert_string_equal(types[0].name, "soft0-64");
	assert_int_equal(types[0].max_instances, 15);
	assert_string_equal(types[3].name, "soft0-512");
	assert_int_equal(types[3].max_instances, 1);
	for (size_t i = 0; i < n; i++) {
		assert_string_equal(types[i].gpu, "soft0");
		assert_true(types[i].heads >= 1 && types[i].heads <= TYPES_MAX_HEADS);
		/* a screen of its largest size fits into its VRAM twice */
		assert_true((uint64_t)types[i].max_width * types[i].max_height * 8 <=
			    types[i].vram_mib << 20);
	}
	assert_int_equal(types_ladder(&soft, types, 2), 2);
	struct gpu huge = soft;
	huge.vram_mib = UINT64_MAX / 4;
	n = types_ladder(&huge, types, ARRAY_SIZE(types));
	assert_int_equal(n, ARRAY_SIZE(types));
	assert_int_equal(types[0].max_instances, TYPES_INSTANCES);
	struct gpu tiny = soft;
	tiny.vram_mib = 63;
	assert_int_equal(types_ladder(&tiny, types, ARRAY_SIZE(types)), 0);
}

static void test_default_type(void **state)
{
	struct type types[16];
	size_t n = types_ladder(&soft, types, ARRAY_SIZE(types));

	assert_string_equal(types_default(types, n, "soft0")->name, "soft0-256");
	assert_string_equal(types_default(types, 2, "soft0")->name, "soft0-128");
	assert_string_equal(types_default(types + 3, 1, "soft0")->name, "soft0-512");
	assert_null(types_default(types, n, "soft1"));
}

static void test_types_alike(void **state)
{
	struct type types[16];
	struct gpu other = soft;
	size_t n = types_ladder(&soft, types, 8);

	strcpy(other.name, "soft1");
	other.vram_mib = 128;
	n += types_ladder(&other, types + n, 8);
	assert_string_equal(types_like(types, n, "soft1", &types[1])->name, "soft1-128");
	assert_string_equal(types_like(types, n, "soft0", &types[1])->name, "soft0-128");
	assert_null(types_like(types, n, "soft1", &types[2])); /* it has no room for 256 */
	struct type odd = types[1];
	odd.heads++;
	assert_null(types_like(types, n, "soft1", &odd));
	assert_null(types_like(types, n, "soft2", &types[1]));
}

static void test_room(void **state)
{
	struct type types[16];
	struct error err;
	struct gpu gpu = soft;
	types_ladder(&gpu, types, ARRAY_SIZE(types));
	struct gpu_use use = {.vgpus = 2, .vram_mib = 512, .type = "soft0-256"};

	/* the same type: what is left of it */
	use.of_type = 2;
	assert_int_equal(types_available(&gpu, &types[2], &use), 1);
	assert_int_equal(types_room(&gpu, &types[2], &use, "x", &err), 0);
	/* another type: none */
	use.of_type = 0;
	assert_int_equal(types_available(&gpu, &types[0], &use), 0);
	/* unless mixed: what fits into the rest */
	gpu.mixed = true;
	assert_int_equal(types_available(&gpu, &types[0], &use), 7);
	assert_int_equal(types_available(&gpu, &types[3], &use), 0);
	assert_int_equal(types_room(&gpu, &types[3], &use, "x", &err), -ENOSPC);
	gpu.mixed = false;
	/* full */
	use.of_type = 2;
	use.vram_mib = 2000; /* more than there is: a config changed under running vGPUs */
	assert_int_equal(types_available(&gpu, &types[2], &use), 0);
}

static void test_methods(void **state)
{
	static const char address[] = "0000:01:00.0", node[] = "/dev/dri/renderD128";
	struct gpu gpu = soft;
	struct error err;

	assert_int_equal(types_method(&gpu, METHOD_EMULATE, "x", &err), 0);
	assert_int_equal(types_method(&gpu, METHOD_FORWARD, "x", &err), 0);
	assert_int_equal(types_offered(&gpu, METHOD_FORWARD, "x", &err), 0);
	assert_int_equal(types_method(&gpu, METHOD_MEDIATE, "x", &err), -ENOTSUP);
	assert_int_equal(types_method(&gpu, METHOD_PASSTHROUGH, "x", &err), -ENOTSUP);
	gpu.kind = "render";
	memcpy(gpu.render_node, node, sizeof(node));
	assert_int_equal(types_method(&gpu, METHOD_EMULATE, "x", &err), -ENOTSUP);
	assert_int_equal(types_method(&gpu, METHOD_PASSTHROUGH, "x", &err), -ENOTSUP);
	gpu.kind = "pci";
	memcpy(gpu.pci_address, address, sizeof(address));
	assert_int_equal(types_method(&gpu, METHOD_PASSTHROUGH, "x", &err), 0);
	gpu.render_node[0] = '\0';
	assert_int_equal(types_method(&gpu, METHOD_FORWARD, "x", &err), 0);
	assert_int_equal(types_offered(&gpu, METHOD_FORWARD, "x", &err), -ENOTSUP);
	for (unsigned m = 0; m < METHOD_COUNT; m++)
		assert_int_equal(method_from_name(method_names[m]), m);
	assert_int_equal(method_from_name("magic"), METHOD_COUNT);
}

static void test_names(void **state)
{
	char longest[VGPU_NAME_LONGEST + 2];

	memset(longest, 'a', sizeof(longest));
	longest[VGPU_NAME_LONGEST] = '\0';
	assert_true(name_valid(longest));
	longest[VGPU_NAME_LONGEST] = 'a';
	longest[VGPU_NAME_LONGEST + 1] = '\0';
	assert_false(name_valid(longest));
	assert_true(name_valid("a") && name_valid("0.b_c-D"));
	static const char *const bad[] = {
		"", ".", "..", "-a", "_a", "a/b", "a b", "a\n", "a\x7f", "\xc3\xa4", "a,b", "a\"b"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(name_valid(bad[i]));
}

/* --- configuration --- */

static int read_config(const char *text, struct config *config, struct error *err)
{
	char path[] = "/tmp/vgpu-unit-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	config_init(config);
	int r = config_read(config, path, err);
	unlink(path);
	return r;
}

static void test_config(void **state)
{
	static struct config c;
	struct error err;

	assert_int_equal(read_config("", &c, &err), 0);
	assert_int_equal(c.soft_gpus, 1);
	assert_string_equal(c.lockdown, "strict");
	assert_string_equal(c.shares, "auto");
	assert_true(c.libvirt_create);
	assert_int_equal(c.hibernate_idle_s, 0);
	assert_int_equal(read_config("[node]\nhibernate_idle_s = 60\n"
				     "[type a]\ngpu = soft0\nvram_mib = 32\n"
				     "[type b]\ngpu = soft0\nvram_mib = 32\nhibernate_idle_s = 0\n",
				 &c, &err),
		0);
	assert_int_equal(c.hibernate_idle_s, 60);
	assert_int_equal(c.types[0].hibernate_idle_s, TYPES_IDLE_NODE);
	assert_int_equal(c.types[1].hibernate_idle_s, 0);
	assert_int_equal(read_config("; all there is\n[node]\ngroup = render\nsoft_gpus = 3\n"
				     "lockdown = best-effort\n[libvirt]\ncreate = no\ngpu = soft1\n"
				     "[gpu soft0]\nmixed = yes\nvram_mib = 2048\n"
				     "[type small]\ngpu = soft0\nvram_mib = 32\nheads = 2\n",
				 &c, &err),
		0);
	assert_string_equal(c.group, "render");
	assert_int_equal(c.soft_gpus, 3);
	assert_string_equal(c.lockdown, "best-effort");
	assert_false(c.libvirt_create);
	assert_true(config_find_gpu(&c, "soft0")->mixed);
	assert_null(config_find_gpu(&c, "soft1"));
	assert_int_equal(c.n_types, 1);
	assert_int_equal(c.types[0].heads, 2);
	assert_int_equal(c.types[0].max_instances, 0); /* as many as fit */
}

static void test_config_errors(void **state)
{
	static struct config c;
	struct error err;
	static const struct {
		const char *text, *says;
	} bad[] = {
		{"[node]\n\nsoft_gpus = x\n", "line 3"},
		{"[node]\nsoft_gpus = -1\n", "range"},
		{"[node]\nsoft_gpus = 99999999999999999999\n", "range"},
		{"[node]\nlockdown = maybe\n", "none of strict"},
		{"[node]\nshares = stop\n", "none of auto, groups and accounts"},
		{"[node]\nwhat = 1\n", "unknown here"},
		{"[nodes]\ngroup = x\n", "section that does not exist"},
		{"[gpu ../x]\nmixed = yes\n", "section that does not exist"},
		{"[type t]\ngpu = soft0\n", "lacks gpu or vram_mib"},
		{"[type t]\ngpu = soft0\nvram_mib = 64\nheads = 17\n", "range"},
		{"[type t]\ngpu = soft0\nvram_mib = 64\nmax_width = 63\n", "range"},
		{"[node]\nrenderer = much-too-long-a-name\n", "too long"},
		{"[node]\nhibernate_idle_s = 31622401\n", "range"},
		{"group\n", "line 1"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_true(read_config(bad[i].text, &c, &err) < 0);
		if (!strstr(err.text, bad[i].says))
			fail_msg("\"%s\" does not say \"%s\"", err.text, bad[i].says);
	}
	config_init(&c);
	assert_int_equal(config_read(&c, "/nonexistent/vgpud.conf", &err), -ENOENT);
}

/* --- the store --- */

static int count_row(void *data, const struct definition *def)
{
	struct definition *rows = data;
	unsigned n = 0;
	while (rows[n].name[0])
		n++;
	rows[n] = *def;
	return 0;
}

static void test_store(void **state)
{
	char dir[] = "/tmp/vgpu-unit-XXXXXX", path[64];
	struct store *store;
	struct error err;
	struct definition def = {.method = METHOD_FORWARD, .phase = PHASE_CREATING}, rows[4] = {0};

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/db", dir);
	assert_int_equal(store_open(path, &store, &err), 0);
	strcpy(def.name, "a");
	strcpy(def.uuid, "11111111-2222-3333-4444-555555555555");
	strcpy(def.gpu, "soft0");
	strcpy(def.type.name, "soft0-64");
	def.type.vram_mib = 64;
	def.type.heads = 3;
	assert_int_equal(store_insert(store, &def, "t", &err), 0);
	assert_int_equal(store_set_phase(store, "a", PHASE_DEFINED, "t", &err), 0);
	store_close(store);

	assert_int_equal(store_open(path, &store, &err), 0); /* the next vgpud */
	assert_int_equal(store_each(store, count_row, rows, &err), 0);
	assert_string_equal(rows[0].name, "a");
	assert_string_equal(rows[0].type.name, "soft0-64");
	assert_int_equal(rows[0].phase, PHASE_DEFINED);
	assert_int_equal(rows[0].method, METHOD_FORWARD);
	assert_int_equal(rows[0].type.heads, 3);
	assert_string_equal(rows[1].name, "");
	assert_string_equal(rows[0].moving_to, "");

	/* A move that was begun, and one that is done. */
	assert_int_equal(store_set_move(store, "a", "soft1", 7, "t", &err), 0);
	memset(rows, 0, sizeof(rows));
	assert_int_equal(store_each(store, count_row, rows, &err), 0);
	assert_string_equal(rows[0].gpu, "soft0");
	assert_string_equal(rows[0].moving_to, "soft1");
	assert_int_equal(rows[0].moves_before, 7);
	assert_int_equal(store_set_gpu(store, "a", "soft1", "soft1-64", "t", &err), 0);
	memset(rows, 0, sizeof(rows));
	assert_int_equal(store_each(store, count_row, rows, &err), 0);
	assert_string_equal(rows[0].gpu, "soft1");
	assert_string_equal(rows[0].type.name, "soft1-64");
	assert_string_equal(rows[0].type.gpu, "soft1");
	assert_string_equal(rows[0].moving_to, "");
	assert_int_equal(store_delete(store, "a", "t", &err), 0);
	memset(rows, 0, sizeof(rows));
	assert_int_equal(store_each(store, count_row, rows, &err), 0);
	assert_string_equal(rows[0].name, "");
	store_close(store);

	int fd = open(path, O_WRONLY | O_TRUNC);
	assert_int_equal(write(fd, "this is no database at all", 26), 26);
	close(fd);
	assert_true(store_open(path, &store, &err) < 0);
	assert_true(store_open("/nonexistent/db", &store, &err) < 0);
	remove_tree(dir);
}

/* --- screens --- */

static int make_screen(uint32_t width, uint32_t height, size_t size)
{
	int fd = memfd_create("screen", MFD_CLOEXEC);
	struct vgpu_screen header = {.magic = VGPU_SCREEN_MAGIC,
		.version = VGPU_SCREEN_VERSION,
		.width = width,
		.height = height};

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(pwrite(fd, &header, sizeof(header), 0), (ssize_t)sizeof(header));
	return fd;
}

static int png_of(int fd)
{
	void *png = NULL;
	size_t size = 0;
	int r = render_png(fd, 1920, 1200, &png, &size);

	if (r == 0)
		assert_memory_equal(png, "\x89PNG", 4);
	free(png);
	close(fd);
	return r;
}

static void test_hostile_screens(void **state)
{
	assert_int_equal(png_of(make_screen(2, 2, VGPU_SCREEN_PIXELS_OFFSET + 16)), 0);
	assert_int_equal(png_of(make_screen(2, 2, VGPU_SCREEN_PIXELS_OFFSET + 15)), -EPROTO);
	assert_int_equal(png_of(make_screen(0, 0, VGPU_SCREEN_PIXELS_OFFSET)), -ENODATA);
	assert_int_equal(png_of(make_screen(UINT32_MAX, UINT32_MAX, 8192)), -EPROTO);
	assert_int_equal(png_of(make_screen(16384, 16384, 8192)), -EPROTO);
	assert_int_equal(png_of(memfd_create("empty", MFD_CLOEXEC)), -EPROTO);
	/* larger than its type allows */
	size_t size = VGPU_SCREEN_PIXELS_OFFSET + 1921 * 1200 * 4;
	assert_int_equal(png_of(make_screen(1920, 1200, size)), 0);
	assert_int_equal(png_of(make_screen(1921, 1200, size)), -EPROTO);
	assert_int_equal(png_of(make_screen(1200, 1201, size)), -EPROTO);
	/* no file: reading it could take for ever */
	assert_int_equal(png_of(open("/dev/zero", O_RDONLY | O_CLOEXEC)), -EPROTO);
	assert_int_equal(png_of(epoll_create1(EPOLL_CLOEXEC)), -EPROTO);
	/* one that is being written to all the time still gives a picture */
	int fd = make_screen(2, 2, VGPU_SCREEN_PIXELS_OFFSET + 16);
	uint64_t odd = 1;
	pwrite(fd, &odd, 8, offsetof(struct vgpu_screen, sequence));
	assert_int_equal(png_of(fd), 0);
}

/* --- JSON --- */

static void test_json_of_a_hostile_device(void **state)
{
	static struct vgpud d;
	struct vgpu v = {.d = &d, .stats_fd = -1, .have_status = true};
	struct vgpu_stats stats = {.magic = VGPU_STATS_MAGIC,
		.version = VGPU_STATS_VERSION,
		.vram_used_bytes = UINT64_MAX};

	v.def.phase = PHASE_DEFINED;
	v.status.state = 77; /* no such state */
	strcpy(v.status.renderer, "bad \xff\xfe utf-8");
	v.stats_fd = memfd_create("stats", MFD_CLOEXEC);
	assert_int_equal(write(v.stats_fd, &stats, sizeof(stats)), (ssize_t)sizeof(stats));
	json_t *json = render_vgpu(&v);
	assert_string_equal(json_string_value(json_object_get(json, "renderer")), "bad ?? utf-8");
	assert_string_equal(json_string_value(json_object_get(json, "state")), "starting");
	assert_true(json_integer_value(json_object_get(json, "vram_used_mib")) > 0);
	assert_true(json_is_null(json_object_get(json, "bound_to")));
#define X(name, type, meaning) assert_non_null(json_object_get(json, #name));
	RENDER_VGPU_FIELDS(X)
#undef X
	json_decref(json);
	/* a page that shrank under the reader */
	assert_int_equal(ftruncate(v.stats_fd, 8), 0);
	assert_false(vgpu_stats(&v, &stats));
	close(v.stats_fd);
}

static void test_documented_fields_are_there(void **state)
{
	static struct vgpud d;
	struct type types[8];
	struct event event = {.number = 1};

	d.gpus[0] = soft;
	d.n_gpus = 1;
	types_ladder(&soft, types, ARRAY_SIZE(types));
	json_t *json = render_gpu(&d, &soft);
#define X(name, type, meaning) assert_non_null(json_object_get(json, #name));
	RENDER_GPU_FIELDS(X)
	json_decref(json);
	json = render_type(&d, &types[0]);
	RENDER_TYPE_FIELDS(X)
	json_decref(json);
	json = render_event(&event);
	RENDER_EVENT_FIELDS(X)
#undef X
	json_decref(json);
}

static void test_events_keep_the_newest(void **state)
{
	static struct events e;

	assert_null(events_next(&e, 0));
	log_init("test", 0);
	for (unsigned i = 1; i <= EVENTS_KEPT + 10; i++)
		events_add(&e, "v", "event %u", i);
	assert_int_equal(events_next(&e, 0)->number, 11);
	assert_int_equal(events_next(&e, 11)->number, 12);
	assert_string_equal(events_next(&e, EVENTS_KEPT + 9)->text, "event 266");
	assert_null(events_next(&e, EVENTS_KEPT + 10));
	assert_null(events_next(&e, UINT64_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ladder),
		cmocka_unit_test(test_default_type),
		cmocka_unit_test(test_types_alike),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_methods),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_config_errors),
		cmocka_unit_test(test_store),
		cmocka_unit_test(test_hostile_screens),
		cmocka_unit_test(test_json_of_a_hostile_device),
		cmocka_unit_test(test_documented_fields_are_there),
		cmocka_unit_test(test_events_keep_the_newest),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
