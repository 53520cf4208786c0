/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_HTTP_H
#define VGPU_CONTROL_HTTP_H

/*
 * The HTTP/JSON server on vgpud's Unix socket, driven by vgpud's own loop. Who asks is who the
 * kernel says (SO_PEERCRED): root, vgpud's own user, and members of its group are served. On a TCP
 * socket nobody can be told from another, so its handler must have nothing to hide from this node.
 *
 * Limits: HTTP_BODY_MAX bytes of body, HTTP_UPLOAD_MAX of one that goes to a file, HTTP_CONNECTIONS
 * connections, HTTP_IDLE_S seconds for a client that sends or reads too slowly. A handler may
 * answer later: the connection waits.
 */

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#define HTTP_BODY_MAX    65536u
#define HTTP_UPLOAD_MAX  (64ull << 30)
#define HTTP_CONNECTIONS 64u
#define HTTP_IDLE_S      10u

struct http;
struct http_request;

/*
 * Asked at the head of a request from somebody who may use the API: a file of his own for its body
 * (taken; read and written from its start), or -1: it is short and kept in memory;
 * another negative number is why not, as -errno (-EPERM, which is -1, cannot be said).
 */
typedef int (*http_upload)(void *data, const struct http_request *request);

/* Must lead to exactly one http_reply_*(), at once or later. */
typedef void (*http_handler)(void *data, struct http_request *request);

struct http_config {
	gid_t group; /* (gid_t)-1: none */
	bool anyone; /* whoever can connect is served */
	http_handler handler;
	http_upload upload; /* NULL: bodies are short */
	void *data;
};

/* Takes `listen_fd`. */
int http_create(
	sd_event *event, int listen_fd, const struct http_config *config, struct http **ret);
/* NULL-safe; open requests are answered 503, streams end. */
void http_destroy(struct http *http);

const char *http_method(const struct http_request *request);
const char *http_path(const struct http_request *request);
const struct ucred *http_peer(const struct http_request *request);
/* NULL when the query has no such key. Lives as long as the request. */
const char *http_query(const struct http_request *request, const char *key);
/* The body as JSON: NULL with the reason when it is none. Borrowed. */
json_t *http_json(struct http_request *request, struct error *err);

/* The file that the body was written to, rewound, the caller's now; -1: there is none. */
int http_take_upload(struct http_request *request);

/* Each ends the request; `json` is taken. */
void http_reply_json(struct http_request *request, unsigned status, json_t *json);
void http_reply_error(struct http_request *request, const struct error *err);
void http_reply_error_status(
	struct http_request *request, unsigned status, const struct error *err);
/* `bytes` (malloc'd) are taken. */
void http_reply_bytes(
	struct http_request *request, const char *content_type, void *bytes, size_t size);

/* `fd` is taken and sent from its start; `result` goes along as a header of that name. */
void http_reply_file(
	struct http_request *request, const char *content_type, int fd, json_t *result);
#define HTTP_RESULT_HEADER "Vgpu-Result"

/*
 * An answer without an end, message after message. One message at a time is on its way: a reader
 * that is slower than its messages misses some, and one that reads nothing for HTTP_IDLE_S seconds
 * is cut off. `ended` is called once, when the reader is gone or the server ends; the stream is
 * gone then. NULL: no memory, and the request was answered so.
 */
struct http_stream;
struct http_stream *http_reply_stream(struct http_request *request, const char *content_type,
	void (*ended)(void *data), void *data);
/* Is the last message off to the reader? */
bool http_stream_ready(const struct http_stream *stream);
/* `bytes` (malloc'd) are taken; the stream is ready. */
void http_stream_send(struct http_stream *stream, char *bytes, size_t size);

#endif
