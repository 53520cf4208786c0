/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api_internal.h"

#include "base/cleanup.h"
#include "control/memory.h"
#include "host/domain_xml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void api_node(struct api *api, struct http_request *request, const char *name)
{
	http_reply_json(request, 200, memory_show(api->d));
}

int api_root_only(const struct http_request *request, const char *what, struct error *err)
{
	uid_t uid = http_peer(request)->uid;

	if (uid == 0 || uid == geteuid())
		return 0;
	return error_set(err, EPERM,
		"%s: only root and vgpud's own user may, not all of its group (run it as root)",
		what);
}

static void on_turned(void *data, const struct error *err)
{
	struct api_call *call = data;

	api_call_end(call, err, 200, err ? NULL : memory_show(call->api->d));
}

void api_node_overcommit(struct api *api, struct http_request *request, const char *name)
{
	struct error err = {0};
	json_error_t where;
	int on;

	json_t *body = http_json(request, &err);
	if (!body) {
		http_reply_error(request, &err);
		return;
	}
	if (json_unpack_ex(body, &where, JSON_STRICT, "{s:b}", "on", &on) < 0) {
		error_set(&err, EINVAL, "overcommit: %s (see docs/api.md)", where.text);
		http_reply_error(request, &err);
		return;
	}
	if (api_root_only(request, "overcommit", &err) < 0) {
		http_reply_error(request, &err);
		return;
	}
	struct api_call *call = api_call_new(api, request, "");
	if (call)
		api_call_started(call, memory_overcommit(api->d, on, on_turned, call, &err), &err);
}

/* The whole body, and a NUL behind it; -E2BIG, -EINVAL, -ENOMEM, -errno. */
static int read_definition(int fd, char **ret, size_t *ret_size)
{
	struct stat file;

	if (fd < 0 || fstat(fd, &file) < 0)
		return -EINVAL;
	if (file.st_size > DOMAIN_XML_MAX)
		return -E2BIG;
	size_t size = (size_t)file.st_size;
	cleanup_free char *text = malloc(size + 1);
	if (!text)
		return -ENOMEM;
	ssize_t n = pread(fd, text, size, 0);
	if (n < 0 || (size_t)n != size)
		return n < 0 ? -errno : -EIO;
	text[size] = '\0';
	*ret = TAKE_PTR(text);
	*ret_size = size;
	return 0;
}

static int vm_told(struct api *api, struct http_request *request, struct error *err)
{
	cleanup_close int fd = http_take_upload(request);
	cleanup_free char *xml = NULL;
	const struct ucred *peer = http_peer(request);
	struct memory_vm_event event = {.domain = http_query(request, "domain"),
		.operation = http_query(request, "operation")};

	if (peer->uid != 0 && peer->uid != geteuid())
		return error_set(err, EPERM,
			"hook: only root and vgpud's own user tell of VMs (libvirt runs it so)");
	if (!event.domain || !event.operation)
		return error_set(err, EINVAL,
			"hook: the domain or the operation is missing (see docs/api.md)");
	int r = read_definition(fd, &xml, &event.xml_size);
	if (r < 0)
		return error_set(err, -r,
			"hook: the definition of %.64s cannot be read: %s (see "
			"`virsh dumpxml`)",
			event.domain, strerror(-r));
	event.xml = xml;
	return memory_vm_event(api->d, &event, err);
}

void api_node_vms(struct api *api, struct http_request *request, const char *name)
{
	struct error err = {0};

	if (vm_told(api, request, &err) < 0)
		http_reply_error(request, &err);
	else
		http_reply_json(request, 200, json_pack("{s:b}", "admit", 1));
}
