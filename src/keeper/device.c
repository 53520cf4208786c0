/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/keeper.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "keeper/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEVICE_CHANNEL_FD 3
#define DEVICE_STATS_FD   4
#define DEVICE_FD_FREE    10    /* lowest number the child parks fds at while it arranges them */
#define DEVICE_LAST_WORDS 65536 /* reads of one that is dead: all it sent, if it is sane */

/*
 * What the device process may know of the environment: how to find its drivers, and how those and
 * sanitizers are tuned. Never the loader's variables or the operator's display, sessions or buses.
 */
static const char *const device_environment[] = {"PATH=", "LANG=", "LC_",
	"TZ=", "LIBGL_DRIVERS_PATH=", "GBM_BACKENDS_PATH=", "__EGL_VENDOR_LIBRARY_", "LP_", "MESA_",
	"VREND_", "VGPU_", "ASAN_", "UBSAN_", "LSAN_", "TSAN_"};

static bool environment_allowed(const char *variable)
{
	for (size_t i = 0; i < ARRAY_SIZE(device_environment); i++) {
		if (!strncmp(variable, device_environment[i], strlen(device_environment[i])))
			return true;
	}
	return false;
}

/* In the child, between fork and exec. */
static void device_child(const struct device_process *d, char **argv, char **env, int channel,
	int err, pid_t keeper_pid)
{
	const struct keeper *k = d->keeper;
	int stats;
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	/* The device process dies with its keeper, also when the keeper is killed. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != keeper_pid)
		_exit(126);
	group_enter(k);
	channel = fcntl(channel, F_DUPFD, DEVICE_FD_FREE);
	err = fcntl(err, F_DUPFD, DEVICE_FD_FREE);
	stats = fcntl(d->stats_fd, F_DUPFD, DEVICE_FD_FREE);
	if (channel < 0 || err < 0 || stats < 0 || dup2(err, STDERR_FILENO) < 0 ||
		dup2(channel, DEVICE_CHANNEL_FD) < 0 || dup2(stats, DEVICE_STATS_FD) < 0)
		_exit(126);
	close_range(DEVICE_STATS_FD + 1, ~0u, 0);
	execve(k->config->device, argv, env);
	dprintf(STDERR_FILENO, "cannot run %s: %s\n", k->config->device, strerror(errno));
	_exit(127);
}

static size_t args_count(const struct keeper *k, const struct device_args *args)
{
	return args->n ? args->n : (size_t)k->config->n_device_args;
}

/* Writes args_count() of them. */
static void args_list(const struct keeper *k, const struct device_args *args, const char **ret)
{
	const char *text = args->text;

	for (size_t i = 0; i < args_count(k, args); i++) {
		ret[i] = args->n ? text : k->config->device_args[i];
		text += args->n ? strlen(text) + 1 : 0;
	}
}

/* The arguments of a device process, to be freed as one block; NULL: no memory. */
static char **device_argv(const struct keeper *k, const struct device_args *args)
{
	static char options[][16] = {"--keeper-fd", "3", "--stats-fd", "4"};
	size_t n = args_count(k, args) + 1;
	char **argv = calloc(n + ARRAY_SIZE(options) + 1, sizeof(*argv));

	if (!argv)
		return NULL;
	argv[0] = (char *)(uintptr_t)k->config->device;
	args_list(k, args, (const char **)argv + 1);
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		argv[n++] = options[i];
	return argv;
}

int device_args_read(uint32_t n, const char text[STANDBY_ARGS_MAX], struct device_args *ret)
{
	const char *at = text, *end = text + STANDBY_ARGS_MAX;

	_Static_assert(sizeof(ret->text) == STANDBY_ARGS_MAX, "MOVE and ASSIGN carry as much");
	*ret = (struct device_args){.n = n};
	for (uint32_t i = 0; i < n; i++) {
		const char *stop = at < end ? memchr(at, '\0', (size_t)(end - at)) : NULL;
		if (!stop)
			return -EINVAL;
		at = stop + 1;
	}
	memcpy(ret->text, text, sizeof(ret->text));
	return 0;
}

const char *device_option(const struct device_process *d, const char *option)
{
	const struct keeper *k = d->keeper;
	const struct device_args *args = d == k->next ? &k->next_args : &k->args;
	size_t n = args_count(k, args);
	cleanup_free const char **list = calloc(n + 1, sizeof(*list));

	if (!list)
		return NULL;
	args_list(k, args, list);
	for (size_t i = 0; i + 1 < n; i++) {
		if (!strcmp(list[i], option))
			return list[i + 1];
	}
	return NULL;
}

static int device_fork(
	struct device_process *d, const struct device_args *args, int channel, int err)
{
	pid_t keeper_pid = getpid();
	size_t n_env = 0, n = 0;

	while (environ[n_env])
		n_env++;
	cleanup_free char **env = calloc(n_env + 1, sizeof(*env));
	cleanup_free char **argv = device_argv(d->keeper, args);
	if (!env || !argv)
		return -ENOMEM;
	for (size_t i = 0; i < n_env; i++) {
		if (environment_allowed(environ[i]))
			env[n++] = environ[i];
	}

	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		device_child(d, argv, env, channel, err, keeper_pid);
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0) {
		int r = -errno;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return r;
	}
	d->pid = pid;
	d->pidfd = pidfd;
	return 0;
}

static void device_init(struct device_process *d, struct keeper *k)
{
	*d = (struct device_process){
		.keeper = k, .pidfd = -1, .channel = -1, .stderr_fd = -1, .stats_fd = -1};
	custody_init(&d->staged, -1);
}

void device_init_all(struct keeper *k)
{
	for (unsigned i = 0; i < KEEPER_PROCESSES; i++)
		device_init(&k->processes[i], k);
	k->current = &k->processes[0];
}

/* Everything of a device process is let go. */
static void device_clear(struct device_process *d)
{
	hold_forget(d);
	loop_remove(d->pidfd_source);
	loop_remove(d->channel_source);
	loop_remove(d->stderr_source);
	close_fd(&d->pidfd);
	close_fd(&d->channel);
	close_fd(&d->stderr_fd);
	close_fd(&d->stats_fd);
	outbox_clear(d);
	custody_finish(&d->staged);
	device_init(d, d->keeper);
}

struct device_process *device_slot(struct keeper *k)
{
	for (unsigned i = 0; i < KEEPER_PROCESSES; i++) {
		struct device_process *d = &k->processes[i];
		if (!d->pid && d != k->current && d != k->next)
			return d;
	}
	return NULL;
}

static void device_line(struct device_process *d)
{
	char *text = d->line;

	d->line[d->line_len] = '\0';
	d->line_len = 0;
	packet_text(d->line, sizeof(d->line));
	if (text[0] == '<' && text[1] && text[2] == '>') /* the journal's level */
		text += 3;
	if (!*text)
		return;
	if (!d->failed_said)
		snprintf(d->failed_text, sizeof(d->failed_text), "%s", text);
	log_limited(&d->keeper->notices, LOG_LEVEL_INFO, "device: %s", text);
}

/* Takes in what the device process wrote on its stderr; false at its end. */
static bool device_read_stderr(struct device_process *d)
{
	char buf[4096];

	ssize_t n = d->stderr_fd < 0 ? 0 : read(d->stderr_fd, buf, sizeof(buf));
	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	for (ssize_t i = 0; i < n; i++) {
		if (buf[i] == '\n' || d->line_len + 1 == sizeof(d->line))
			device_line(d);
		if (buf[i] != '\n')
			d->line[d->line_len++] = buf[i];
	}
	return true;
}

static void device_on_stderr(void *data, uint32_t events)
{
	struct device_process *d = data;

	if (!device_read_stderr(d)) {
		loop_remove(d->stderr_source);
		d->stderr_source = NULL;
	}
}

/* --- life and death --- */

static void device_describe_death(
	const struct device_process *d, const siginfo_t *info, char *ret, size_t size)
{
	bool exited = info->si_code == CLD_EXITED;
	char how[80], words[168] = "";

	if (d->kill_reason)
		snprintf(how, sizeof(how), "was ended by its keeper: %s", d->kill_reason);
	else if (exited)
		snprintf(how, sizeof(how), "exited with status %d", info->si_status);
	else
		snprintf(how, sizeof(how), "was killed by signal %d (SIG%s)", info->si_status,
			sigabbrev_np(info->si_status) ?: "?");
	/* Killed from outside it had no chance to say why; what it said last is not the reason. */
	if (d->failed_text[0] && (d->failed_said || exited || info->si_status != SIGKILL))
		snprintf(words, sizeof(words), "%s%.140s",
			d->failed_said ? ": " : "; the last it said: ", d->failed_text);
	snprintf(ret, size, "the device process %s%s", how, words);
}

static void device_end_custody(struct keeper *k)
{
	custody_finish(&k->custody);
	custody_init(&k->custody, k->vms_dir);
	memory_guest_gone(k);
}

void device_fail(struct keeper *k)
{
	device_end_custody(k);
	k->state = KEEPER_STATE_FAILED;
	peers_end_all(k);
	log_error("%s", k->failure);
	control_event(k, "failed: %s", k->failure);
	control_status(k);
}

static void device_current_died(struct keeper *k, const siginfo_t *info)
{
	struct device_process *d = k->current;
	bool replaced = d->replaced, ready = d->ready, said = d->failed_said;
	bool restored = d->restored;
	uint32_t served = d->served;

	if (!replaced || k->stopping)
		device_describe_death(d, info, k->failure, sizeof(k->failure));
	k->takeover.blame =
		d->kill_reason || info->si_code == CLD_EXITED || info->si_status != SIGKILL;
	device_clear(d);
	if (k->stopping) {
		device_end_custody(k);
		k->state = KEEPER_STATE_FAILED;
		peers_end_all(k);
		loop_quit(k->loop, 0);
		return;
	}
	if (!replaced) {
		d->served = served;
		d->restored = restored;
		k->takeover.again = ready || !said;
		takeover_event(k, EVENT_CURRENT_DIED, NULL);
		return;
	}
	device_end_custody(k);
	peers_end_sent(k);
	if (device_start(k) == 0)
		return;
	snprintf(k->failure, sizeof(k->failure), "no new device process could be started");
	device_fail(k);
}

static void device_on_death(void *data, uint32_t events)
{
	struct device_process *d = data;
	struct keeper *k = d->keeper;
	struct rusage usage = {0};
	siginfo_t info = {0};

	/* The call itself says what it has cost, children included; the library's does not. */
	if (syscall(SYS_waitid, P_PIDFD, d->pidfd, &info, WEXITED | WNOHANG, &usage) < 0 ||
		!info.si_pid)
		return;
	usage_ended(d, &usage);
	for (int i = 0; d->channel_source && i < DEVICE_LAST_WORDS && device_read_message(d);)
		i++;
	for (int i = 0; i < DEVICE_LAST_WORDS && device_read_stderr(d); i++)
		;
	if (d->line_len)
		device_line(d);
	if (d == k->current) {
		device_current_died(k, &info);
	} else if (d == k->next) {
		device_describe_death(d, &info, k->takeover.why, sizeof(k->takeover.why));
		takeover_event(k, EVENT_NEXT_DIED, NULL);
		device_clear(d);
	} else {
		device_clear(d);
	}
}

static int device_watch(struct device_process *d)
{
	struct keeper *k = d->keeper;

	int r = loop_add_fd(k->loop, d->pidfd, EPOLLIN, device_on_death, d, &d->pidfd_source);
	if (r == 0)
		r = loop_add_fd(
			k->loop, d->channel, EPOLLIN, device_on_channel, d, &d->channel_source);
	if (r == 0)
		r = loop_add_fd(
			k->loop, d->stderr_fd, EPOLLIN, device_on_stderr, d, &d->stderr_source);
	return r;
}

static int device_open(struct device_process *d, const struct device_args *args)
{
	int channel[2], err[2];

	/* The last one may have given its page away, so no other gets the same one. */
	d->stats_fd = stats_page_create(d->keeper->stats_fd);
	if (d->stats_fd < 0)
		return d->stats_fd;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, channel) < 0)
		return -errno;
	cleanup_close int device_end = channel[1];
	d->channel = channel[0];
	if (pipe2(err, O_CLOEXEC) < 0)
		return -errno;
	cleanup_close int device_err = err[1];
	d->stderr_fd = err[0];
	/* The device process uses blocking sends at its own choice; only our ends never block. */
	if (fcntl(device_end, F_SETFL, 0) < 0 || fcntl(err[0], F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	return device_fork(d, args, device_end, device_err);
}

int device_spawn(struct device_process *d, const struct device_args *args)
{
	struct keeper *k = d->keeper;

	device_clear(d);
	int r = device_open(d, args);
	if (r < 0) {
		device_clear(d);
		return r;
	}
	k->starts++;
	d->start_time = process_start_time(d->pid);
	d->late = "it did not become ready in time";
	d->kill_at = clock_ms() + KEEPER_READY_MS;
	r = device_watch(d);
	if (r < 0)
		device_kill(d, strerror(-r));
	keeper_set_timer(k);
	return 0;
}

int device_start(struct keeper *k)
{
	int r = device_spawn(k->current, &k->args);
	if (r < 0)
		return r;
	close_fd(&k->stats_fd);
	k->stats_fd = TAKE_FD(k->current->stats_fd);
	k->state = KEEPER_STATE_STARTING;
	k->quiet = k->quiet_asked = false;
	control_status(k);
	return 0;
}

void device_ensure(struct keeper *k)
{
	uint64_t now = clock_ms();
	uint64_t *oldest = &k->restarts_at[k->restart_next % KEEPER_RESTARTS];

	if (k->state != KEEPER_STATE_FAILED || k->stopping || takeover_holds(k))
		return;
	if (*oldest && now - *oldest < KEEPER_RESTART_WINDOW_MS)
		return;
	*oldest = now;
	k->restart_next++;
	log_info("starting a new device process");
	int r = device_start(k);
	if (r < 0)
		snprintf(k->failure, sizeof(k->failure), "the device process cannot be started: %s",
			strerror(-r));
}

void device_kill(struct device_process *d, const char *reason)
{
	if (!d->pid)
		return;
	if (!d->kill_reason)
		d->kill_reason = reason;
	if (d == d->keeper->hold.device)
		hold_end(d->keeper);
	usage_look(d);
	syscall(SYS_pidfd_send_signal, d->pidfd, SIGKILL, NULL, 0);
}

void device_dismiss(struct device_process *d)
{
	loop_remove(d->channel_source);
	d->channel_source = NULL;
	outbox_clear(d);
	custody_finish(&d->staged);
	d->kill_at = 0;
	device_kill(d, "another one took over");
}

void device_replace(struct keeper *k, const char *reason)
{
	struct device_process *d = k->current;

	if (!d->pid || d->replaced)
		return;
	takeover_cancel(k, reason);
	d->replaced = true;
	d->kill_at = 0;
	k->state = KEEPER_STATE_STARTING;
	device_kill(d, reason);
	control_status(k);
}

bool device_is_used(const struct keeper *k)
{
	return k->current->served && k->current->served != k->binding_number;
}

bool device_renew(struct keeper *k)
{
	if (!device_is_used(k) || k->stopping)
		return false;
	device_replace(k, "its binding is over");
	return true;
}

void device_quit(struct keeper *k)
{
	struct device_process *d = k->current;

	if (k->next)
		device_kill(k->next, "its keeper ends");
	if (!d->pid) {
		loop_quit(k->loop, 0);
		return;
	}
	if (d->quitting)
		return; /* it gets no more time for being asked twice */
	hold_end(k);
	d->quitting = true;
	d->late = "it did not quit in time";
	d->kill_at = clock_ms() + KEEPER_QUIT_MS;
	device_send(d, KEEPER_DEVICE_QUIT, NULL, -1);
	keeper_set_timer(k);
}

void device_check_time(struct keeper *k, uint64_t now)
{
	for (unsigned i = 0; i < KEEPER_PROCESSES; i++) {
		struct device_process *d = &k->processes[i];
		if (d->resend_at && now >= d->resend_at)
			device_resend(d, now);
		if (!d->kill_at || now < d->kill_at)
			continue;
		d->kill_at = 0;
		device_kill(d, d->late);
	}
}

uint64_t device_next_time(const struct keeper *k)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < KEEPER_PROCESSES; i++) {
		const struct device_process *d = &k->processes[i];
		next = MIN(next, MIN(d->kill_at ?: UINT64_MAX, d->resend_at ?: UINT64_MAX));
	}
	return next;
}
