/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vGPU is asked for. Whose number the name of a VM's user is may be kept in a directory of the
 * network that does not answer, so that is found out in a process of its own; a number is not
 * looked up.
 */
#include "control/api_internal.h"

#include "base/parse.h"
#include "control/render.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define USER_MS   10000u
#define USERS_MAX 2u   /* looked up at a time; a directory that hangs keeps each for USER_MS */
#define USER_LONG 256u /* of a user's name, with its end */

/* What is asked for; its texts are the request's. */
struct create_call {
	struct api_call *call;
	struct vgpu_request request;
	char owner[USER_LONG];
};

static void on_created(void *data, const struct error *err)
{
	struct api_call *call = data;
	const struct vgpu *v = vgpud_find_vgpu(call->api->d, call->name);

	api_call_end(call, err, 201, err ? NULL : v ? render_vgpu(v) : json_object());
}

static void create_refuse(struct create_call *create, const struct error *err)
{
	api_call_end(create->call, err, 0, NULL);
	free(create);
}

static void create_go_on(struct create_call *create)
{
	struct error err = {0};

	if (vgpu_create(create->call->api->d, &create->request, on_created, create->call, &err) < 0)
		create_refuse(create, &err);
	else
		free(create);
}

/* --- a user's name --- */

/* In a child. No member "uid": there is none of that name; "code": why nobody can say. */
static json_t *user_work(const void *data)
{
	errno = 0;
	const struct passwd *user = getpwnam(data);
	if (user)
		return json_pack("{s:I, s:I}", "uid", (json_int_t)user->pw_uid, "gid",
			(json_int_t)user->pw_gid);
	bool none = errno == 0 || errno == ENOENT || errno == ESRCH;
	return json_pack("{s:i}", "code", none ? 0 : errno);
}

static void on_user(void *data, json_t *found)
{
	struct create_call *create = data;
	json_int_t uid = -1, gid = -1;
	struct error err;
	int code = 0;

	if (found)
		json_unpack(found, "{s?I, s?I, s?i}", "uid", &uid, "gid", &gid, "code", &code);
	if (uid >= 0 && uid < UINT32_MAX && gid >= 0 && gid < UINT32_MAX) {
		create->request.owner_uid = (uid_t)uid;
		create->request.owner_gid = (gid_t)gid;
		create_go_on(create);
	} else if (!found || code) {
		error_set(&err, found ? code : ETIMEDOUT,
			"create %.64s: whose number '%.32s' is cannot be looked up: %s (give the "
			"user's number)",
			create->request.name, create->owner,
			found ? strerror(code) : "the node's directory of users does not answer");
		create_refuse(create, &err);
	} else {
		error_set(&err, ENOENT,
			"create %.64s: there is no user '%.32s' on this node (give a name or a "
			"number)",
			create->request.name, create->owner);
		create_refuse(create, &err);
	}
	json_decref(found);
}

static void create_for(struct create_call *create, const char *owner)
{
	struct vgpud *d = create->call->api->d;
	struct error err;
	uint64_t number;

	create->request.owned = true;
	if (parse_number(owner, 10, UINT32_MAX - 1, &number)) {
		create->request.owner_uid = (uid_t)number;
		create->request.owner_gid = (gid_t)number;
		create_go_on(create);
		return;
	}
	if ((size_t)snprintf(create->owner, USER_LONG, "%s", owner) >= USER_LONG) {
		on_user(create, json_object()); /* nobody is called so */
		return;
	}
	int r = -EAGAIN;
	if (d->lookups.running < USERS_MAX)
		r = child_start(
			&d->lookups, d->event, user_work, create->owner, USER_MS, on_user, create);
	if (r == 0)
		return;
	error_set(&err, -r,
		"create %.64s: no process to look up a user in: %s (try again, or give the user's "
		"number)",
		create->request.name, strerror(-r));
	create_refuse(create, &err);
}

/* --- the request --- */

void api_vgpu_create(struct api *api, struct http_request *request, const char *name)
{
	struct vgpu_request asked = {
		.asker_uid = http_peer(request)->uid, .asker_gid = http_peer(request)->gid};
	const char *owner = NULL;
	struct error err = {0};
	json_error_t where;

	json_t *body = http_json(request, &err);
	if (body && json_unpack_ex(body, &where, JSON_STRICT, "{s:s, s:s, s?s, s?s, s?s, s?s}",
			    "name", &asked.name, "gpu", &asked.gpu, "type", &asked.type, "method",
			    &asked.method, "tenant", &asked.tenant, "owner", &owner) < 0) {
		error_set(&err, EINVAL, "create: %s (see docs/api.md)", where.text);
		body = NULL;
	}
	if (!body) {
		http_reply_error(request, &err);
		return;
	}
	struct create_call *create = calloc(1, sizeof(*create));
	struct api_call *call = api_call_new(api, request, asked.name);
	if (!call) {
		free(create);
		return;
	}
	if (!create) {
		error_set(&err, ENOMEM, "create: out of memory (free some)");
		api_call_end(call, &err, 0, NULL);
		return;
	}
	*create = (struct create_call){.call = call, .request = asked};
	if (owner)
		create_for(create, owner);
	else
		create_go_on(create);
}
