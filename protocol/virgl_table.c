/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints what else is made of the table: `dictionary`, for fuzzers (libFuzzer and AFL read it),
 * or `markdown`, for people.
 */
#include "protocol/virgl.h"

#include <stdio.h>
#include <string.h>

#define ANY VIRGL_HEADER_LENGTH_MAX
#define NO_RESOURCES                                                                               \
	{                                                                                          \
		0                                                                                  \
	}
#define NEEDS(first, stride, count)                                                                \
	{                                                                                          \
		first, stride, count, 0                                                            \
	}
#define MAY(first, stride, count)                                                                  \
	{                                                                                          \
		first, stride, count, 1                                                            \
	}

struct row {
	const char *name;
	const char *class;
	unsigned opcode;
	unsigned type;
	unsigned min;
	unsigned max;
	unsigned step;
	struct virgl_resources resources;
};

static const struct row rows[] = {
#define VIRGL_COMMAND(opcode, name, min, max, step, class, resources, handler)                     \
	{#name, #class, opcode, 0, min, max, step, resources},
#include "protocol/virgl.def"
#define VIRGL_OBJECT(type, name, min, max, step, resources, handler)                               \
	{"CREATE_OBJECT " #name, "CREATE", VIRGL_CREATE_OBJECT, type, min, max, step, resources},
#include "protocol/virgl.def"
};

static void print_word(const char *name, const char *what, uint32_t word)
{
	for (; *name; name++)
		putchar(*name == ' ' ? '_' : *name);
	printf("%s=\"\\x%02x\\x%02x\\x%02x\\x%02x\"\n", what, word & 0xff, word >> 8 & 0xff,
		word >> 16 & 0xff, word >> 24);
}

static void print_dictionary(void)
{
	for (const struct row *row = rows; row != rows + sizeof(rows) / sizeof(*rows); row++) {
		print_word(row->name, "", VIRGL_HEADER(row->opcode, row->type, row->min));
		if (row->max > row->min)
			print_word(row->name, "_longer",
				VIRGL_HEADER(row->opcode, row->type, row->min + row->step));
	}
	print_word("shader", "_continues", VIRGL_SHADER_CONTINUES | 4);
}

static void print_markdown(void)
{
	puts("| Opcode | Command | Dwords | Class | Resource handles in dword |");
	puts("|---|---|---|---|---|");
	for (const struct row *row = rows; row != rows + sizeof(rows) / sizeof(*rows); row++) {
		const struct virgl_resources *places = &row->resources;
		printf("| %u | %s | %u", row->opcode, row->name, row->min);
		if (row->max == ANY)
			printf(" or more");
		else if (row->max > row->min && row->step == 1)
			printf(" to %u", row->max);
		else if (row->max > row->min)
			printf(" to %u by %u", row->max, row->step);
		printf(" | %s |", row->class);
		for (unsigned i = 0; i < places->count && i < 3; i++)
			printf("%s %u", i ? "," : "", places->first + i * places->stride);
		puts(places->count > 3 ? ", ... |" : " |");
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "dictionary") == 0)
		print_dictionary();
	else if (argc == 2 && strcmp(argv[1], "markdown") == 0)
		print_markdown();
	else
		return 2;
	return 0;
}
