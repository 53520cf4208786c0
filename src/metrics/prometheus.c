/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics/prometheus.h"

#include "base/checked.h"

#include <string.h>

#define NS_SUFFIX "_ns_total"
#define NS_IN_S   1000000000u

struct family {
	const char *name, *help;
	bool counter;
	size_t offset; /* of the uint64_t */
};

#define KIND_COUNTER true
#define KIND_GAUGE   false

static const struct family value_families[] = {
#define X(name, kind, help) {#name, help, KIND_##kind, offsetof(struct metrics_values, name)},
	METRICS_TABLE(X)
#undef X
};

static const struct family event_families[] = {
#define X(name, kind, help) {#name, help, KIND_##kind, offsetof(struct metrics_vgpu, name)},
	METRICS_EVENTS_TABLE(X)
#undef X
};

static const char *const frame_bounds[] = {
#define BOUND(X, us, le) le,
	VGPU_FRAME_TIMES(BOUND, )
#undef BOUND
		"+Inf"};

/* Between quotes, as the format has it. What is no plain ASCII might not be UTF-8. */
static void print_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		if (c == '\n')
			fputs("\\n", out);
		else if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else
			fputc(c < 0x20 || c >= 0x7f ? '?' : c, out);
	}
}

static void print_label(FILE *out, const char *name, const char *text, const char *behind)
{
	fprintf(out, "%s=\"", name);
	print_text(out, text);
	fprintf(out, "\"%s", behind);
}

static void print_head(FILE *out, const char *name, const char *kind, const char *help)
{
	fprintf(out, "# HELP vgpud_%s %s\n# TYPE vgpud_%s %s\n", name, help, name, kind);
}

static void print_seconds(FILE *out, uint64_t ns)
{
	fprintf(out, "%llu.%09llu\n", (unsigned long long)(ns / NS_IN_S),
		(unsigned long long)(ns % NS_IN_S));
}

static uint64_t value_at(const void *base, size_t offset)
{
	uint64_t value;

	memcpy(&value, (const char *)base + offset, sizeof(value));
	return value;
}

/* "x_ns_total" becomes "x_seconds_total": true. */
static bool base_unit(const char *name, char *ret, size_t size)
{
	size_t len = strlen(name), tail = strlen(NS_SUFFIX);
	bool is_time = len > tail && !strcmp(name + len - tail, NS_SUFFIX);

	if (is_time)
		snprintf(ret, size, "%.*s_seconds_total", (int)(len - tail), name);
	else
		snprintf(ret, size, "%s", name);
	return is_time;
}

static void print_family(FILE *out, const struct family *family, const struct metrics_vgpu *vgpus,
	size_t n, bool of_values)
{
	char name[80];
	bool is_time = base_unit(family->name, name, sizeof(name));

	print_head(out, name, family->counter ? "counter" : "gauge", family->help);
	for (size_t i = 0; i < n; i++) {
		const void *base = of_values ? (const void *)vgpus[i].values : &vgpus[i];
		uint64_t value = value_at(base, family->offset);
		fprintf(out, "vgpud_%s{", name);
		print_label(out, "vgpu", vgpus[i].name, "} ");
		if (is_time)
			print_seconds(out, value);
		else
			fprintf(out, "%llu\n", (unsigned long long)value);
	}
}

/* Buckets are cumulative here, and the last is the count: they agree whatever the page says. */
static void print_frames(FILE *out, const struct metrics_vgpu *vgpu)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(frame_bounds); i++) {
		sum += MIN(vgpu->values->frames[i], METRICS_MAX - sum);
		fputs("vgpud_frame_time_seconds_bucket{", out);
		print_label(out, "vgpu", vgpu->name, ",");
		print_label(out, "le", frame_bounds[i], "} ");
		fprintf(out, "%llu\n", (unsigned long long)sum);
	}
	fputs("vgpud_frame_time_seconds_sum{", out);
	print_label(out, "vgpu", vgpu->name, "} ");
	print_seconds(out, vgpu->values->frame_time_ns_total);
	fputs("vgpud_frame_time_seconds_count{", out);
	print_label(out, "vgpu", vgpu->name, "} ");
	fprintf(out, "%llu\n", (unsigned long long)sum);
}

static void print_info(FILE *out, const struct metrics_vgpu *vgpu)
{
	fputs("vgpud_vgpu_info{", out);
	print_label(out, "vgpu", vgpu->name, ",");
	print_label(out, "gpu", vgpu->gpu, ",");
	print_label(out, "type", vgpu->type, ",");
	print_label(out, "method", vgpu->method, ",");
	print_label(out, "state", vgpu->state, "} 1\n");
}

void metrics_print(FILE *out, const struct metrics_vgpu *vgpus, size_t n)
{
	print_head(out, "vgpu_info", "gauge", "1 for each vGPU, with what it is");
	for (size_t i = 0; i < n; i++)
		print_info(out, &vgpus[i]);
	for (size_t i = 0; i < ARRAY_SIZE(value_families); i++)
		print_family(out, &value_families[i], vgpus, n, true);
	for (size_t i = 0; i < ARRAY_SIZE(event_families); i++)
		print_family(out, &event_families[i], vgpus, n, false);
	print_head(out, "frame_time_seconds", "histogram",
		"time from one frame to the next of the same client or screen");
	for (size_t i = 0; i < n; i++)
		print_frames(out, &vgpus[i]);
}
