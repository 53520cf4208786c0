/* SPDX-License-Identifier: Apache-2.0 */
/* What one process found out about formats is what the next one would, or is not used. */
#include "support.h"

#include "base/checked.h"
#include "base/clock.h"
#include "renderer/format.h"
#include "renderer/virgl/capset.h"
#include "renderer/virgl/formats_file.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEY        0x0123456789abcdefu
#define CAPSET_MAX 4096u

typedef uint8_t found_table[FORMATS_COUNT][FORMATS_KINDS];

/* ---- the file ---- */

static void make_found(found_table found)
{
	uint8_t *at = found[0];

	for (unsigned i = 0; i < sizeof(found_table); i++)
		at[i] = (uint8_t)(i * 7 % FORMATS_FOUND_COUNT);
}

static int test_comes_back(void)
{
	found_table found, got;
	struct formats_file file;

	make_found(found);
	formats_file_write(&file, KEY, (const uint8_t(*)[FORMATS_KINDS])found);
	CHECK(sizeof(file) <= FORMATS_FILE_MAX);
	CHECK(formats_file_read(&file, sizeof(file), KEY, got) == 0);
	CHECK(memcmp(found, got, sizeof(found)) == 0);
	return 0;
}

static int test_of_another_host(void)
{
	found_table found, got;
	struct formats_file file;

	make_found(found);
	memset(got, 0xaa, sizeof(got));
	formats_file_write(&file, KEY, (const uint8_t(*)[FORMATS_KINDS])found);
	for (unsigned bit = 0; bit < 64; bit++)
		CHECK(formats_file_read(&file, sizeof(file), KEY ^ 1ull << bit, got) == -ESTALE);
	file.version++;
	CHECK(formats_file_read(&file, sizeof(file), KEY, got) == -ESTALE);
	/* A later version may be of another size. */
	CHECK(formats_file_read(&file, sizeof(file) - 8, KEY, got) == -ESTALE);
	for (unsigned i = 0; i < sizeof(got); i++)
		CHECK(((uint8_t *)got)[i] == 0xaa);
	return 0;
}

/* Whatever byte is changed, and wherever it ends. */
static int test_broken(void)
{
	found_table found, got;
	uint8_t bytes[sizeof(struct formats_file) + 1] = {0};
	struct formats_file file;

	make_found(found);
	formats_file_write(&file, KEY, (const uint8_t(*)[FORMATS_KINDS])found);
	memcpy(bytes, &file, sizeof(file));
	for (size_t i = 0; i < sizeof(file); i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			bytes[i] ^= (uint8_t)(1u << bit);
			CHECK(formats_file_read(bytes, sizeof(file), KEY, got) < 0);
			bytes[i] ^= (uint8_t)(1u << bit);
		}
	}
	for (size_t size = 0; size <= sizeof(bytes); size++)
		CHECK((formats_file_read(bytes, size, KEY, got) == 0) == (size == sizeof(file)));
	return 0;
}

/* The sum is right, what it is of is not. */
static int test_no_such_finding(void)
{
	found_table found, got;
	struct formats_file file;

	make_found(found);
	found[300][2] = FORMATS_FOUND_COUNT;
	formats_file_write(&file, KEY, (const uint8_t(*)[FORMATS_KINDS])found);
	CHECK(formats_file_read(&file, sizeof(file), KEY, got) == -EBADMSG);
	return 0;
}

/* ---- on this host ---- */

/* Of each kind, so that a table that lacks one is noticed. */
static const struct renderer_resource_desc shapes[] = {
	{.target = PIPE_TEXTURE_2D, .width = 8, .height = 8, .depth = 1, .array_size = 1},
	{.target = PIPE_TEXTURE_3D, .width = 8, .height = 8, .depth = 4, .array_size = 1},
	{.target = PIPE_TEXTURE_CUBE, .width = 8, .height = 8, .depth = 1, .array_size = 6},
	{.target = PIPE_TEXTURE_2D,
		.width = 8,
		.height = 8,
		.depth = 1,
		.array_size = 1,
		.nr_samples = 4},
};

struct seen {
	uint8_t capsets[2][CAPSET_MAX];
	uint8_t fidelity[FORMATS_COUNT][ARRAY_SIZE(shapes)];
	uint8_t file[FORMATS_FILE_MAX];
	int size; /* of file */
	int given;
	double capset_ms;
};

/* What a guest of method emulate is offered, and what a saver is told, with this file. */
static int see(const void *file, int size, struct seen *ret)
{
	struct renderer_under_test t;
	int r = renderer_start(&t, true);

	if (r)
		return r;
	ret->given = t.ops->fidelity_load(t.r, file, (size_t)size);
	uint64_t at = clock_ns();
	for (unsigned i = 0; i < ARRAY_SIZE(ret->capsets); i++)
		CHECK(t.ops->capset_get(
			      t.r, CAPSET_VIRGL + i, i + 1, ret->capsets[i], CAPSET_MAX) == 0);
	ret->capset_ms = (double)(clock_ns() - at) / 1e6;
	ret->size = t.ops->fidelity_save(t.r, ret->file, sizeof(ret->file));
	for (uint32_t format = 0; format < FORMATS_COUNT; format++) {
		for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
			struct renderer_resource_desc d = shapes[i];
			d.format = format;
			ret->fidelity[format][i] = (uint8_t)t.ops->fidelity(t.r, &d);
		}
	}
	t.ops->destroy(t.r);
	return 0;
}

static int see_in_child(const void *file, int size, struct seen *ret)
{
	struct seen *shared = mmap(
		NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;

	CHECK(shared != MAP_FAILED);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		int r = see(file, size, shared);
		fflush(stdout);
		_exit(r);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	*ret = *shared;
	munmap(shared, sizeof(*shared));
	return WEXITSTATUS(status);
}

static bool same_capsets(const struct seen *a, const struct seen *b)
{
	return memcmp(a->capsets, b->capsets, sizeof(a->capsets)) == 0;
}

static bool same_fidelity(const struct seen *a, const struct seen *b)
{
	return memcmp(a->fidelity, b->fidelity, sizeof(a->fidelity)) == 0;
}

/* The file with one finding changed, as if it had been found so. */
static void change(
	struct seen *s, uint32_t format, enum formats_kind kind, enum formats_found finding)
{
	struct formats_file file;
	found_table found;

	memcpy(&file, s->file, sizeof(file));
	formats_file_read(&file, sizeof(file), file.key, found);
	found[format][kind] = (uint8_t)finding;
	formats_file_write(&file, file.key, (const uint8_t(*)[FORMATS_KINDS])found);
	memcpy(s->file, &file, sizeof(file));
}

static int test_the_next_one_sees_the_same(void)
{
	static struct seen tried, told, lied;
	int r = see_in_child(NULL, 0, &tried);

	if (r)
		return r;
	CHECK(tried.given == -EBADMSG && tried.size == (int)sizeof(struct formats_file));
	CHECK(see_in_child(tried.file, tried.size, &told) == 0);
	printf("# tried in %.1f ms, told in %.1f ms\n", tried.capset_ms, told.capset_ms);
	CHECK(told.given == 0);
	CHECK(told.capset_ms < tried.capset_ms / 4);
	CHECK(same_capsets(&tried, &told) && same_fidelity(&tried, &told));
	CHECK(told.size == tried.size && memcmp(told.file, tried.file, (size_t)told.size) == 0);

	/* That comparison notices one format, of one kind. */
	for (enum formats_kind kind = FORMATS_FLAT; kind < FORMATS_KINDS; kind++) {
		lied = tried;
		change(&lied, VIRGL_FORMAT_R8G8B8A8_UNORM, kind, FORMATS_LOSSY);
		CHECK(see_in_child(lied.file, lied.size, &lied) == 0);
		CHECK(lied.given == 0);
		CHECK(!same_capsets(&tried, &lied) && !same_fidelity(&tried, &lied));
	}
	return 0;
}

static int test_another_key_is_tried_again(void)
{
	static struct seen tried, other;
	struct formats_file file;
	found_table none = {{0}};
	int r = see_in_child(NULL, 0, &tried);

	if (r)
		return r;
	memset(none, FORMATS_EXACT, sizeof(none));
	memcpy(&file, tried.file, sizeof(file));
	formats_file_write(&file, file.key + 1, (const uint8_t(*)[FORMATS_KINDS])none);
	CHECK(see_in_child(&file, sizeof(file), &other) == 0);
	CHECK(other.given == -ESTALE);
	CHECK(same_capsets(&tried, &other) && same_fidelity(&tried, &other));
	CHECK(memcmp(other.file, tried.file, (size_t)tried.size) == 0);
	return 0;
}

int main(void)
{
	static const struct test tests[] = {
		{"a table comes back", test_comes_back},
		{"one of another host is none", test_of_another_host},
		{"a broken one is none", test_broken},
		{"findings that do not exist are none", test_no_such_finding},
		{"the next process sees the same", test_the_next_one_sees_the_same},
		{"another key is tried again", test_another_key_is_tried_again},
	};
	return tests_run(tests, ARRAY_SIZE(tests));
}
