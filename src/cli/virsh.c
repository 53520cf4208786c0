/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/virsh.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM    "virsh"
#define WORDS_MAX  16
#define ERRORS_MAX 2048
#define NOT_FOUND  127
#define CHUNK      65536

struct text {
	char *s;
	size_t size, max;
};

/* One run: the ends of its pipes that are ours. */
struct run {
	pid_t pid;
	int out, err;
	struct text said, errors;
};

/* --- starting --- */

static _Noreturn void become_virsh(char *const *words, const int *fds, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(NOT_FOUND);
	for (int i = 0; i < 3; i++) {
		if (dup2(fds[i], i) < 0)
			_exit(NOT_FOUND);
	}
	/* Its answers are read by a program. */
	setenv("LC_ALL", "C", 1);
	unsetenv("LANGUAGE");
	execvp(words[0], words);
	_exit(NOT_FOUND);
}

static bool program_exists(void)
{
	const char *path = getenv("PATH");
	char file[4096];

	for (path = path ? path : "/usr/bin:/bin"; *path;) {
		size_t len = strcspn(path, ":");
		snprintf(file, sizeof(file), "%.*s/" PROGRAM, (int)MIN(len, (size_t)3900), path);
		if (access(file, X_OK) == 0)
			return true;
		path += len + (path[len] == ':');
	}
	return false;
}

static int start(char *const *words, int input, struct run *run)
{
	int out[2] = {-1, -1}, err[2] = {-1, -1};
	pid_t parent = getpid();

	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0) {
		int r = -errno;
		close_fd(&out[0]);
		close_fd(&out[1]);
		return r;
	}
	run->pid = fork();
	if (run->pid == 0)
		become_virsh(words, (int[]){input, out[1], err[1]}, parent);
	int r = run->pid < 0 ? -errno : 0;
	close_fd(&out[1]);
	close_fd(&err[1]);
	run->out = out[0];
	run->err = err[0];
	return r;
}

/* --- reading --- */

/* 1: more may come, 0: the end; -errno. What is more than `max` is dropped, or refused. */
static int take(int *fd, struct text *text, bool drop)
{
	char chunk[CHUNK];

	ssize_t n = read(*fd, chunk, sizeof(chunk));
	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 1 : -errno;
	if (n == 0) {
		close_fd(fd);
		return 0;
	}
	size_t fits = MIN((size_t)n, text->max - text->size);
	if (fits < (size_t)n && !drop)
		return -E2BIG;
	char *more = realloc(text->s, text->size + fits + 1);
	if (!more)
		return -ENOMEM;
	memcpy(more + text->size, chunk, fits);
	text->s = more;
	text->size += fits;
	more[text->size] = '\0';
	return 1;
}

static int read_all(struct run *run)
{
	uint64_t end = clock_ms() + VIRSH_LIMIT_MS;

	while (run->out >= 0 || run->err >= 0) {
		struct pollfd fds[] = {
			{.fd = run->out, .events = POLLIN}, {.fd = run->err, .events = POLLIN}};
		uint64_t now = clock_ms();
		if (now >= end)
			return -ETIMEDOUT;
		if (poll(fds, 2, (int)(end - now)) < 0 && errno != EINTR)
			return -errno;
		int r = fds[0].revents ? take(&run->out, &run->said, false) : 1;
		if (r >= 0 && fds[1].revents)
			r = take(&run->err, &run->errors, true);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- what it says --- */

/* Its lines as one, without the "error: " before each. */
static void join_errors(const char *text, char *ret, size_t size)
{
	static const char begin[] = "error: ";
	size_t n = 0;

	ret[0] = '\0';
	while (text && *text && n + 3 < size) {
		size_t len = strcspn(text, "\n"), skip = 0;
		if (!strncmp(text, begin, sizeof(begin) - 1))
			skip = sizeof(begin) - 1;
		if (len > skip)
			n += (size_t)snprintf(ret + n, size - n, "%s%.*s", n ? ": " : "",
				(int)MIN(len - skip, size - n - 3), text + skip);
		text += len + (text[len] == '\n');
	}
	for (char *p = ret; *p; p++)
		*p = (unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f ? '?' : *p;
}

static const char *remedy_for(const char *said)
{
	static const struct {
		const char *word, *remedy;
	} remedies[] = {
		{"failed to connect", "start libvirtd or virtqemud, or give --connect URI"},
		{"ailed to get domain", "see `virsh list --all`"},
		{"omain not found", "see `virsh list --all`"},
		{"access denied", "run this as root, or join the group libvirt"},
		{"uthentication", "run this as root, or join the group libvirt"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(remedies); i++) {
		if (strstr(said, remedies[i].word))
			return remedies[i].remedy;
	}
	return "see libvirt's log";
}

static int explain(
	const struct virsh *v, int r, int status, const struct run *run, struct error *err)
{
	char said[320];

	join_errors(run->errors.s, said, sizeof(said));
	if (r == -ETIMEDOUT)
		return error_set(err, ETIMEDOUT,
			"%s: libvirt did not answer within %d s (see whether it hangs)", v->what,
			VIRSH_LIMIT_MS / 1000);
	if (r < 0)
		return error_set(err, -r, "%s: what libvirt says cannot be read: %s (try again)",
			v->what, strerror(-r));
	if (WIFSIGNALED(status))
		return error_set(err, EIO, "%s: virsh ended by signal %d (try it by hand)", v->what,
			WTERMSIG(status));
	return error_set(err, EIO, "%s: libvirt: %s (%s)", v->what,
		said[0] ? said : "it failed and does not say why", remedy_for(said));
}

static void run_end(struct run *run)
{
	close_fd(&run->out);
	close_fd(&run->err);
	free(run->errors.s);
	free(run->said.s);
}

static int run_words(
	const struct virsh *v, char *const *words, int input, char **ret, struct error *err)
{
	struct run run = {
		.out = -1, .err = -1, .said.max = VIRSH_OUTPUT_MAX, .errors.max = ERRORS_MAX};
	int status = 0;

	if (!program_exists())
		return error_set(err, ENOENT,
			"%s: libvirt's virsh is not installed (Debian: apt install "
			"libvirt-clients)",
			v->what);
	int r = start(words, input, &run);
	if (r == 0) {
		r = read_all(&run);
		if (r < 0)
			kill(run.pid, SIGKILL);
		while (waitpid(run.pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	if (r < 0 || status)
		r = explain(v, r, status, &run, err);
	else
		*ret = run.said.s ? TAKE_PTR(run.said.s) : strdup("");
	run_end(&run);
	return r;
}

static int run_with(
	const struct virsh *v, const char *const *words, int input, char **ret, struct error *err)
{
	const char *all[WORDS_MAX + 4] = {PROGRAM, "-q"};
	size_t n = 2;

	if (v->connect) {
		all[n++] = "-c";
		all[n++] = v->connect;
	}
	for (size_t i = 0; words[i] && i < WORDS_MAX; i++)
		all[n + i] = words[i];
	/* execvp() takes what it does not change as if it did. */
	return run_words(v, (char *const *)(uintptr_t)all, input, ret, err);
}

int virsh_run(const struct virsh *virsh, const char *const *words, char **ret, struct error *err)
{
	cleanup_close int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	return run_with(virsh, words, null, ret, err);
}

/* --- what it is asked --- */

int virsh_definition(
	const struct virsh *virsh, const char *domain, bool secrets, char **ret, struct error *err)
{
	const char *words[] = {"dumpxml", "--domain", domain, "--inactive",
		secrets ? "--security-info" : NULL, NULL};

	return virsh_run(virsh, words, ret, err);
}

int virsh_define(const struct virsh *virsh, const char *xml, struct error *err)
{
	static const char *const words[] = {"define", "--file", "/dev/stdin", NULL};
	size_t size = strlen(xml);
	char *said = NULL;

	cleanup_close int fd = memfd_create("domain", MFD_CLOEXEC);
	if (fd < 0 || write(fd, xml, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET) != 0)
		return error_set(err, ENOMEM,
			"%s: there is no memory for the definition (free some)", virsh->what);
	int r = run_with(virsh, words, fd, &said, err);
	free(said);
	return r;
}

/* Of lines "KEY:   VALUE". */
static bool line_says(const char *text, const char *key, const char *value)
{
	size_t len = strlen(key);

	for (; *text; text += strcspn(text, "\n"), text += *text == '\n') {
		if (strncmp(text, key, len) != 0 || text[len] != ':')
			continue;
		text += len + 1;
		text += strspn(text, " \t");
		size_t n = strcspn(text, "\n");
		while (n && text[n - 1] == ' ')
			n--;
		return n == strlen(value) && !strncmp(text, value, n);
	}
	return false;
}

int virsh_domain_state(
	const struct virsh *virsh, const char *domain, struct virsh_state *ret, struct error *err)
{
	const char *words[] = {"dominfo", "--domain", domain, NULL};
	char *text = NULL;

	int r = virsh_run(virsh, words, &text, err);
	if (r < 0)
		return r;
	*ret = (struct virsh_state){.running = !line_says(text, "State", "shut off") &&
					       !line_says(text, "State", "crashed"),
		.persistent = line_says(text, "Persistent", "yes"),
		.saved = line_says(text, "Managed save", "yes")};
	free(text);
	return 0;
}
