/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client_private.h"

#include "base/checked.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* Of one line; a sample of a thousand vGPUs is a tenth of it. */
#define STREAM_MAX   (16u << 20)
#define STREAM_POLLS 4

struct cli_stream {
	struct cli *cli;
	CURL *curl;
	CURLM *multi;
	char *buf;
	size_t size; /* bytes in `buf` */
	size_t used; /* of them, those of the line given last */
};

static size_t on_stream_data(char *data, size_t unit, size_t n, void *user)
{
	struct cli_stream *s = user;

	if (n > STREAM_MAX - s->size)
		return 0;
	char *buf = realloc(s->buf, s->size + n + 1);
	if (!buf)
		return 0;
	memcpy(buf + s->size, data, n);
	s->buf = buf;
	s->size += n;
	s->buf[s->size] = '\0';
	return n;
}

int cli_stream_open(struct cli *cli, const char *path, struct cli_stream **ret, struct error *err)
{
	struct cli_stream *s = calloc(1, sizeof(*s));

	if (s) {
		s->cli = cli;
		s->curl = curl_easy_init();
		s->multi = curl_multi_init();
	}
	if (!s || !s->curl || !s->multi) {
		cli_stream_close(s);
		return error_set(err, ENOMEM, "request: out of memory (free some)");
	}
	client_prepare(cli, s->curl, path);
	curl_easy_setopt(s->curl, CURLOPT_WRITEFUNCTION, on_stream_data);
	curl_easy_setopt(s->curl, CURLOPT_WRITEDATA, s);
	curl_multi_add_handle(s->multi, s->curl);
	*ret = s;
	return 0;
}

void cli_stream_close(struct cli_stream *s)
{
	if (!s)
		return;
	if (s->multi && s->curl)
		curl_multi_remove_handle(s->multi, s->curl);
	curl_easy_cleanup(s->curl);
	curl_multi_cleanup(s->multi);
	free(s->buf);
	free(s);
}

static bool stream_line(struct cli_stream *s, const char **ret)
{
	char *end = s->size ? memchr(s->buf, '\n', s->size) : NULL;

	if (!end)
		return false;
	*end = '\0';
	s->used = (size_t)(end - s->buf) + 1;
	*ret = s->buf;
	return true;
}

static int stream_ended(struct cli_stream *s, CURLcode code, struct error *err)
{
	long status = 0;

	curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 400) {
		json_t *reply = json_loadb(s->buf ?: "", s->size, 0, NULL);
		int r = client_refused(reply, status, err);
		json_decref(reply);
		return r;
	}
	if (!status)
		return client_failed(s->cli, s->curl, code, err);
	return error_set(err, EPIPE, "%s: vgpud has ended, or cut us off (see whether it runs)",
		s->cli->verb->name);
}

int cli_stream_next(struct cli_stream *s, struct pollfd *fds, unsigned n, const char **ret_line,
	struct error *err)
{
	struct curl_waitfd wait[STREAM_POLLS];
	int running = 0, left, events = 0;
	long status = 0;
	const CURLMsg *message;

	if (s->used) {
		s->size -= s->used;
		memmove(s->buf, s->buf + s->used, s->size);
		s->used = 0;
	}
	for (unsigned i = 0; i < n; i++)
		wait[i] = (struct curl_waitfd){.fd = fds[i].fd, .events = CURL_WAIT_POLLIN};
	curl_multi_perform(s->multi, &running);
	curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status < 400 && stream_line(s, ret_line))
		return 1;
	message = curl_multi_info_read(s->multi, &left);
	if (message && message->msg == CURLMSG_DONE)
		return stream_ended(s, message->data.result, err);
	curl_multi_poll(s->multi, wait, n, 1000, &events);
	for (unsigned i = 0; i < n; i++)
		fds[i].revents = wait[i].revents;
	return 0;
}
