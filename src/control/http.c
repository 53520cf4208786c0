/* SPDX-License-Identifier: Apache-2.0 */
#include "control/http_private.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HTTP_GROUPS_MAX 1024

const char *http_method(const struct http_request *request)
{
	return request->method;
}

const char *http_path(const struct http_request *request)
{
	return request->path;
}

const struct ucred *http_peer(const struct http_request *request)
{
	return &request->peer;
}

const char *http_query(const struct http_request *request, const char *key)
{
	return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, key);
}

json_t *http_json(struct http_request *request, struct error *err)
{
	json_error_t where;

	if (!request->json)
		request->json = json_loadb(
			request->body ?: "", request->body_len, JSON_REJECT_DUPLICATES, &where);
	if (!request->json)
		error_set(err, EINVAL, "request: the body is not JSON: %s (see docs/api.md)",
			where.text);
	return request->json;
}

/* --- who may ask --- */

static bool peer_allowed(const struct http *http, const struct http_request *request)
{
	const struct ucred *peer = &request->peer;
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	gid_t groups[HTTP_GROUPS_MAX];
	socklen_t len = sizeof(groups);

	if (peer->uid == 0 || peer->uid == geteuid())
		return true;
	if (http->config.group == (gid_t)-1 || !info)
		return false;
	if (peer->gid == http->config.group)
		return true;
	/* The groups the peer had when it connected; no user database is asked. */
	if (getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (size_t i = 0; i < len / sizeof(*groups); i++) {
		if (groups[i] == http->config.group)
			return true;
	}
	return false;
}

static bool request_peer(struct http_request *request)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	socklen_t len = sizeof(request->peer);

	return info &&
	       getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &request->peer, &len) == 0;
}

/* --- answering --- */

static enum MHD_Result request_queue(struct http_request *request)
{
	struct MHD_Response *response;

	if (request->reply_stream)
		response = http_stream_response(request);
	else if (request->reply_fd >= 0)
		response = MHD_create_response_from_fd64(request->reply_size, request->reply_fd);
	else
		response = MHD_create_response_from_buffer(
			request->reply_size, request->reply, MHD_RESPMEM_MUST_FREE);
	if (!response)
		return MHD_NO;
	request->reply = NULL; /* the response's now, as are the file and the stream */
	request->reply_fd = -1;
	request->reply_stream = NULL;
	if (request->reply_result)
		MHD_add_response_header(response, HTTP_RESULT_HEADER, request->reply_result);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, request->content_type);
	enum MHD_Result r = MHD_queue_response(request->connection, request->status, response);
	MHD_destroy_response(response);
	return r;
}

void http_resume(struct http *http, struct MHD_Connection *connection)
{
	MHD_resume_connection(connection);
	http->resumed = true;
	http_arm(http);
}

/* The answer is there: now it is sent, or on the next turn if MHD is at work above us. */
void http_answered(struct http_request *request)
{
	struct http *http = request->http;

	if (request->at) {
		*request->at = request->next;
		if (request->next)
			request->next->at = request->at;
		request->at = NULL;
	}
	if (!request->suspended)
		return;
	request->suspended = false;
	http_resume(http, request->connection);
}

void http_reply_bytes(
	struct http_request *request, const char *content_type, void *bytes, size_t size)
{
	request->status = request->status ?: MHD_HTTP_OK;
	request->content_type = content_type;
	request->reply = bytes;
	request->reply_size = size;
	http_answered(request);
}

void http_reply_json(struct http_request *request, unsigned status, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;

	json_decref(json);
	if (!text) {
		text = strdup("{\"error\":{\"code\":\"ENOMEM\",\"message\":\"out of memory\"}}");
		status = MHD_HTTP_INTERNAL_SERVER_ERROR;
	}
	request->status = status;
	http_reply_bytes(request, "application/json", text, text ? strlen(text) : 0);
}

void http_reply_file(struct http_request *request, const char *content_type, int fd, json_t *result)
{
	off_t size = lseek(fd, 0, SEEK_END);

	request->reply_result = json_dumps(result, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(result);
	lseek(fd, 0, SEEK_SET);
	request->reply_fd = fd;
	http_reply_bytes(request, content_type, NULL, size > 0 ? (size_t)size : 0);
}

static unsigned status_of(int code)
{
	static const struct {
		int code;
		unsigned status;
	} table[] = {
		{EINVAL, MHD_HTTP_BAD_REQUEST},
		{ENOENT, MHD_HTTP_NOT_FOUND},
		{EEXIST, MHD_HTTP_CONFLICT},
		{EBUSY, MHD_HTTP_CONFLICT},
		{ENOTSUP, MHD_HTTP_CONFLICT},
		{EPERM, MHD_HTTP_FORBIDDEN},
		{EACCES, MHD_HTTP_FORBIDDEN},
		{ENOSPC, MHD_HTTP_INSUFFICIENT_STORAGE},
		{EALREADY, MHD_HTTP_CONFLICT},
		{ESTALE, MHD_HTTP_CONFLICT},
		{EBADMSG, MHD_HTTP_BAD_REQUEST},
		{EAGAIN, MHD_HTTP_SERVICE_UNAVAILABLE},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (table[i].code == code)
			return table[i].status;
	}
	return MHD_HTTP_INTERNAL_SERVER_ERROR;
}

void http_reply_error_status(struct http_request *request, unsigned status, const struct error *err)
{
	char text[ERROR_TEXT_MAX * 2];

	/* A message cut inside a character, or holding a guest's bytes, must still be JSON. */
	size_t n = 0;
	for (const char *p = err->text; *p && n + 1 < sizeof(text); p++)
		text[n++] = (*p & 0x80) || (unsigned char)*p < 0x20 ? '?' : *p;
	text[n] = '\0';
	http_reply_json(request, status,
		json_pack("{s:{s:s, s:s}}", "error", "code", strerrorname_np(err->code) ?: "EIO",
			"message", text));
}

void http_reply_error(struct http_request *request, const struct error *err)
{
	http_reply_error_status(request, status_of(err->code), err);
}

/* --- MHD's side --- */

static void refuse_request(
	struct http_request *request, unsigned status, int code, const char *text)
{
	struct error err;

	error_set(&err, code, "request: %s", text);
	http_reply_error_status(request, status, &err);
}

static void request_start(struct http_request *request)
{
	struct http *http = request->http;

	request->next = http->waiting;
	request->at = &http->waiting;
	if (http->waiting)
		http->waiting->at = &request->next;
	http->waiting = request;

	if (!http->config.anyone && (!request_peer(request) || !peer_allowed(http, request))) {
		log_limited(
			&http->limit, LOG_LEVEL_WARNING, "uid %u is refused", request->peer.uid);
		refuse_request(request, MHD_HTTP_FORBIDDEN, EACCES,
			"your user may not use vgpud (join its group, by default vgpu)");
	} else if (request->too_large) {
		refuse_request(request, MHD_HTTP_CONTENT_TOO_LARGE, EINVAL,
			"the body is too large (send at most 65536 bytes)");
	} else if (request->no_memory) {
		refuse_request(request, MHD_HTTP_SERVICE_UNAVAILABLE, ENOMEM,
			"vgpud is out of memory (free some)");
	} else if (request->upload_error) {
		refuse_request(request, status_of(request->upload_error), request->upload_error,
			request->upload_error == EFBIG
				? "the file is too large (64 GiB are the most)"
				: "the file cannot be kept (free some space where vgpud's state "
				  "is)");
	} else {
		http->config.handler(http->config.data, request);
	}
}

/* What cannot be written is still read, so that the client gets to know why. */
static void request_upload_file(struct http_request *request, const char *data, size_t size)
{
	if (size > HTTP_UPLOAD_MAX - request->uploaded)
		request->upload_error = EFBIG;
	while (size && !request->upload_error) {
		ssize_t n = write(request->upload_fd, data, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			request->upload_error = n < 0 ? errno : EIO;
			break;
		}
		request->uploaded += (uint64_t)n;
		data += n;
		size -= (size_t)n;
	}
}

int http_take_upload(struct http_request *request)
{
	int fd = TAKE_FD(request->upload_fd);

	if (fd >= 0)
		lseek(fd, 0, SEEK_SET);
	return fd;
}

static void request_upload(struct http_request *request, const char *data, size_t size)
{
	if (request->upload_fd >= 0 || request->upload_error) {
		request_upload_file(request, data, size);
		return;
	}
	if (request->too_large || size > HTTP_BODY_MAX - request->body_len) {
		request->too_large = true;
		return;
	}
	char *body = request->no_memory ? NULL : realloc(request->body, request->body_len + size);
	if (!body) {
		request->no_memory = true;
		return;
	}
	request->body = body;
	memcpy(request->body + request->body_len, data, size);
	request->body_len += size;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_size,
	void **state)
{
	struct http_request *request = *state;

	if (!request) {
		request = calloc(1, sizeof(*request));
		char *path = strdup(url);
		if (!request || !path) {
			free(request);
			free(path);
			return MHD_NO;
		}
		*request = (struct http_request){.http = cls,
			.connection = connection,
			.method = method,
			.path = path,
			.upload_fd = -1,
			.reply_fd = -1};
		*state = request;
		const struct http_config *config = &request->http->config;
		if (config->upload && request_peer(request) &&
			peer_allowed(request->http, request)) {
			int fd = config->upload(config->data, request);
			request->upload_fd = MAX(fd, -1);
			request->upload_error = fd < -1 ? -fd : 0;
		}
		return MHD_YES;
	}
	if (*upload_size) {
		request_upload(request, upload, *upload_size);
		*upload_size = 0;
		return MHD_YES;
	}
	if (!request->status)
		request_start(request);
	if (request->status)
		return request_queue(request);
	request->suspended = true;
	MHD_suspend_connection(connection);
	return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **state,
	enum MHD_RequestTerminationCode code)
{
	struct http_request *request = *state;

	if (!request)
		return;
	free(request->path);
	free(request->body);
	free(request->reply);
	free(request->reply_result);
	close_fd(&request->upload_fd);
	close_fd(&request->reply_fd);
	http_stream_drop(request->reply_stream);
	json_decref(request->json);
	free(request);
	*state = NULL;
}

static void http_run(struct http *http)
{
	http->running = true;
	http->resumed = false;
	MHD_run(http->daemon);
	http->running = false;
	http_arm(http);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *data)
{
	http_run(data);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	http_run(data);
	return 0;
}

void http_arm(struct http *http)
{
	MHD_UNSIGNED_LONG_LONG ms = 0;

	if (http->running)
		return;
	/* MHD does not count a resumed connection as a reason to be run at once. */
	if (!http->resumed && MHD_get_timeout(http->daemon, &ms) != MHD_YES) {
		sd_event_source_set_enabled(http->timer, SD_EVENT_OFF);
		return;
	}
	sd_event_source_set_time(http->timer, clock_ns() / 1000 + ms * 1000);
	sd_event_source_set_enabled(http->timer, SD_EVENT_ONESHOT);
}

static void __attribute__((format(printf, 2, 0)))
on_mhd_log(void *cls, const char *format, va_list args)
{
	struct http *http = cls;
	char text[256];

	vsnprintf(text, sizeof(text), format, args);
	log_limited(&http->limit, LOG_LEVEL_DEBUG, "http: %s", text);
}

int http_create(sd_event *event, int listen_fd, const struct http_config *config, struct http **ret)
{
	struct http *http = calloc(1, sizeof(*http));

	if (!http) {
		close(listen_fd);
		return -ENOMEM;
	}
	*http = (struct http){.event = event, .config = *config, .limit = LOG_LIMIT_INIT};
	http->daemon =
		MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0,
			NULL, NULL, on_access, http, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, http,
			MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_CONNECTION_LIMIT,
			HTTP_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, HTTP_IDLE_S,
			MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END);
	if (!http->daemon) {
		close(listen_fd);
		free(http);
		return -EIO;
	}
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	int r = info ? sd_event_add_io(event, &http->io, info->epoll_fd, EPOLLIN, on_io, http)
		     : -EIO;
	if (r >= 0)
		r = sd_event_add_time(
			event, &http->timer, CLOCK_MONOTONIC, UINT64_MAX, 1000, on_timer, http);
	if (r < 0) {
		http_destroy(http);
		return r;
	}
	*ret = http;
	return 0;
}

void http_destroy(struct http *http)
{
	if (!http)
		return;
	while (http->waiting)
		refuse_request(http->waiting, MHD_HTTP_SERVICE_UNAVAILABLE, EAGAIN,
			"vgpud is ending (try again)");
	http_streams_end(http);
	http->io = sd_event_source_disable_unref(http->io);
	if (http->timer)
		MHD_run(http->daemon);
	MHD_stop_daemon(http->daemon);
	sd_event_source_disable_unref(http->timer);
	free(http);
}
