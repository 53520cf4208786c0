/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLY_MAX (256u << 20) /* a picture of the largest screen fits */
#define CALL_S    60L

bool cli_path(char *ret, size_t size, const char *before, const char *name, const char *tail)
{
	char *escaped = curl_easy_escape(NULL, name, 0);
	int n = escaped ? snprintf(ret, size, "%s%s%s", before, escaped, tail) : -1;

	curl_free(escaped);
	return n >= 0 && (size_t)n < size;
}

static size_t on_data(char *data, size_t unit, size_t n, void *user)
{
	struct cli_reply *reply = user;

	if (n > REPLY_MAX - reply->size)
		return 0;
	char *body = realloc(reply->body, reply->size + n + 1);
	if (!body)
		return 0;
	memcpy(body + reply->size, data, n);
	reply->body = body;
	reply->size += n;
	body[reply->size] = '\0';
	return n;
}

void cli_reply_finish(struct cli_reply *reply)
{
	free(reply->body);
	json_decref(reply->json);
	*reply = (struct cli_reply){0};
}

static int call_failed(struct cli *cli, CURL *curl, CURLcode code, struct error *err)
{
	long number = 0;

	curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &number);
	if (code == CURLE_COULDNT_CONNECT && number == EACCES)
		return error_set(err, EACCES,
			"connect: %s: permission denied (join vgpud's group, by default vgpu)",
			cli->socket);
	if (code == CURLE_COULDNT_CONNECT)
		return error_set(err, ECONNREFUSED,
			"connect: no vgpud answers at %s (start vgpud, or give its --socket)",
			cli->socket);
	return error_set(err, EIO, "connect: %s: %s (see whether vgpud runs)", cli->socket,
		curl_easy_strerror(code));
}

static int call_refused(const struct cli_reply *reply, long status, struct error *err)
{
	const char *code = "", *message = NULL;

	if (reply->json && json_unpack(reply->json, "{s:{s:s, s:s}}", "error", "code", &code,
				   "message", &message) == 0)
		return error_set(err, status == 404 ? ENOENT : EIO, "%s", message);
	return error_set(err, EIO, "vgpud: it answered with status %ld (see its log)", status);
}

static CURLcode call_perform(struct cli *cli, CURL *curl, const char *method, const char *path,
	const char *text, struct cli_reply *ret)
{
	char url[1024];

	snprintf(url, sizeof(url), "http://vgpud%s", path);
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, cli->socket);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, CALL_S);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, ret);
	if (text)
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, text);
	return curl_easy_perform(curl);
}

int cli_call(struct cli *cli, const char *method, const char *path, json_t *body,
	struct cli_reply *ret, struct error *err)
{
	CURL *curl = curl_easy_init();
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	long status = 0;
	int r = 0;

	*ret = (struct cli_reply){0};
	json_decref(body);
	if (!curl || (body && !text)) {
		r = error_set(
			err, EINVAL, "request: it is not valid text (use UTF-8), or memory is out");
	} else {
		CURLcode code = call_perform(cli, curl, method, path, text, ret);
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
		if (code != CURLE_OK)
			r = call_failed(cli, curl, code, err);
	}
	if (r == 0) {
		ret->json = json_loadb(ret->body ?: "", ret->size, 0, NULL);
		if (status >= 400)
			r = call_refused(ret, status, err);
	}
	if (r < 0)
		cli_reply_finish(ret);
	free(text);
	curl_easy_cleanup(curl);
	return r;
}
