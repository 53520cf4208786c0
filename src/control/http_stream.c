/* SPDX-License-Identifier: Apache-2.0 */
#include "control/http_private.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The connection is suspended while there is nothing to send. */
struct http_stream {
	struct http *http;
	struct MHD_Connection *connection;
	struct http_stream *next, **at;
	void (*ended)(void *data);
	void *data;
	char *message; /* NULL: none is on its way */
	size_t size, sent;
	bool suspended, ending;
};

static void stream_message_done(struct http_stream *s)
{
	free(s->message);
	s->message = NULL;
	s->size = s->sent = 0;
}

static ssize_t on_stream_read(void *cls, uint64_t position, char *buf, size_t max)
{
	struct http_stream *s = cls;

	if (s->message) {
		size_t n = MIN(max, s->size - s->sent);
		memcpy(buf, s->message + s->sent, n);
		s->sent += n;
		if (s->sent == s->size)
			stream_message_done(s);
		return (ssize_t)n;
	}
	if (s->ending)
		return MHD_CONTENT_READER_END_OF_STREAM;
	s->suspended = true;
	MHD_suspend_connection(s->connection);
	return 0;
}

static void on_stream_free(void *cls)
{
	struct http_stream *s = cls;

	*s->at = s->next;
	if (s->next)
		s->next->at = s->at;
	s->ended(s->data);
	stream_message_done(s);
	free(s);
}

struct MHD_Response *http_stream_response(struct http_request *request)
{
	return MHD_create_response_from_callback(
		MHD_SIZE_UNKNOWN, 65536, on_stream_read, request->reply_stream, on_stream_free);
}

void http_stream_drop(struct http_stream *s)
{
	if (s)
		on_stream_free(s);
}

static void stream_go_on(struct http_stream *s)
{
	if (!s->suspended)
		return;
	s->suspended = false;
	http_resume(s->http, s->connection);
}

void http_streams_end(struct http *http)
{
	for (struct http_stream *s = http->streams; s; s = s->next) {
		s->ending = true;
		stream_go_on(s);
	}
}

struct http_stream *http_reply_stream(struct http_request *request, const char *content_type,
	void (*ended)(void *data), void *data)
{
	struct http *http = request->http;
	struct http_stream *s = malloc(sizeof(*s));
	struct error err;

	if (!s) {
		error_set(&err, ENOMEM, "request: out of memory (free some)");
		http_reply_error(request, &err);
		return NULL;
	}
	*s = (struct http_stream){.http = http,
		.connection = request->connection,
		.next = http->streams,
		.at = &http->streams,
		.ended = ended,
		.data = data};
	if (s->next)
		s->next->at = &s->next;
	http->streams = s;
	request->status = MHD_HTTP_OK;
	request->content_type = content_type;
	request->reply_stream = s;
	http_answered(request);
	return s;
}

bool http_stream_ready(const struct http_stream *s)
{
	return !s->message && !s->ending;
}

void http_stream_send(struct http_stream *s, char *bytes, size_t size)
{
	s->message = bytes;
	s->size = size;
	stream_go_on(s);
}
