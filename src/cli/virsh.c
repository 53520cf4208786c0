/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/virsh.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "cli/command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM   "virsh"
#define WORDS_MAX 16

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

static int explain(const struct virsh *v, int r, int status, const char *errors, struct error *err)
{
	char said[320];

	join_errors(errors, said, sizeof(said));
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

static int run_with(
	const struct virsh *v, const char *const *words, int input, char **ret, struct error *err)
{
	/* Its answers are read by a program. */
	static const char *const environment[] = {"LC_ALL", "C", "LANGUAGE", NULL, NULL};
	const char *all[WORDS_MAX + 5] = {PROGRAM, "-q"};
	struct command c = {.words = all,
		.environment = environment,
		.input = input,
		.output_max = VIRSH_OUTPUT_MAX};
	size_t n = 2;

	if (v->connect) {
		all[n++] = "-c";
		all[n++] = v->connect;
	}
	for (size_t i = 0; i < WORDS_MAX && words[i]; i++)
		all[n + i] = words[i];
	if (!command_exists(PROGRAM))
		return error_set(err, ENOENT,
			"%s: libvirt's virsh is not installed (Debian: apt install "
			"libvirt-clients)",
			v->what);
	int r = command_start(&c);
	if (r == 0)
		r = command_read(&c, VIRSH_LIMIT_MS, NULL, NULL);
	char *said = c.said.s ? TAKE_PTR(c.said.s) : strdup("");
	char *errors = TAKE_PTR(c.errors.s);
	int status = command_end(&c, r < 0 ? SIGKILL : 0);
	if (r < 0 || status || !said)
		r = explain(v, r, status, errors, err);
	else
		*ret = TAKE_PTR(said);
	free(errors);
	free(said);
	return r;
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

	for (; text && *text; text += strcspn(text, "\n"), text += *text == '\n') {
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
