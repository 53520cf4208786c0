/* SPDX-License-Identifier: Apache-2.0 */
#include "process/options.h"

#include "base/checked.h"

#include "protocol/standby.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum option_kind { OPTION_TEXT, OPTION_NUMBER, OPTION_YES, OPTION_FD, OPTION_PRINT };

/* One row an option: where it goes, what it may be, and its line in --help. */
static const struct option_row {
	const char *name;
	const char *value; /* placeholder in --help; NULL: takes none */
	enum option_kind kind;
	size_t at; /* in struct options */
	uint32_t min, max;
	const char *help;
} option_rows[] = {
#define AT(field) offsetof(struct options, field)
	{"keeper-fd", "N", OPTION_FD, AT(keeper_fd), 0, 65535, "channel to the keeper, inherited"},
	{"stats-fd", "N", OPTION_FD, AT(stats_fd), 0, 65535,
		"page of counters, inherited from the keeper"},
	{"name", "NAME", OPTION_TEXT, AT(name), 0, 0, "the vGPU's name, for log lines"},
	{"renderer", "NAME", OPTION_TEXT, AT(renderer), 0, 0, "virgl (default) or null"},
	{"render-node", "NODE", OPTION_TEXT, AT(render_node), 0, 0,
		"draw on this DRM render node, a path or pci:ADDRESS, not on the software GPU"},
	{"vram-mib", "N", OPTION_NUMBER, AT(vram_mib), 1, 1u << 24, "quota of video memory, MiB"},
	{"heads", "N", OPTION_NUMBER, AT(heads), 1, 16, "screens (default 1)"},
	{"max-width", "N", OPTION_NUMBER, AT(max_width), 64, 16384,
		"widest screen, pixels (default 1920)"},
	{"max-height", "N", OPTION_NUMBER, AT(max_height), 64, 16384,
		"highest screen, pixels (default 1200)"},
	{"max-fps", "N", OPTION_NUMBER, AT(max_fps), 0, 1000,
		"frames a second at most (default 0: no limit)"},
	{"dmabuf", NULL, OPTION_YES, AT(dmabuf), 0, 0, "show screens as dma-bufs where possible"},
	{"plain-shaders", NULL, OPTION_YES, AT(plain_shaders), 0, 0,
		"leave translated shaders as they are (slower)"},
	{"exact-only", NULL, OPTION_YES, AT(exact_only), 0, 0,
		"offer guests only what can be saved exactly (method emulate)"},
	{"formats", "FILE", OPTION_TEXT, AT(formats), 0, 0,
		"what trying this GPU's formats found before; told to the keeper if it is not"},
	{"no-journal", NULL, OPTION_YES, AT(no_journal), 0, 0,
		"keep nothing for a successor: connections end with this process"},
	{"lockdown", "MODE", OPTION_TEXT, AT(lockdown), 0, 0,
		"strict (default), best-effort, or off: for debuggers only"},
	{"standby", NULL, OPTION_YES, AT(standby), 0, 0,
		"whose vGPU it is, the keeper says later; what its type says does not count"},
	{"probe", NULL, OPTION_YES, AT(probe), 0, 0,
		"say in one JSON line whether the renderer works, and exit"},
	{"verbose", NULL, OPTION_YES, AT(verbose), 0, 0, "log more"},
	{"help", NULL, OPTION_PRINT, 0, 0, 0, "this text"},
	{"version", NULL, OPTION_PRINT, 0, 0, 0, "the version"},
#undef AT
};

static void options_print_help(void)
{
	puts("Usage: vgpu-device --keeper-fd N --stats-fd N --vram-mib N [OPTION]...\n"
	     "       vgpu-device --probe [--render-node NODE]\n"
	     "The data plane of one vGPU. Started by vgpu-keeper, never by hand.\n");
	for (size_t i = 0; i < ARRAY_SIZE(option_rows); i++) {
		const struct option_row *row = &option_rows[i];
		printf("  --%-13s %-4s %s\n", row->name, row->value ? row->value : "", row->help);
	}
}

static int options_number(const struct option_row *row, const char *text, uint32_t *ret)
{
	char *end;

	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || value < row->min ||
		value > row->max) {
		fprintf(stderr, "vgpu-device: --%s %s: it must be a number from %u to %u\n",
			row->name, text, row->min, row->max);
		return -EINVAL;
	}
	*ret = (uint32_t)value;
	return 0;
}

static int options_set(struct options *o, const struct option_row *row, const char *text)
{
	void *at = (char *)o + row->at;
	uint32_t number = 0;
	int err = 0;

	switch (row->kind) {
	case OPTION_TEXT:
		*(const char **)at = text;
		break;
	case OPTION_NUMBER:
		err = options_number(row, text, at);
		break;
	case OPTION_FD:
		err = options_number(row, text, &number);
		*(int *)at = err ? -1 : (int)number;
		break;
	case OPTION_YES:
		*(bool *)at = true;
		break;
	case OPTION_PRINT:
		if (row->name[0] == 'h')
			options_print_help();
		else
			puts("vgpu-device " VGPU_VERSION);
		return 1;
	}
	return err;
}

static const struct options option_defaults = {
	.keeper_fd = -1,
	.stats_fd = -1,
	.name = "vgpu",
	.renderer = "virgl",
	.heads = 1,
	.max_width = 1920,
	.max_height = 1200,
	.lockdown = "strict",
};

/* Reads them over what is there. */
static int options_read(struct options *o, int argc, char **argv)
{
	struct option table[ARRAY_SIZE(option_rows) + 1] = {0};
	int index;

	for (size_t i = 0; i < ARRAY_SIZE(option_rows); i++) {
		table[i].name = option_rows[i].name;
		table[i].has_arg = option_rows[i].value ? required_argument : no_argument;
		table[i].val = (int)i;
	}
	optind = 0; /* begin anew, whatever was read before */
	while ((index = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (index == '?')
			return -EINVAL;
		int r = options_set(o, &option_rows[index], optarg);
		if (r)
			return r;
	}
	if (optind == argc)
		return 0;
	fprintf(stderr, "vgpu-device: %s: unexpected argument (see --help)\n", argv[optind]);
	return -EINVAL;
}

int options_parse(struct options *o, int argc, char **argv)
{
	*o = option_defaults;
	int r = options_read(o, argc, argv);
	if (r)
		return r;
	if (strcmp(o->lockdown, "strict") != 0 && strcmp(o->lockdown, "best-effort") != 0 &&
		strcmp(o->lockdown, "off") != 0) {
		fprintf(stderr,
			"vgpu-device: --lockdown %s: it must be strict, best-effort or off\n",
			o->lockdown);
		return -EINVAL;
	}
	if (!o->probe && (o->keeper_fd < 0 || o->stats_fd < 0 || !o->vram_mib)) {
		fputs("vgpu-device: --keeper-fd, --stats-fd and --vram-mib are needed: a device "
		      "that no keeper knows does not serve (vgpud starts keepers)\n",
			stderr);
		return -EINVAL;
	}
	return 0;
}

/* ---- a stand-by's second command line ---- */

static bool option_is_late(const char *name)
{
	static const char *const late[] = {
#define X(option) option,
		STANDBY_LATE_OPTIONS(X)
#undef X
	};

	for (size_t i = 0; i < ARRAY_SIZE(late); i++) {
		if (strcmp(name, late[i]) == 0)
			return true;
	}
	return strcmp(name, "standby") == 0;
}

static bool option_same(
	const struct option_row *row, const struct options *a, const struct options *b)
{
	const void *at_a = (const char *)a + row->at, *at_b = (const char *)b + row->at;
	const char *text_a, *text_b;

	switch (row->kind) {
	case OPTION_TEXT:
		text_a = *(const char *const *)at_a;
		text_b = *(const char *const *)at_b;
		return text_a == text_b || (text_a && text_b && strcmp(text_a, text_b) == 0);
	case OPTION_NUMBER:
		return memcmp(at_a, at_b, sizeof(uint32_t)) == 0;
	case OPTION_FD:
		return memcmp(at_a, at_b, sizeof(int)) == 0;
	case OPTION_YES:
		return *(const bool *)at_a == *(const bool *)at_b;
	case OPTION_PRINT:
		break;
	}
	return true;
}

int options_parse_late(const struct options *now, int argc, char **argv, struct options *ret)
{
	struct options o = option_defaults;

	o.keeper_fd = now->keeper_fd;
	o.stats_fd = now->stats_fd;
	if (options_read(&o, argc, argv) || !o.vram_mib)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(option_rows); i++) {
		const struct option_row *row = &option_rows[i];
		if (option_is_late(row->name) || option_same(row, now, &o))
			continue;
		fprintf(stderr, "vgpu-device: --%s: a stand-by was started with another value\n",
			row->name);
		return -EINVAL;
	}
	*ret = o;
	return 0;
}
