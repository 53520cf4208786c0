/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top.h"

#include "cli/cli.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAME_LEAST 8
#define CELL_MAX   96

struct column {
	const char *name, *title;
	int key, width; /* width below 0: left-aligned; 0: the rest */
	int rank;
};

static const struct column columns[] = {
#define X(name, key, title, width, rank) [TOP_##name] = {#name, title, key, width, rank},
	TOP_COLUMNS(X)
#undef X
};

/* One vGPU of the newest sample; what it did since the one before it, a second. */
struct row {
	const char *name, *gpu, *state;
	double value[TOP_COLUMN_COUNT]; /* of columns that are numbers; NAN: nothing to say */
	double limit;                   /* VRAM, bytes */
};

/* ---- samples ---- */

bool top_view_sample(struct top_view *view, const char *line)
{
	json_t *sample = json_loads(line, 0, NULL);

	if (!json_is_array(json_object_get(sample, "vgpus"))) {
		json_decref(sample);
		return false;
	}
	json_decref(view->last);
	view->last = view->now;
	view->now = sample;
	return true;
}

bool top_view_ready(const struct top_view *view)
{
	return view->last != NULL;
}

void top_view_finish(struct top_view *view)
{
	json_decref(view->last);
	json_decref(view->now);
	view->last = view->now = NULL;
}

static double number(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key)) ?: "?";
}

static const json_t *find(const json_t *sample, const char *name)
{
	const json_t *list = json_object_get(sample, "vgpus"), *vgpu;
	size_t i;

	json_array_foreach(list, i, vgpu)
	{
		if (!strcmp(text(vgpu, "name"), name))
			return vgpu;
	}
	return NULL;
}

/* How much a counter rose; one that is new or began anew: 0. */
static double rise(const json_t *now, const json_t *last, const char *key)
{
	return last ? MAX(number(now, key) - number(last, key), 0) : 0;
}

/* The bound of the bucket in which the slowest hundredth of the new frames begins, ms. */
static double slow_frame_ms(const json_t *now, const json_t *last)
{
	const json_t *list = json_object_get(now, "frame_times"), *row;
	const json_t *before = json_object_get(last, "frame_times");
	double all = 0, seen = 0;
	size_t i;

	json_array_foreach(list, i, row) all += rise(row, json_array_get(before, i), "frames");
	json_array_foreach(list, i, row)
	{
		seen += rise(row, json_array_get(before, i), "frames");
		const json_t *bound = json_object_get(row, "up_to_ms");
		if (all > 0 && seen >= all * 0.99)
			return json_is_number(bound) ? json_number_value(bound) : INFINITY;
	}
	return NAN;
}

static void row_read(struct row *row, const json_t *now, const json_t *last, double ns)
{
	double s = ns / 1e9;

	*row = (struct row){.name = text(now, "name"),
		.gpu = text(now, "gpu"),
		.state = text(now, "state"),
		.limit = number(now, "vram_limit_bytes")};
	row->value[TOP_time] = rise(now, last, "gpu_time_ns_total") / ns * 100;
	row->value[TOP_wait] =
		(rise(now, last, "wait_time_ns_total") + rise(now, last, "cpu_delay_ns_total")) /
		ns * 100;
	row->value[TOP_draws] = rise(now, last, "draws_total") / s;
	row->value[TOP_bytes] = (rise(now, last, "transfer_to_host_bytes_total") +
					rise(now, last, "transfer_from_host_bytes_total") +
					rise(now, last, "stream_bytes_total")) /
				s;
	row->value[TOP_fps] = rise(now, last, "frames_total") / s;
	row->value[TOP_p99] = slow_frame_ms(now, last);
	row->value[TOP_vram] = number(now, "vram_used_bytes");
}

/* ---- order ---- */

bool top_view_sort_by_name(struct top_view *view, const char *name)
{
	for (unsigned i = 0; i < TOP_COLUMN_COUNT; i++) {
		if (!strcmp(columns[i].name, name)) {
			view->sort = (enum top_column)i;
			view->reverse = false;
			return true;
		}
	}
	return false;
}

bool top_view_sort_by_key(struct top_view *view, int key)
{
	for (unsigned i = 0; i < TOP_COLUMN_COUNT; i++) {
		if (columns[i].key != key)
			continue;
		view->reverse = view->sort == i && !view->reverse;
		view->sort = (enum top_column)i;
		return true;
	}
	return false;
}

static bool is_text(enum top_column column)
{
	return column == TOP_name || column == TOP_gpu || column == TOP_state;
}

static const char *row_text(const struct row *row, enum top_column column)
{
	return column == TOP_name ? row->name : column == TOP_gpu ? row->gpu : row->state;
}

/* Texts from A, numbers from the largest; what is equal by name. */
static int compare(const void *a, const void *b, void *data)
{
	const struct top_view *view = data;
	const struct row *x = a, *y = b;
	int order;

	if (is_text(view->sort)) {
		order = strcmp(row_text(x, view->sort), row_text(y, view->sort));
	} else {
		double value_x = x->value[view->sort], value_y = y->value[view->sort];
		value_x = isnan(value_x) ? -1 : value_x;
		value_y = isnan(value_y) ? -1 : value_y;
		order = (value_x < value_y) - (value_x > value_y);
	}
	order = view->reverse ? -order : order;
	return order ? order : strcmp(x->name, y->name);
}

/* ---- text ---- */

static void cell(const struct row *row, enum top_column column, char ret[CELL_MAX])
{
	double value = row->value[column];

	if (is_text(column))
		snprintf(ret, CELL_MAX, "%s", row_text(row, column));
	else if (isnan(value))
		snprintf(ret, CELL_MAX, "-");
	else if (isinf(value))
		snprintf(ret, CELL_MAX, ">200");
	else if (column == TOP_draws)
		cli_count(value, ret, CELL_MAX);
	else if (column == TOP_bytes)
		snprintf(ret, CELL_MAX, value < 9.995e6 ? "%.2f" : "%.0f", value / 1e6);
	else if (column == TOP_vram && row->limit >= 99999.5 * (1 << 20))
		snprintf(ret, CELL_MAX, "%.0f/%.0f G", value / (1 << 30), row->limit / (1 << 30));
	else if (column == TOP_vram)
		snprintf(ret, CELL_MAX, "%.0f/%.0f", ceil(value / (1 << 20)),
			row->limit / (1 << 20));
	else
		snprintf(ret, CELL_MAX, value < 999.95 ? "%.1f" : "%.0f", value);
}

static int longest_name(const struct row *rows, size_t n)
{
	size_t most = NAME_LEAST;

	for (size_t i = 0; i < n; i++)
		most = MAX(most, strlen(rows[i].name));
	return (int)MIN(most, (size_t)CELL_MAX);
}

/* Which columns fit, and what of the width is left for the name. */
static int choose(int width, bool ret_shown[TOP_COLUMN_COUNT])
{
	int used = 0, last = 0;

	for (unsigned i = 0; i < TOP_COLUMN_COUNT; i++) {
		ret_shown[i] = true;
		used += columns[i].width ? abs(columns[i].width) + 1 : 0;
		last = MAX(last, columns[i].rank);
	}
	for (; width - used < NAME_LEAST && last > 0; last--) {
		for (unsigned i = 0; i < TOP_COLUMN_COUNT; i++) {
			if (columns[i].rank == last) {
				ret_shown[i] = false;
				used -= abs(columns[i].width) + 1;
			}
		}
	}
	return width - used;
}

/* One line; `row` NULL: the titles. Bytes that are no plain text are not sent to a terminal. */
static void print_line(FILE *out, const struct row *row, const bool shown[], int name_width)
{
	char words[CELL_MAX];

	for (unsigned i = 0; i < TOP_COLUMN_COUNT; i++) {
		int width = columns[i].width ? columns[i].width : -name_width;
		if (!shown[i])
			continue;
		if (row)
			cell(row, (enum top_column)i, words);
		else
			snprintf(words, sizeof(words), "%s", columns[i].title);
		for (char *c = words; *c; c++) {
			if (*c < 0x20 || *c >= 0x7f)
				*c = '?';
		}
		fprintf(out, "%s%*.*s", i ? " " : "", width, abs(width), words);
	}
}

static void print_summary(
	const struct top_view *view, const struct row *rows, size_t n, int width, FILE *out)
{
	char line[CELL_MAX * 2], when[32];
	time_t s = (time_t)(number(view->now, "time_ms") / 1000);
	double time_used = 0, missed = number(view->now, "missed");
	size_t bound = 0;
	struct tm utc;

	gmtime_r(&s, &utc);
	strftime(when, sizeof(when), "%H:%M:%S UTC", &utc);
	for (size_t i = 0; i < n; i++) {
		time_used += rows[i].value[TOP_time];
		bound += !strcmp(rows[i].state, "bound");
	}
	snprintf(line, sizeof(line), "vgpud %s  %zu vGPUs, %zu bound  GPU %.1f %%  by %s%s%s", when,
		n, bound, time_used, columns[view->sort].title, view->reverse ? " reversed" : "",
		missed > 0 ? "  (samples missed)" : "");
	fprintf(out, "%.*s", width, line);
}

static struct row *rows_read(const struct top_view *view, size_t *ret_n)
{
	const json_t *list = json_object_get(view->now, "vgpus"), *vgpu;
	double ns = number(view->now, "interval_ns");
	struct row *rows = calloc(MAX(json_array_size(list), 1), sizeof(*rows));
	size_t i;

	if (!rows)
		return NULL;
	json_array_foreach(list, i, vgpu)
		row_read(&rows[i], vgpu, find(view->last, text(vgpu, "name")), ns > 0 ? ns : 1e9);
	*ret_n = json_array_size(list);
	qsort_r(rows, *ret_n, sizeof(*rows), compare, (void *)(uintptr_t)view);
	return rows;
}

void top_view_print(const struct top_view *view, const struct top_page *page, FILE *out)
{
	bool shown[TOP_COLUMN_COUNT];
	size_t n = 0, room = (size_t)MAX(page->height - 2, 0);

	if (page->width < TOP_LEAST_WIDTH || page->height < TOP_LEAST_HEIGHT) {
		fprintf(out, "%.*s", page->width, "too small");
		return;
	}
	cleanup_free struct row *rows = rows_read(view, &n);
	if (!rows)
		return;
	int name_width = choose(page->width, shown);
	name_width = MIN(name_width, longest_name(rows, n));
	print_summary(view, rows, n, page->width, out);
	fprintf(out, "%s%s", page->end, page->before);
	print_line(out, NULL, shown, name_width);
	fputs(page->after, out);
	for (size_t i = 0; i < MIN(n, n > room ? room - 1 : room); i++) {
		fputs(page->end, out);
		print_line(out, &rows[i], shown, name_width);
	}
	if (n > room)
		fprintf(out, "%s... and %zu more", page->end, n - room + 1);
}
