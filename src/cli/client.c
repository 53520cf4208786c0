/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client_private.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define REPLY_MAX (256u << 20) /* a picture of the largest screen fits */
#define CALL_S    60L
#define LONG_S    3600L
#define RESULT    "Vgpu-Result: "

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

/* One call: what is written where. */
struct call {
	CURL *curl;
	struct cli_reply *reply;
	const struct cli_transfer *transfer; /* may be NULL */
	int disk_error; /* positive errno: why the download could not be written */
};

static size_t on_body(char *data, size_t unit, size_t n, void *user)
{
	struct call *call = user;
	FILE *to = call->transfer ? call->transfer->download : NULL;
	long status = 0;

	curl_easy_getinfo(call->curl, CURLINFO_RESPONSE_CODE, &status);
	if (!to || status >= 400) /* a refusal is no file */
		return on_data(data, unit, n, call->reply);
	if (fwrite(data, 1, n, to) == n)
		return n;
	call->disk_error = errno ? errno : EIO;
	return 0;
}

static size_t on_header(char *data, size_t unit, size_t n, void *user)
{
	struct call *call = user;
	size_t len = strlen(RESULT);

	if (n > len && !strncasecmp(data, RESULT, len) && !call->reply->json)
		call->reply->json = json_loadb(data + len, n - len, 0, NULL);
	return n;
}

static size_t on_upload(char *data, size_t unit, size_t n, void *user)
{
	const struct call *call = user;
	size_t got = fread(data, unit, n, call->transfer->upload);

	return ferror(call->transfer->upload) ? CURL_READFUNC_ABORT : got;
}

static int call_cut_short(const struct call *call, struct error *err)
{
	if (call->disk_error)
		return error_set(err, call->disk_error,
			"snapshot: the file cannot be written: %s (free some space)",
			strerror(call->disk_error));
	return error_set(err, EIO,
		"restore: the file cannot be read: %s (give one that can be read)",
		strerror(errno));
}

void cli_reply_finish(struct cli_reply *reply)
{
	free(reply->body);
	json_decref(reply->json);
	*reply = (struct cli_reply){0};
}

int client_failed(const struct cli *cli, CURL *curl, CURLcode code, struct error *err)
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

int client_refused(const json_t *reply, long status, struct error *err)
{
	const char *code = "", *message = NULL;

	if (reply && json_unpack((json_t *)(uintptr_t)reply, "{s:{s:s, s:s}}", "error", "code",
			     &code, "message", &message) == 0)
		return error_set(err, status == 404 ? ENOENT : EIO, "%s", message);
	return error_set(err, EIO, "vgpud: it answered with status %ld (see its log)", status);
}

static void call_set_upload(CURL *curl, struct call *call, struct curl_slist *headers)
{
	curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_upload);
	curl_easy_setopt(curl, CURLOPT_READDATA, call);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
}

void client_prepare(const struct cli *cli, CURL *curl, const char *path)
{
	char url[1024];

	snprintf(url, sizeof(url), "http://vgpud%s", path);
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, cli->socket);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
}

static CURLcode call_perform(struct cli *cli, CURL *curl, const char *method, const char *path,
	const char *text, struct call *call)
{
	char no_expect[] = "Expect:";
	struct curl_slist headers = {.data = no_expect};

	client_prepare(cli, curl, path);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, call->transfer ? LONG_S : CALL_S);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, call);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, call);
	if (call->transfer && call->transfer->upload)
		call_set_upload(curl, call, &headers);
	if (text)
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, text);
	return curl_easy_perform(curl);
}

int cli_call_long(struct cli *cli, const char *method, const char *path, json_t *body,
	const struct cli_transfer *transfer, struct cli_reply *ret, struct error *err)
{
	CURL *curl = curl_easy_init();
	struct call call = {.curl = curl, .reply = ret, .transfer = transfer};
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	long status = 0;
	int r = 0;

	*ret = (struct cli_reply){0};
	json_decref(body);
	if (!curl || (body && !text)) {
		r = error_set(
			err, EINVAL, "request: it is not valid text (use UTF-8), or memory is out");
	} else {
		struct progress *progress =
			transfer ? progress_begin(cli, transfer->progress_of) : NULL;
		CURLcode code = call_perform(cli, curl, method, path, text, &call);
		progress_end(progress);
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
		if (code == CURLE_ABORTED_BY_CALLBACK || call.disk_error)
			r = call_cut_short(&call, err);
		else if (code != CURLE_OK)
			r = client_failed(cli, curl, code, err);
	}
	if (r == 0) {
		if (!ret->json)
			ret->json = json_loadb(ret->body ?: "", ret->size, 0, NULL);
		if (status >= 400)
			r = client_refused(ret->json, status, err);
	}
	if (r < 0)
		cli_reply_finish(ret);
	free(text);
	curl_easy_cleanup(curl);
	return r;
}

int cli_call(struct cli *cli, const char *method, const char *path, json_t *body,
	struct cli_reply *ret, struct error *err)
{
	return cli_call_long(cli, method, path, body, NULL, ret, err);
}
