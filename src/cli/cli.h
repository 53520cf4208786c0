/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CLI_CLI_H
#define VGPU_CLI_CLI_H

/*
 * vgpuctl: one file a verb over these helpers. Exit status: 0 done; 1 refused or failed, with one
 * line "vgpuctl: WHAT: WHY (WHAT TO DO)" on stderr; 2 wrong usage.
 */

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define CLI_OK     0
#define CLI_FAILED 1
#define CLI_USAGE  2
#define CLI_WORDS  8

struct cli {
	const char *socket; /* of vgpud */
	bool json;          /* print JSON, not tables */
	const struct verb *verb;
};

struct verb {
	const char *name;    /* one word, or two with a space between */
	const char *args;    /* behind the name, for the usage line */
	const char *summary; /* one line */
	const char *details; /* options and notes for --help; may be "" */
	int (*run)(struct cli *cli, int argc, char **argv); /* argv: what follows the name */
};

/*
 * An option of a verb: with a value, or (value NULL) a flag. One that may be given several times
 * has as many rows, one behind the other.
 */
struct cli_option {
	const char *name; /* without dashes */
	const char **value;
	bool *flag;
};

/* The words of a command line that are no options. */
struct cli_words {
	const char *word[CLI_WORDS];
	int count;
};

/*
 * Parses a verb's arguments, --json, --socket and --help included, up to "--" if `ret_rest` is
 * given (it then gets the index of what follows, or argc). Returns 0, or the status to exit with
 * plus one, negated: see CLI_PARSE.
 */
int cli_parse(struct cli *cli, int argc, char **argv, const struct cli_option *options,
	int least_words, int most_words, struct cli_words *ret, int *ret_rest);
/* Leaves the verb when parsing says so. */
#define CLI_PARSE_FAILED(r) ((r) < 0)
#define CLI_PARSE_STATUS(r) (-(r)-1)

/* Prints the verb's usage to stderr; CLI_USAGE. */
int cli_usage(const struct cli *cli);
/* Prints "vgpuctl: ..."; CLI_FAILED. */
int cli_fail(const struct error *err);

struct cli_reply {
	char *body;
	size_t size;
	json_t *json; /* NULL when the body is none */
};

/* Asks vgpud. `body` (may be NULL) is taken. 0 or -errno with vgpud's own words. */
int cli_call(struct cli *cli, const char *method, const char *path, json_t *body,
	struct cli_reply *ret, struct error *err);

/* What a long call moves besides JSON. All NULL: nothing. */
struct cli_transfer {
	FILE *upload;            /* the request's body */
	FILE *download;          /* where the answer goes; the result is then in reply->json */
	const char *progress_of; /* this vGPU's operation is shown on stderr meanwhile */
};
/* The same for what may take long: ten minutes and more. */
int cli_call_long(struct cli *cli, const char *method, const char *path, json_t *body,
	const struct cli_transfer *transfer, struct cli_reply *ret, struct error *err);
void cli_reply_finish(struct cli_reply *reply);
/* "/v1/vgpus/NAME" + tail with NAME escaped; false when it is too long. */
bool cli_path(char *ret, size_t size, const char *before, const char *name, const char *tail);

/* GETs `path` and prints it: as JSON, or as a table of these columns. The exit status. */
struct cli_column {
	const char *title, *key;
};
int cli_get_table(struct cli *cli, const char *path, const struct cli_column *columns, size_t n);
int cli_get_object(struct cli *cli, const char *path);
/* The same, printed by `print`. */
int cli_get(struct cli *cli, const char *path, void (*print)(const json_t *json));
/* A verb with one word: GETs before + that word + tail, and prints it as JSON or by `print`. */
int cli_show_one(struct cli *cli, int argc, char **argv, const char *before, const char *tail,
	void (*print)(const json_t *json));
void cli_print_table(const json_t *array, const struct cli_column *columns, size_t n);
int cli_print_json(const json_t *json);
/* Prints words from column `at` on, further lines from `indent` on, up to 80 columns. */
void cli_print_wrapped(const char *s, size_t at, size_t indent);
/* A value as people read it: "-" for null. */
void cli_value(const json_t *value, char *ret, size_t size);

/* progress.c: shows how an operation of that vGPU goes on until it is ended. NULL: shows nothing.
 */
struct progress;
struct progress *progress_begin(struct cli *cli, const char *name);
void progress_end(struct progress *progress); /* NULL-safe */

/* state.c: prints what an operation came to, with `did` ("x is on soft1") before it. */
int cli_print_result(const struct cli *cli, const char *did, const struct cli_reply *reply);
/* POSTs an operation of a vGPU, without or with a body (taken). -errno after an error. */
int cli_operate(struct cli *cli, const char *name, const char *verb, json_t *body, bool progress,
	struct cli_reply *ret, struct error *err);

/* units.c: "12.3 MB", "12.3k", "12.30 s", "12 MiB"; at most 15 bytes and their end */
void cli_bytes(double bytes, char *ret, size_t size);
void cli_count(double count, char *ret, size_t size);
void cli_seconds(double ns, char *ret, size_t size);
void cli_mib(double bytes, char *ret, size_t size);

/* stream.c: GETs what has no end, line by line. */
struct cli_stream;
struct pollfd;
int cli_stream_open(struct cli *cli, const char *path, struct cli_stream **ret, struct error *err);
void cli_stream_close(struct cli_stream *stream); /* NULL-safe */
/*
 * 1: a line, without its end, valid until the next call; 0: none yet, after a second or when one of
 * at most 4 `fds` can be read (their revents say so); -errno and why: there will be none.
 */
int cli_stream_next(struct cli_stream *stream, struct pollfd *fds, unsigned n,
	const char **ret_line, struct error *err);

/* socket_path.c: where vgpud listens; `given` and VGPUD_SOCKET go first. */
void cli_socket_path(const char *given, char *ret, size_t size);

/* A verb on a line. */
/* clang-format off */
#define CLI_VERBS(X)        \
	X(gpu_list)         \
	X(gpu_show)         \
	X(gpu_policy)       \
	X(gpu_mode)         \
	X(gpu_scrub)        \
	X(gpu_release)      \
	X(type_list)        \
	X(create)           \
	X(list)             \
	X(show)             \
	X(delete)           \
	X(run)              \
	X(qemu_args)        \
	X(screenshot)       \
	X(move)             \
	X(snapshot)         \
	X(restore)          \
	X(inspect)          \
	X(check)            \
	X(hibernate)        \
	X(wake)             \
	X(stats)            \
	X(top)              \
	X(events)           \
	X(libvirt_attach)   \
	X(libvirt_detach)   \
	X(libvirt_check)    \
	X(libvirt_hook)     \
	X(node_show)        \
	X(node_overcommit)  \
	X(advise)           \
	X(doctor)

#define X(name) extern const struct verb verb_##name;
CLI_VERBS(X)
#undef X
/* clang-format on */

#endif
