/* SPDX-License-Identifier: Apache-2.0 */
#include "function.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HEADER 64

static FILE *open_file(const struct function *f, const char *name, const char *mode)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/" FOLDER "%s", f->tree.root, name);
	FILE *file = fopen(path, mode);
	assert_non_null(file);
	return file;
}

static int write_file(void *data, const char *path, const char *text, unsigned limit_ms)
{
	struct function *f = data;
	const char *name = strstr(path, ADDRESS "/");
	size_t len = strlen(f->log);

	assert_non_null(name);
	name += strlen(ADDRESS "/");
	if (f->fails && !strcmp(name, f->fails))
		return f->code;
	snprintf(f->log + len, sizeof(f->log) - len, "%s%s=%.*s", len ? " " : "", name,
		(int)strcspn(text, "\n"), text);
	if (strcmp(name, "reset") != 0) {
		char place[128];
		snprintf(place, sizeof(place), FOLDER "%s", name);
		tree_put(&f->tree, place, text);
	}
	if (f->asked)
		f->asked(f, name);
	return 0;
}

void function_make(struct function *f, const char *driver)
{
	const struct tree_pci pci = {.address = ADDRESS,
		.class = 0x030000,
		.driver = driver[0] ? driver : NULL,
		.reset_method = "flr bus",
		.group = 7};

	*f = (struct function){.kernel = {.write = write_file, .data = f}};
	tree_make(&f->tree);
	tree_vfio(&f->tree);
	tree_pci(&f->tree, &pci);
	tree_put(&f->tree, FOLDER "reset", "");
	function_is(f, 0x1002, 0x744c, 0x030000);
}

void function_remove(struct function *f)
{
	tree_remove(&f->tree);
}

static void put_hex(struct function *f, const char *name, unsigned value)
{
	char text[16];

	snprintf(text, sizeof(text), "0x%04x\n", value);
	tree_putf(&f->tree, text, FOLDER "%s", name);
}

void function_is(struct function *f, unsigned vendor, unsigned device, unsigned class)
{
	put_hex(f, "vendor", vendor);
	put_hex(f, "device", device);
	put_hex(f, "class", class);
	function_header(f, vendor, device, class, 0xe000000c, false);
}

static void put16(unsigned char *at, unsigned value)
{
	at[0] = (unsigned char)value;
	at[1] = (unsigned char)(value >> 8);
}

void function_header(struct function *f, unsigned vendor, unsigned device, unsigned class,
	unsigned bar, bool gone)
{
	unsigned char bytes[HEADER] = {0};

	put16(bytes, vendor);
	put16(bytes + 2, device);
	put16(bytes + 9, class);
	bytes[11] = (unsigned char)(class >> 16);
	put16(bytes + 16, bar);
	put16(bytes + 18, bar >> 16);
	if (gone)
		memset(bytes, 0xff, sizeof(bytes));
	tree_put(&f->tree, FOLDER "config", "");
	FILE *file = open_file(f, "config", "we");
	assert_int_equal(fwrite(bytes, 1, sizeof(bytes), file), sizeof(bytes));
	fclose(file);
}

unsigned function_command(const struct function *f)
{
	unsigned char bytes[6];

	FILE *file = open_file(f, "config", "re");
	assert_int_equal(fread(bytes, 1, sizeof(bytes), file), sizeof(bytes));
	fclose(file);
	return bytes[4] | (unsigned)bytes[5] << 8;
}

void function_set_command(struct function *f, unsigned command)
{
	unsigned char bytes[2];

	put16(bytes, command);
	FILE *file = open_file(f, "config", "r+e");
	assert_int_equal(fseek(file, 4, SEEK_SET), 0);
	assert_int_equal(fwrite(bytes, 1, sizeof(bytes), file), sizeof(bytes));
	fclose(file);
}

void function_memory(struct function *f, const char *name, size_t size, int value)
{
	char place[128];
	void *bytes = malloc(size);

	assert_non_null(bytes);
	memset(bytes, value, size);
	snprintf(place, sizeof(place), FOLDER "%s", name);
	tree_put(&f->tree, place, "");
	FILE *file = open_file(f, name, "we");
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	fclose(file);
	free(bytes);
}

size_t function_differs(const struct function *f, const char *name, size_t size, int value)
{
	size_t differ = 0, seen = 0;
	int byte;

	FILE *file = open_file(f, name, "re");
	for (; (byte = fgetc(file)) != EOF; seen++)
		differ += byte != value;
	fclose(file);
	assert_int_equal(seen, size);
	return differ;
}
