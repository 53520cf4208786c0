/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/keeper.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/parse.h"
#include "keeper/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEVICE_CHANNEL_FD 3
#define DEVICE_STATS_FD   4
#define DEVICE_FD_FREE    10 /* lowest number the child parks fds at while it arranges them */
#define DEVICE_BATCH      64 /* messages handled before others get their turn */

/*
 * What the device process may know of the environment: how to find its drivers, and how those and
 * sanitizers are tuned. Never the loader's variables or the operator's display, sessions or buses.
 */
static const char *const device_environment[] = {"PATH=", "LANG=", "LC_",
	"TZ=", "LIBGL_DRIVERS_PATH=", "GBM_BACKENDS_PATH=", "__EGL_VENDOR_LIBRARY_", "LP_", "MESA_",
	"VREND_", "VGPU_", "ASAN_", "UBSAN_", "LSAN_", "TSAN_"};

static uint64_t process_start_time(pid_t pid)
{
	char path[64], text[1024];
	uint64_t start;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	cleanup_fclose FILE *f = fopen(path, "re");
	if (!f || !fgets(text, sizeof(text), f))
		return 0;
	/* The name in field 2 may hold anything, so fields are counted from its last ')'. */
	const char *at = strrchr(text, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	return at && parse_next(&at, 10, UINT64_MAX, &start) ? start : 0;
}

static bool environment_allowed(const char *variable)
{
	for (size_t i = 0; i < ARRAY_SIZE(device_environment); i++) {
		if (!strncmp(variable, device_environment[i], strlen(device_environment[i])))
			return true;
	}
	return false;
}

/* In the child, between fork and exec. */
static void device_child(
	const struct keeper *k, char **argv, char **env, int channel, int err, pid_t keeper_pid)
{
	int stats;
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	/* The device process dies with its keeper, also when the keeper is killed. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != keeper_pid)
		_exit(126);
	channel = fcntl(channel, F_DUPFD, DEVICE_FD_FREE);
	err = fcntl(err, F_DUPFD, DEVICE_FD_FREE);
	stats = fcntl(k->stats_fd, F_DUPFD, DEVICE_FD_FREE);
	if (channel < 0 || err < 0 || stats < 0 || dup2(err, STDERR_FILENO) < 0 ||
		dup2(channel, DEVICE_CHANNEL_FD) < 0 || dup2(stats, DEVICE_STATS_FD) < 0)
		_exit(126);
	close_range(DEVICE_STATS_FD + 1, ~0u, 0);
	execve(k->config->device, argv, env);
	dprintf(STDERR_FILENO, "cannot run %s: %s\n", k->config->device, strerror(errno));
	_exit(127);
}

static int device_fork(struct keeper *k, int channel, int err)
{
	static char fd_option[] = "--keeper-fd", fd_value[] = "3";
	static char stats_option[] = "--stats-fd", stats_value[] = "4";
	const struct keeper_config *config = k->config;
	pid_t keeper_pid = getpid();
	size_t n_env = 0, n = 0;

	while (environ[n_env])
		n_env++;
	cleanup_free char **env = calloc(n_env + 1, sizeof(*env));
	cleanup_free char **argv = calloc((size_t)config->n_device_args + 6, sizeof(*argv));
	if (!env || !argv)
		return -ENOMEM;
	for (size_t i = 0; i < n_env; i++) {
		if (environment_allowed(environ[i]))
			env[n++] = environ[i];
	}
	argv[0] = (char *)(uintptr_t)config->device;
	for (int i = 0; i < config->n_device_args; i++)
		argv[i + 1] = config->device_args[i];
	argv[config->n_device_args + 1] = fd_option;
	argv[config->n_device_args + 2] = fd_value;
	argv[config->n_device_args + 3] = stats_option;
	argv[config->n_device_args + 4] = stats_value;

	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		device_child(k, argv, env, channel, err, keeper_pid);
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0) {
		int r = -errno;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return r;
	}
	k->device.pid = pid;
	k->device.pidfd = pidfd;
	return 0;
}

/* Everything of the last device process is let go. */
static void device_clear(struct keeper *k)
{
	struct device_process *d = &k->device;

	loop_remove(d->pidfd_source);
	loop_remove(d->channel_source);
	loop_remove(d->stderr_source);
	close_fd(&d->pidfd);
	close_fd(&d->channel);
	close_fd(&d->stderr_fd);
	*d = (struct device_process){.pidfd = -1, .channel = -1, .stderr_fd = -1};
}

static void device_line(struct keeper *k)
{
	struct device_process *d = &k->device;
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
	log_limited(&k->notices, LOG_LEVEL_INFO, "device: %s", text);
}

/* Takes in what the device process wrote on its stderr; false at its end. */
static bool device_read_stderr(struct keeper *k)
{
	struct device_process *d = &k->device;
	char buf[4096];

	ssize_t n = d->stderr_fd < 0 ? 0 : read(d->stderr_fd, buf, sizeof(buf));
	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	for (ssize_t i = 0; i < n; i++) {
		if (buf[i] == '\n' || d->line_len + 1 == sizeof(d->line))
			device_line(k);
		if (buf[i] != '\n')
			d->line[d->line_len++] = buf[i];
	}
	return true;
}

static void device_on_stderr(void *data, uint32_t events)
{
	struct keeper *k = data;

	if (!device_read_stderr(k)) {
		loop_remove(k->device.stderr_source);
		k->device.stderr_source = NULL;
	}
}

/* --- messages of the device process --- */

typedef const char *(*device_handler)(struct keeper *k, struct packet *p);

/* Each returns NULL, or why the message breaks the protocol. They take p->fd or leave it. */

static const char *on_ready(struct keeper *k, struct packet *p)
{
	struct keeper_ready *ready = (void *)p->payload;

	if (k->state != KEEPER_STATE_STARTING || k->device.replaced)
		return "READY was said twice";
	if (ready->version != KEEPER_PROTOCOL_VERSION)
		return "it speaks another version of the keeper protocol";
	packet_text(ready->renderer, sizeof(ready->renderer));
	memcpy(k->renderer, ready->renderer, sizeof(k->renderer));
	k->device.kill_at = 0;
	k->state = KEEPER_STATE_READY;
	log_info("the device process is ready: %s", k->renderer);
	control_status(k); /* before a client can notice */
	peers_send_waiting(k);
	return NULL;
}

static const char *on_custody(struct keeper *k, struct packet *p)
{
	if (custody_put(&k->custody, (void *)p->payload, p->fd) < 0)
		return "CUSTODY names a place that does not exist";
	p->fd = -1;
	return NULL;
}

static const char *on_release(struct keeper *k, struct packet *p)
{
	if (custody_release(&k->custody, (void *)p->payload) < 0)
		return "RELEASE names a place that does not exist";
	return NULL;
}

static const char *on_memory_done(struct keeper *k, struct packet *p)
{
	const struct keeper_verdict *asked = (void *)p->payload;
	struct keeper_verdict verdict = {.serial = asked->serial};

	int r = custody_claim_memory(&k->custody);
	verdict.ok = r == 0;
	if (r == -EBUSY)
		snprintf(verdict.reason, sizeof(verdict.reason),
			"this VM already holds another vGPU (rule: one vGPU per VM)");
	else if (r < 0)
		snprintf(verdict.reason, sizeof(verdict.reason),
			"the guest's memory cannot be claimed: %s", strerror(-r));
	if (r < 0)
		control_event(k, "refused: %s", verdict.reason);
	k->device.verdict = verdict;
	k->device.verdict_waits = device_send(k, KEEPER_DEVICE_VERDICT, &verdict, -1) == -EAGAIN;
	return NULL;
}

static const char *on_closed(struct keeper *k, struct packet *p)
{
	struct keeper_closed *closed = (void *)p->payload;

	packet_text(closed->reason, sizeof(closed->reason));
	if (closed->reason[0])
		control_event(k, "connection %u ended: %s", closed->id, closed->reason);
	peers_closed_by_device(k, closed->id);
	return NULL;
}

static const char *on_notice(struct keeper *k, struct packet *p)
{
	struct keeper_text *notice = (void *)p->payload;

	packet_text(notice->text, sizeof(notice->text));
	control_event(k, "%s", notice->text);
	return NULL;
}

static const char *on_failed(struct keeper *k, struct packet *p)
{
	struct keeper_text *failed = (void *)p->payload;

	packet_text(failed->text, sizeof(failed->text));
	memcpy(k->device.failed_text, failed->text, sizeof(k->device.failed_text));
	k->device.failed_said = true;
	return NULL;
}

static const device_handler handlers[KEEPER_DEVICE_MESSAGE_COUNT] = {
	[KEEPER_DEVICE_READY] = on_ready,
	[KEEPER_DEVICE_CUSTODY] = on_custody,
	[KEEPER_DEVICE_RELEASE] = on_release,
	[KEEPER_DEVICE_MEMORY_DONE] = on_memory_done,
	[KEEPER_DEVICE_CLOSED] = on_closed,
	[KEEPER_DEVICE_NOTICE] = on_notice,
	[KEEPER_DEVICE_FAILED] = on_failed,
};

/* One message; false when there is no more now or ever. */
static bool device_read_message(struct keeper *k)
{
	struct packet p;
	const char *wrong = NULL;

	int r = packet_recv(k->device.channel, &keeper_device_table, KEEPER_FROM_DEVICE, &p);
	if (r == -EAGAIN)
		return false;
	if (r == 1) {
		wrong = handlers[p.type] ? handlers[p.type](k, &p)
					 : "it sent an answer that nobody asked for";
		close_fd(&p.fd);
	} else if (r == 0) {
		/* Mostly its death, which says more about why; that is given a moment. */
		loop_remove(k->device.channel_source);
		k->device.channel_source = NULL;
		k->device.late = "it closed its channel to the keeper";
		k->device.kill_at = clock_ms() + KEEPER_LAST_WORDS_MS;
		keeper_set_timer(k);
		return false;
	} else {
		wrong = "a message on its channel breaks the keeper protocol";
	}
	if (wrong) {
		loop_remove(k->device.channel_source);
		k->device.channel_source = NULL;
		device_kill(k, wrong);
	}
	return !wrong;
}

static void device_on_channel(void *data, uint32_t events)
{
	struct keeper *k = data;

	for (int i = 0; i < DEVICE_BATCH && device_read_message(k); i++)
		;
}

/* --- life and death --- */

static void device_describe_death(struct keeper *k, const siginfo_t *info)
{
	const struct device_process *d = &k->device;
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
	snprintf(k->failure, sizeof(k->failure), "the device process %s%s", how, words);
}

static void device_on_death(void *data, uint32_t events)
{
	struct keeper *k = data;
	siginfo_t info = {0};

	if (waitid(P_PIDFD, (id_t)k->device.pidfd, &info, WEXITED | WNOHANG) < 0 || !info.si_pid)
		return;
	for (int i = 0; k->device.channel_source && i < DEVICE_BATCH && device_read_message(k);)
		i++;
	for (int i = 0; i < DEVICE_BATCH && device_read_stderr(k); i++)
		;
	if (k->device.line_len)
		device_line(k);
	bool replaced = k->device.replaced && !k->stopping;
	if (!replaced)
		device_describe_death(k, &info);
	device_clear(k);
	custody_finish(&k->custody);
	custody_init(&k->custody, k->vms_dir);
	if (replaced) {
		peers_end_sent(k);
		if (device_start(k) == 0)
			return;
		snprintf(k->failure, sizeof(k->failure), "no new device process could be started");
	}
	k->state = KEEPER_STATE_FAILED;
	peers_end_all(k);
	if (k->stopping) {
		loop_quit(k->loop, 0);
		return;
	}
	log_error("%s", k->failure);
	control_event(k, "failed: %s", k->failure);
	control_status(k);
}

static int device_watch(struct keeper *k)
{
	struct device_process *d = &k->device;

	int r = loop_add_fd(k->loop, d->pidfd, EPOLLIN, device_on_death, k, &d->pidfd_source);
	if (r == 0)
		r = loop_add_fd(
			k->loop, d->channel, EPOLLIN, device_on_channel, k, &d->channel_source);
	if (r == 0)
		r = loop_add_fd(
			k->loop, d->stderr_fd, EPOLLIN, device_on_stderr, k, &d->stderr_source);
	return r;
}

/* The last device process may have given its page away, so no other gets the same one. */
static int device_renew_stats(struct keeper *k)
{
	int fd = stats_page_create(k->stats_fd);
	if (fd < 0)
		return fd;
	close_fd(&k->stats_fd);
	k->stats_fd = fd;
	return 0;
}

int device_start(struct keeper *k)
{
	int channel[2], err[2];

	device_clear(k);
	int r = device_renew_stats(k);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, channel) < 0)
		return -errno;
	cleanup_close int device_end = channel[1];
	k->device.channel = channel[0];
	if (pipe2(err, O_CLOEXEC) < 0)
		return -errno;
	cleanup_close int device_err = err[1];
	k->device.stderr_fd = err[0];
	/* The device process uses blocking sends at its own choice; only our ends never block. */
	if (fcntl(device_end, F_SETFL, 0) < 0 || fcntl(err[0], F_SETFL, O_NONBLOCK) < 0)
		return -errno;

	r = device_fork(k, device_end, device_err);
	if (r < 0)
		return r;
	k->state = KEEPER_STATE_STARTING;
	k->starts++;
	k->device.start_time = process_start_time(k->device.pid);
	k->device.late = "it did not become ready in time";
	k->device.kill_at = clock_ms() + KEEPER_READY_MS;
	r = device_watch(k);
	if (r < 0)
		device_kill(k, strerror(-r));
	keeper_set_timer(k);
	control_status(k);
	return r;
}

void device_ensure(struct keeper *k)
{
	uint64_t now = clock_ms();
	uint64_t *oldest = &k->restarts_at[k->restart_next % KEEPER_RESTARTS];

	if (k->state != KEEPER_STATE_FAILED || k->stopping)
		return;
	if (*oldest && now - *oldest < KEEPER_RESTART_WINDOW_MS)
		return;
	*oldest = now;
	k->restart_next++;
	log_info("starting a new device process");
	int r = device_start(k);
	if (r < 0 && !k->device.pid) {
		k->state = KEEPER_STATE_FAILED;
		snprintf(k->failure, sizeof(k->failure), "the device process cannot be started: %s",
			strerror(-r));
	}
}

void device_kill(struct keeper *k, const char *reason)
{
	if (!k->device.pid)
		return;
	if (!k->device.kill_reason)
		k->device.kill_reason = reason;
	syscall(SYS_pidfd_send_signal, k->device.pidfd, SIGKILL, NULL, 0);
}

bool device_renew(struct keeper *k)
{
	struct device_process *d = &k->device;

	if (!d->served || d->served == k->binding_number || k->stopping)
		return false;
	if (d->pid && !d->replaced) {
		d->replaced = true;
		d->kill_at = 0;
		k->state = KEEPER_STATE_STARTING;
		device_kill(k, "its binding is over");
	}
	return true;
}

void device_quit(struct keeper *k)
{
	if (!k->device.pid) {
		loop_quit(k->loop, 0);
		return;
	}
	if (k->device.quitting)
		return; /* it gets no more time for being asked twice */
	k->device.quitting = true;
	k->device.late = "it did not quit in time";
	k->device.kill_at = clock_ms() + KEEPER_QUIT_MS;
	device_send(k, KEEPER_DEVICE_QUIT, NULL, -1);
	keeper_set_timer(k);
}

int device_send(struct keeper *k, uint32_t type, const void *payload, int fd)
{
	struct device_process *d = &k->device;
	int r = packet_send(d->channel, &keeper_device_table, type, payload, fd);

	if (r == -ENOBUFS || r == -ETOOMANYREFS)
		r = -EAGAIN; /* it has to take what was sent first, too */
	if (r == 0) {
		d->stuck_since = 0;
	} else if (r == -EAGAIN) {
		uint64_t now = clock_ms();
		d->stuck_since = d->stuck_since ?: now;
		d->resend_at = now + KEEPER_RESEND_MS;
		keeper_set_timer(k);
	} else if (r != -EPIPE && r != -ECONNRESET) {
		device_kill(k, strerror(-r));
	}
	return r;
}

/* Messages that need no second attempt: the end of a connection shows in its socket as well. */
static void device_resend(struct keeper *k, uint64_t now)
{
	struct device_process *d = &k->device;
	uint64_t since = d->stuck_since;

	d->resend_at = 0;
	if (since && now - since >= KEEPER_STUCK_MS) {
		device_kill(k, "it stopped reading its channel to the keeper");
		return;
	}
	d->stuck_since = 0; /* unless it is found full again */
	if (d->verdict_waits)
		d->verdict_waits =
			device_send(k, KEEPER_DEVICE_VERDICT, &d->verdict, -1) == -EAGAIN;
	if (k->state == KEEPER_STATE_READY)
		peers_send_waiting(k);
	if (d->stuck_since)
		d->stuck_since = since;
}

void device_check_time(struct keeper *k, uint64_t now)
{
	if (k->device.resend_at && now >= k->device.resend_at)
		device_resend(k, now);
	if (!k->device.kill_at || now < k->device.kill_at)
		return;
	k->device.kill_at = 0;
	device_kill(k, k->device.late);
}

uint64_t device_next_time(const struct keeper *k)
{
	const struct device_process *d = &k->device;

	return MIN(d->kill_at ?: UINT64_MAX, d->resend_at ?: UINT64_MAX);
}
