/* SPDX-License-Identifier: Apache-2.0 */
/* docs/api.md, from the tables that also make the answers. */
#include "control/api.h"

#include "base/checked.h"
#include "control/advise_show.h"
#include "control/memory.h"
#include "control/render.h"
#include "host/report.h"
#include "metrics/prometheus.h"

struct field {
	const char *name, *type, *meaning;
};

static void print_fields(FILE *out, const char *title, const struct field *fields, size_t n)
{
	fprintf(out, "\n### %s\n\n| field | type | meaning |\n|---|---|---|\n", title);
	for (size_t i = 0; i < n; i++)
		fprintf(out, "| `%s` | %s | %s |\n", fields[i].name, fields[i].type,
			fields[i].meaning);
}

#define F(name, type, meaning) {#name, type, meaning},
#define S(name, kind, help)    {#name, "number", help},

static void api_print_metrics(FILE *out)
{
	fprintf(out,
		"\n## Metrics\n\n"
		"`GET /metrics` answers on this socket, and alone on the address that the "
		"configuration names\n(`[metrics] listen`, loopback only), to anybody on this "
		"node. Each field of stats is there as\n`vgpud_FIELD{vgpu=\"NAME\"}`, times in "
		"seconds: `gpu_time_ns_total` is `vgpud_gpu_time_seconds_total`.\n"
		"`frame_times` is the histogram `vgpud_frame_time_seconds`, its `le`");
	fprintf(out, " in seconds:");
#define BOUND(X, us, le) " " le
	fprintf(out, "%s +Inf.\n", VGPU_FRAME_TIMES(BOUND, ));
#undef BOUND
	fprintf(out, "`vgpud_vgpu_info` is 1, with the labels vgpu, gpu, type, method and state. "
		     "Beside them:\n\n| metric | meaning |\n|---|---|\n");
#define X(name, kind, help) fprintf(out, "| `vgpud_" #name "` | " help " |\n");
	METRICS_EVENTS_TABLE(X)
#undef X
}

void api_print(FILE *out)
{
	static const struct field gpu[] = {RENDER_GPU_FIELDS(F)}, type[] = {RENDER_TYPE_FIELDS(F)},
				  vgpu[] = {RENDER_VGPU_FIELDS(F) MEMORY_VGPU_FIELDS(F)},
				  node[] = {MEMORY_NODE_FIELDS(F)}, vm[] = {MEMORY_VM_FIELDS(F)},
				  ksm[] = {MEMORY_KSM_FIELDS(F)},
				  event[] = {RENDER_EVENT_FIELDS(F)},
				  check[] = {RENDER_CHECK_FIELDS(F)},
				  report[] = {REPORT_GPU_FIELDS(F)},
				  method[] = {REPORT_METHOD_FIELDS(F)},
				  pci[] = {REPORT_PCI_FIELDS(F)},
				  iommu[] = {REPORT_IOMMU_FIELDS(F)},
				  sriov[] = {REPORT_SRIOV_FIELDS(F)},
				  mdev[] = {REPORT_MDEV_FIELDS(F)},
				  vendor[] = {REPORT_VENDOR_FIELDS(F)},
				  stats[] = {METRICS_TABLE(S) RENDER_STATS_FIELDS(F)},
				  sample[] = {RENDER_SAMPLE_FIELDS(F)},
				  advice[] = {ADVICE_FIELDS(F)},
				  answer[] = {ADVICE_ANSWER_FIELDS(F)},
				  result[] = {RENDER_RESULT_FIELDS(F)};

	fprintf(out,
		"# vgpud's HTTP API\n\n"
		"On the Unix socket `RUN_DIR/vgpud.sock`. Served are root, vgpud's own user and "
		"members of its\ngroup, known by the kernel's peer credentials. Bodies are JSON "
		"objects of at most 64 KiB where nothing else is said.\nFields are added, never "
		"renamed. An error answers "
		"`{\"error\": {\"code\": \"EBUSY\", \"message\":\n\"WHAT: WHY (WHAT TO DO)\"}}` "
		"with status 400 (malformed), 403 (not allowed), 404 (not there),\n405 (method), "
		"409 (a rule or the present state forbids it), 413 (body too large), 507 (disk or "
		"GPU full),\n500 or 503.\n\nThis file is made by `vgpud --print-api`.\n\n"
		"| request | what | takes | answers |\n|---|---|---|---|\n");
#define X(method, path, handler, summary, request, answer)                                         \
	fprintf(out, "| `%s %s` | %s | %s | %s |\n", method, path, summary, request, answer);
	API_ROUTES(X)
#undef X
	fprintf(out, "\n## Objects\n");
	print_fields(out, "GPU", gpu, ARRAY_SIZE(gpu));
	print_fields(out, "shown GPU (beside those of GPU)", report, ARRAY_SIZE(report));
	print_fields(out, "method", method, ARRAY_SIZE(method));
	print_fields(out, "pci", pci, ARRAY_SIZE(pci));
	print_fields(out, "iommu", iommu, ARRAY_SIZE(iommu));
	print_fields(out, "sriov", sriov, ARRAY_SIZE(sriov));
	print_fields(out, "mdev", mdev, ARRAY_SIZE(mdev));
	print_fields(out, "vendor", vendor, ARRAY_SIZE(vendor));
	print_fields(out, "type", type, ARRAY_SIZE(type));
	print_fields(out, "vGPU", vgpu, ARRAY_SIZE(vgpu));
	print_fields(out, "node", node, ARRAY_SIZE(node));
	print_fields(out, "VM", vm, ARRAY_SIZE(vm));
	print_fields(out, "KSM", ksm, ARRAY_SIZE(ksm));
	print_fields(out, "event", event, ARRAY_SIZE(event));
	print_fields(out, "check", check, ARRAY_SIZE(check));
	print_fields(out, "advice", advice, ARRAY_SIZE(advice));
	print_fields(out, "answer", answer, ARRAY_SIZE(answer));
	print_fields(out, "result (beside `name`)", result, ARRAY_SIZE(result));
	print_fields(out, "stats (beside `name`, `gpu` and `state`)", stats, ARRAY_SIZE(stats));
	print_fields(out, "sample", sample, ARRAY_SIZE(sample));
	api_print_metrics(out);
}
