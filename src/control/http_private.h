/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_HTTP_PRIVATE_H
#define VGPU_CONTROL_HTTP_PRIVATE_H

/* What the files of the HTTP server share. */

#include "control/http.h"

#include "base/log.h"

#include <microhttpd.h>

struct http {
	struct MHD_Daemon *daemon;
	sd_event *event;
	sd_event_source *io, *timer;
	struct http_config config;
	struct http_request *waiting; /* handed to the handler, not answered yet */
	struct http_stream *streams;
	bool running; /* inside MHD_run() */
	bool resumed; /* a connection has to be looked at soon */
	struct log_limit limit;
};

struct http_request {
	struct http *http;
	struct MHD_Connection *connection;
	struct http_request *next, **at; /* in `waiting`; at NULL: not there */
	const char *method;
	char *path;
	struct ucred peer;
	char *body;
	size_t body_len;
	bool too_large, no_memory; /* the body */
	int upload_fd;             /* where the body goes; -1: into memory */
	uint64_t uploaded;
	int upload_error; /* positive errno */
	json_t *json;
	bool suspended;
	unsigned status; /* 0: not answered yet */
	const char *content_type;
	void *reply;
	size_t reply_size;
	int reply_fd;                     /* -1: `reply` it is */
	struct http_stream *reply_stream; /* NULL: none */
	char *reply_result;               /* NULL: none */
};

/* Has MHD run when it wants to, or soon. */
void http_arm(struct http *http);
/* A connection goes on that was suspended. */
void http_resume(struct http *http, struct MHD_Connection *connection);
/* The request has its status and answer. */
void http_answered(struct http_request *request);

/* http_stream.c */
struct MHD_Response *http_stream_response(struct http_request *request);
void http_stream_drop(struct http_stream *stream); /* that no response holds; NULL-safe */
void http_streams_end(struct http *http);

#endif
