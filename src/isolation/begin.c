/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Stage 1, and what all stages share: the record of layers, capabilities, users. Stage 1 needs no
 * privilege and fails only on wrong arguments or a broken system.
 */

#include "isolation/internal.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define UNPRIVILEGED_ID 65534 /* "nobody" on every Linux system, owner of nothing */
#define DEFAULT_MAX_FDS 1024

static const char *const layer_names[ISOLATION_LAYER_COUNT] = {
#define X(name, text) [ISOLATION_LAYER_##name] = (text),
	ISOLATION_LAYERS(X)
#undef X
};

/* The whole environment of a device process; everything else is removed. */
static const struct {
	const char *name, *value;
	bool software_only;
	const char *reason;
} environment[] = {
	{"MESA_SHADER_CACHE_DISABLE", "true", false,
		"it is kept in files: whoever has a private place for them switches it on"},
	{"HOME", "/nonexistent", false, "the driver must not read the starter's configuration"},
	{"LC_ALL", "C", false, "texts and numbers do not depend on the starter"},
	{"PATH", "/nonexistent", false, "nothing is ever executed"},
	{"LIBGL_ALWAYS_SOFTWARE", "true", true, "a software GPU must not take the node's real one"},
	{"GALLIUM_DRIVER", "llvmpipe", true, "the fast software driver"},
};

const char *isolation_layer_name(enum isolation_layer layer)
{
	return (unsigned)layer < ISOLATION_LAYER_COUNT ? layer_names[layer] : "unknown";
}

int isolation_layer(const struct isolation *iso, enum isolation_layer layer)
{
	return (unsigned)layer < ISOLATION_LAYER_COUNT ? iso->layer[layer] : -EINVAL;
}

unsigned isolation_missing(const struct isolation *iso, char *buf, size_t size)
{
	unsigned missing = 0;
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < ISOLATION_LAYER_COUNT; i++) {
		if (iso->layer[i] >= 0)
			continue;
		int n = snprintf(buf + at, size - at, "%s%s: %s", missing ? "; " : "",
			layer_names[i], strerror(-iso->layer[i]));
		missing++;
		if (n > 0)
			at = MIN(at + (size_t)n, size - 1);
	}
	return missing;
}

int isolation_note(struct isolation *iso, enum isolation_layer layer, int result)
{
	iso->layer[layer] = result;
	return iso->mode == ISOLATION_STRICT ? result : 0;
}

int isolation_drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

	/*
	 * The bounding set can only be emptied by a process that has CAP_SETPCAP. One that has not
	 * gains nothing through it either: no_new_privs makes execve() give no capabilities.
	 */
	for (unsigned long cap = 0; cap <= CAP_LAST_CAP + 32; cap++) {
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno == EINVAL)
			break;
	}
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	return syscall(SYS_capset, &header, none) < 0 ? -errno : 0;
}

int isolation_forbid_dump(void)
{
	const struct rlimit none = {0, 0};

	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return -errno;
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

int isolation_die_with_parent(void)
{
	return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ? -errno : 0;
}

int isolation_switch_user(const struct isolation *iso)
{
	if (!iso->root)
		return 0;
	/* Groups are set before a user namespace forbids it; here they are only lost, not won. */
	if (!iso->in_user_ns) {
		bool node = iso->node_group != ISOLATION_NO_GROUP;
		if (setgroups(node ? 1 : 0, &iso->node_group) < 0)
			return -errno;
	}
	if (setresgid(iso->gid, iso->gid, iso->gid) < 0)
		return -errno;
	return setresuid(iso->uid, iso->uid, iso->uid) < 0 ? -errno : 0;
}

static int compare_fds(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;
	return (x > y) - (x < y);
}

static int close_all_but(const int *keep, unsigned n)
{
	int sorted[ISOLATION_MAX_KEPT_FDS] = {0};
	unsigned first = STDERR_FILENO + 1;

	if (n)
		memcpy(sorted, keep, n * sizeof(*keep));
	qsort(sorted, n, sizeof(*sorted), compare_fds);
	for (unsigned i = 0; i < n; i++) {
		if (sorted[i] < 0 || fcntl(sorted[i], F_GETFD) < 0)
			return -EBADF;
		if ((unsigned)sorted[i] < first)
			continue;
		if ((unsigned)sorted[i] > first &&
			close_range(first, (unsigned)sorted[i] - 1, 0) < 0)
			return -errno;
		first = (unsigned)sorted[i] + 1;
	}
	return close_range(first, UINT_MAX, 0) < 0 ? -errno : 0;
}

/* A library that writes to "standard error" must not write into a socket that got its number. */
static int occupy_standard_fds(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return -errno;
	} while (fd <= STDERR_FILENO);
	close(fd);
	return 0;
}

static int fix_environment(const struct isolation_config *config)
{
	if (clearenv() != 0)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(environment); i++) {
		if (environment[i].software_only && !config->software)
			continue;
		if (setenv(environment[i].name, environment[i].value, 1) < 0)
			return -errno;
	}
	for (const char *const *at = config->environment; at && *at; at++) {
		const char *equals = strchr(*at, '=');
		if (!equals)
			return -EINVAL;
		cleanup_free char *name = strndup(*at, (size_t)(equals - *at));
		if (!name)
			return -ENOMEM;
		if (setenv(name, equals + 1, 1) < 0)
			return -errno;
	}
	return 0;
}

/* Ignored and blocked signals are inherited through execve(); a starter's choice must not be. */
static void reset_signals(void)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++) {
		struct sigaction action;
		if (sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
			signal(number, SIG_DFL);
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int no_new_privileges(void)
{
	reset_signals();
	/* A working directory other than "/" would survive the exchange of the root. */
	if (chdir("/") < 0)
		return -errno;
	umask(0077);
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

static struct isolation *isolation_new(const struct isolation_config *config)
{
	struct isolation *iso = calloc(1, sizeof(*iso));

	if (!iso)
		return NULL;
	*iso = (struct isolation){
		.mode = config->mode,
		.software = config->software,
		.threads_later = config->threads_later,
		.trace = config->trace,
		.uid = config->uid ? config->uid : UNPRIVILEGED_ID,
		.gid = config->gid ? config->gid : UNPRIVILEGED_ID,
		.node_group = config->node_group,
		.max_fds = config->max_fds ? config->max_fds : DEFAULT_MAX_FDS,
		.max_address_space = config->max_address_space,
		.root = geteuid() == 0,
		.parent = getppid(),
		.monitor_socket = -1,
		.scratch_bytes = config->scratch_bytes,
		.scratch = -ENOENT,
	};
	for (unsigned i = 0; i < ISOLATION_LAYER_COUNT; i++)
		iso->layer[i] = ISOLATION_PENDING;
	return iso;
}

int isolation_begin(const struct isolation_config *config, struct isolation **ret)
{
	if (config->n_keep_fds > ISOLATION_MAX_KEPT_FDS)
		return -EINVAL;

	struct isolation *iso = isolation_new(config);
	if (!iso)
		return -ENOMEM;

	int r = close_all_but(config->keep_fds, config->n_keep_fds);
	if (r == 0)
		r = occupy_standard_fds();
	iso->layer[ISOLATION_LAYER_DESCRIPTORS] = r;
	if (r == 0)
		iso->layer[ISOLATION_LAYER_ENVIRONMENT] = r = fix_environment(config);
	if (r == 0)
		iso->layer[ISOLATION_LAYER_NO_NEW_PRIVS] = r = no_new_privileges();
	if (r == 0)
		r = isolation_forbid_dump();
	if (r == 0)
		r = isolation_die_with_parent();
	if (r < 0) {
		isolation_destroy(iso);
		return r;
	}
	*ret = iso;
	return 0;
}

void isolation_destroy(struct isolation *iso)
{
	if (!iso)
		return;
	close_fd(&iso->monitor_socket);
	close_fd(&iso->scratch);
	free(iso);
}
