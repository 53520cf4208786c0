/* SPDX-License-Identifier: Apache-2.0 */

/* Who the client is, which protocol it speaks, and what the device can do. */

#include "frontend/vtest/internal.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Larger than any capset there is; what a renderer reports beyond it is not believed. */
#define VTEST_CAPSET_MAX 65536u

int vtest_need_context(struct vtest *v, uint32_t capset)
{
	int err;

	if (v->has_context)
		return 0;
	err = device_context_create(
		v->client, VTEST_CONTEXT, capset, v->name, strnlen(v->name, sizeof(v->name)));
	if (err)
		return err;
	v->has_context = true;
	v->capset = capset;
	return 0;
}

int vtest_on_create_renderer(struct vtest *v, void *payload, size_t size)
{
	size_t len = strnlen(payload, MIN(size, sizeof(v->name) - 1));

	memcpy(v->name, payload, len);
	v->name[len] = '\0';
	v->state = VTEST_STATE_OPEN;
	return 0;
}

int vtest_on_ping(struct vtest *v, void *payload, size_t size)
{
	return vtest_reply(v, 0, VTEST_PING_PROTOCOL_VERSION, NULL, 0);
}

int vtest_on_protocol_version(struct vtest *v, void *payload, size_t size)
{
	uint32_t version;

	if (v->has_context)
		return vtest_fail(v, -EPROTO, "sent after the first rendering command");
	memcpy(&version, payload, sizeof(version));
	version = MIN(version, VTEST_VERSION_MAX);
	v->version = version == 1 ? 0 : version;
	return vtest_reply(v, 1, VTEST_PROTOCOL_VERSION, &v->version, 1);
}

static int vtest_find_capset(struct vtest *v, uint32_t id, struct renderer_capset *ret)
{
	struct renderer_capset capset;

	for (unsigned i = 0; device_capset_info(v->dev, i, &capset) == 0; i++) {
		if (capset.id == id && capset.max_size <= VTEST_CAPSET_MAX) {
			*ret = capset;
			return 0;
		}
	}
	return -ENOENT;
}

/* Sends `head` (n dwords, header included) and the capset's bytes as one message. */
static int vtest_send_capset(struct vtest *v, const struct renderer_capset *capset,
	uint32_t version, const uint32_t *head, size_t n)
{
	cleanup_free uint8_t *message = calloc(1, n * 4 + capset->max_size);
	int err;

	if (!message)
		return -ENOMEM;
	memcpy(message, head, n * 4);
	err = device_capset_get(v->dev, capset->id, version, message + n * 4, capset->max_size);
	if (err)
		return err;
	return vtest_send(v, message, n * 4 + capset->max_size, NULL);
}

/* The length of these two answers is in bytes and one too many, and their id is the capset's. */
static int vtest_send_caps(struct vtest *v, uint32_t id)
{
	struct renderer_capset capset;

	if (vtest_find_capset(v, id, &capset))
		return vtest_fail(v, -EOPNOTSUPP, "this vGPU does not offer virgl");
	return vtest_send_capset(
		v, &capset, capset.max_version, (uint32_t[]){capset.max_size + 1, id}, 2);
}

int vtest_on_get_caps(struct vtest *v, void *payload, size_t size)
{
	return vtest_send_caps(v, 1);
}

int vtest_on_get_caps2(struct vtest *v, void *payload, size_t size)
{
	return vtest_send_caps(v, 2);
}

int vtest_on_get_param(struct vtest *v, void *payload, size_t size)
{
	uint32_t param, answer[2] = {0};

	memcpy(&param, payload, sizeof(param));
	if (param == VTEST_PARAM_MAX_TIMELINE_COUNT) {
		answer[0] = 1;
		answer[1] = VTEST_MAX_TIMELINE_COUNT;
	}
	return vtest_reply(v, 2, VTEST_GET_PARAM, answer, 2);
}

int vtest_on_get_capset(struct vtest *v, void *payload, size_t size)
{
	struct renderer_capset capset;
	uint32_t asked[2], invalid = 0;

	memcpy(asked, payload, sizeof(asked));
	if (vtest_find_capset(v, asked[0], &capset) || asked[1] > capset.max_version ||
		capset.max_size % 4)
		return vtest_reply(v, 1, VTEST_GET_CAPSET, &invalid, 1);
	return vtest_send_capset(v, &capset, asked[1],
		(uint32_t[]){1 + capset.max_size / 4, VTEST_GET_CAPSET, 1}, 3);
}

int vtest_on_context_init(struct vtest *v, void *payload, size_t size)
{
	uint32_t capset;

	memcpy(&capset, payload, sizeof(capset));
	if (!capset)
		return vtest_fail(v, -EINVAL, "capset 0");
	if (v->has_context)
		return v->capset == capset ? 0 : vtest_fail(v, -EINVAL, "the capset is fixed");
	return vtest_need_context(v, capset);
}
