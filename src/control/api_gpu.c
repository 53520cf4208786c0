/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api_internal.h"
#include "control/render.h"

#include <errno.h>

#define NO_SLICE (-1) /* nobody chose one */

void api_gpu_policy(struct api *api, struct http_request *request, const char *name)
{
	json_int_t slice_ms = NO_SLICE;
	const char *policy;
	struct error err = {0};
	json_error_t where;
	int r;

	json_t *body = http_json(request, &err);
	if (!body) {
		http_reply_error(request, &err);
		return;
	}
	if (json_unpack_ex(body, &where, JSON_STRICT, "{s:s, s?I}", "policy", &policy, "slice_ms",
		    &slice_ms) < 0)
		r = error_set(
			&err, EINVAL, "gpu policy %s: %s (see docs/api.md)", name, where.text);
	else if (slice_ms != NO_SLICE &&
		 (slice_ms < SCHED_SLICE_MIN_MS || slice_ms > SCHED_SLICE_MAX_MS))
		r = error_set(&err, EINVAL,
			"gpu policy %s: a slice of %lld ms is out of range (give %u to %u ms)",
			name, (long long)slice_ms, SCHED_SLICE_MIN_MS, SCHED_SLICE_MAX_MS);
	else
		r = vgpud_set_policy(
			api->d, name, policy, slice_ms == NO_SLICE ? 0 : (uint32_t)slice_ms, &err);
	if (r < 0)
		http_reply_error(request, &err);
	else
		http_reply_json(request, 200, render_gpu(api->d, vgpud_find_gpu(api->d, name)));
}
