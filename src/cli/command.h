/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CLI_COMMAND_H
#define VGPU_CLI_COMMAND_H

/*
 * Another program, run without a shell: what it says is read up to a limit, it has a limit of time,
 * and it ends with us. It is in a process group of its own, so that what it started ends with it.
 */

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define COMMAND_NOT_RUN 127 /* exit status: it could not be executed */

struct command_text {
	char *s; /* NULL: nothing yet; else it ends in NUL */
	size_t size, max;
};

struct command {
	/* Set by the caller. */
	const char *const *words;       /* the last one NULL; the first is looked for in PATH */
	const char *const *environment; /* NAME, VALUE, ..., NULL beside ours; VALUE NULL: unset */
	int input;                      /* its standard input */
	size_t output_max;              /* more is -E2BIG; of standard error more is dropped */
	/* Of the run. */
	pid_t pid;
	int out, err;
	struct command_text said, errors;
};

/* Is there a program of that name in PATH? */
bool command_exists(const char *program);

/* 0 or -errno. What was started is ended by command_end(), also when reading failed. */
int command_start(struct command *command);
/*
 * Reads until it has closed its output, or until it said `until` (may be NULL). 0; -ETIMEDOUT;
 * -EINTR: *stop became true (may be NULL); -EPIPE: it closed its output without saying that; -E2BIG
 * or -errno.
 */
int command_read(struct command *command, unsigned limit_ms, const char *until,
	const volatile sig_atomic_t *stop);
/*
 * Ends it by that signal (0: waits for its end), after 5 s by force, and frees what it said. Its
 * status as waitpid() has it.
 */
int command_end(struct command *command, int signal);

#endif
