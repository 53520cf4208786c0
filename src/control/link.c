/* SPDX-License-Identifier: Apache-2.0 */
#include "control/link.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "protocol/keeper_table.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINK_REQUESTS 16
#define SPAWN_ARGS    64
#define SPAWN_LOCK    3 /* descriptors of a fresh keeper */
#define SPAWN_CONTROL 4
#define SPAWN_FD_FREE 10

struct link_pending {
	link_answer answer;
	void *data;
	uint64_t deadline_ms;
};

struct link {
	sd_event *event;
	sd_event_source *io, *timer;
	int fd;
	pid_t pid;            /* of the keeper; 0: unknown */
	uint64_t speak_by_ms; /* 0: it has spoken */
	const struct link_ops *ops;
	void *data;
	struct link_pending pending[LINK_REQUESTS]; /* a queue, oldest first */
	unsigned n_pending;
	const struct link_operation_ops *operation; /* NULL: none is under way */
	void *operation_data;
	uint64_t operation_by_ms; /* it is given up */
};

/* --- starting --- */

static int lock_open(const char *dir)
{
	char path[256];

	int n = snprintf(path, sizeof(path), "%s/keeper.lock", dir);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	return TAKE_FD(fd);
}

bool link_keeper_runs(const char *dir)
{
	cleanup_close int fd = lock_open(dir);
	return fd == -EBUSY;
}

/* In the child of the child; `lock` -1: a stand-by. Its parent is init's business from now on. */
static void spawn_child(const struct link_spawn *spawn, char **argv, int lock, int control, int log)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGXFSZ, SIG_DFL);
	setsid();
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	lock = fcntl(lock < 0 ? null : lock, F_DUPFD, SPAWN_FD_FREE);
	control = fcntl(control, F_DUPFD, SPAWN_FD_FREE);
	if (null < 0 || lock < 0 || control < 0 || dup2(null, STDIN_FILENO) < 0 ||
		dup2(null, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0 ||
		dup2(lock, SPAWN_LOCK) < 0 || dup2(control, SPAWN_CONTROL) < 0 || chdir("/") < 0)
		_exit(126);
	close_range(SPAWN_CONTROL + 1, ~0u, 0);
	unsetenv("NOTIFY_SOCKET");
	execv(spawn->keeper, argv);
	dprintf(STDERR_FILENO, "cannot run %s: %s\n", spawn->keeper, strerror(errno));
	_exit(127);
}

/* A stand-by's is in memory until it has a folder. */
static int spawn_log(const struct link_spawn *spawn)
{
	char path[256];

	if (spawn->dir) {
		snprintf(path, sizeof(path), "%s/keeper.log", spawn->dir);
		int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
		return fd < 0 ? -errno : fd;
	}
	cleanup_close int fd = memfd_create("keeper.log", MFD_CLOEXEC);
	if (fd < 0 || fcntl(fd, F_SETFL, O_APPEND) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int spawn_fork(
	const struct link_spawn *spawn, char **argv, int lock, int control, pid_t *ret_pid)
{
	int status, told[2];

	cleanup_close int log = spawn_log(spawn);
	if (log < 0)
		return log;
	if (pipe2(told, O_CLOEXEC) < 0)
		return -errno;
	cleanup_close int told_r = told[0], told_w = told[1];
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		/* Forked twice: the keeper is not vgpud's child, so nobody waits for it wrongly. */
		pid = fork();
		if (pid == 0)
			spawn_child(spawn, argv, lock, control, log);
		_exit(pid < 0 || write(told_w, &pid, sizeof(pid)) != sizeof(pid));
	}
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return -EAGAIN;
	return read(told_r, ret_pid, sizeof(*ret_pid)) == sizeof(*ret_pid) ? 0 : -EIO;
}

/* Of the arguments, those that are made here. */
struct spawn_numbers {
	char group[16], mib[24];
};

static int spawn_args(const struct link_spawn *spawn, char **argv, struct spawn_numbers *numbers)
{
	const char *fixed[] = {spawn->keeper, "--device", spawn->device, "--control-fd", "4"};
	const char *named[] = {"--run-dir", spawn->dir, "--name", spawn->name, "--uuid",
		spawn->uuid, "--lock-fd", "3"};
	static char standby[] = "--standby";
	size_t n = 0;

	for (; n < ARRAY_SIZE(fixed); n++)
		argv[n] = (char *)(uintptr_t)fixed[n];
	for (size_t i = 0; spawn->dir && i < ARRAY_SIZE(named); i++)
		argv[n++] = (char *)(uintptr_t)named[i];
	if (!spawn->dir)
		argv[n++] = standby;
	if (spawn->group != (gid_t)-1) {
		static char option[] = "--group";
		snprintf(numbers->group, sizeof(numbers->group), "%u", spawn->group);
		argv[n++] = option;
		argv[n++] = numbers->group;
	}
	if (spawn->cpu_group[0]) {
		static char option[] = "--cpu-group";
		argv[n++] = option;
		argv[n++] = (char *)(uintptr_t)spawn->cpu_group;
	}
	if (spawn->shaders[0]) {
		static char folder[] = "--shaders", mib[] = "--shaders-mib",
			    by_user[] = "--shaders-by-user";
		snprintf(numbers->mib, sizeof(numbers->mib), "%llu",
			(unsigned long long)spawn->shaders_mib);
		argv[n++] = folder;
		argv[n++] = (char *)(uintptr_t)spawn->shaders;
		argv[n++] = mib;
		argv[n++] = numbers->mib;
		if (spawn->shaders_by_user)
			argv[n++] = by_user;
	}
	static char separator[] = "--";
	argv[n++] = separator;
	for (char *const *arg = spawn->device_args; *arg; arg++) {
		if (n + 2 >= SPAWN_ARGS)
			return -E2BIG;
		argv[n++] = *arg;
	}
	if (!spawn->dir)
		argv[n++] = standby; /* its device process as well */
	argv[n] = NULL;
	return 0;
}

static int link_create(sd_event *event, int fd, pid_t pid, const struct link_ops *ops, void *data,
	struct link **ret);

int link_start(sd_event *event, const struct link_spawn *spawn, const struct link_ops *ops,
	void *data, struct link **ret)
{
	char *argv[SPAWN_ARGS];
	struct spawn_numbers numbers;
	int control[2];
	pid_t pid = 0;

	cleanup_close int lock = spawn->dir ? lock_open(spawn->dir) : -1;
	if (spawn->dir && lock < 0)
		return lock;
	int r = spawn_args(spawn, argv, &numbers);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, control) < 0)
		return -errno;
	cleanup_close int ours = control[0], theirs = control[1];
	r = spawn_fork(spawn, argv, lock, theirs, &pid);
	if (r < 0)
		return r;
	return link_create(event, TAKE_FD(ours), pid, ops, data, ret);
}

int link_assign(struct link *link, const char *dir, const struct standby_assign *assign,
	const struct link_ops *ops, void *data)
{
	cleanup_close int lock = lock_open(dir);

	if (lock < 0)
		return lock;
	if (link->fd < 0)
		return -ECONNRESET;
	int r = packet_send(link->fd, &keeper_control_table, KEEPER_CONTROL_ASSIGN, assign, lock);
	if (r < 0)
		return r;
	link->ops = ops;
	link->data = data;
	return 0;
}

int link_connect(
	sd_event *event, const char *dir, const struct link_ops *ops, void *data, struct link **ret)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	int n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/keeper.sock", dir);
	if (n < 0 || (size_t)n >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	struct ucred keeper = {0}; /* who listens */
	socklen_t len = sizeof(keeper);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &keeper, &len) < 0)
		return -errno;
	return link_create(event, TAKE_FD(fd), keeper.pid, ops, data, ret);
}

/* --- talking --- */

static void link_answer_oldest(struct link *link, int code, const char *text, int *fd)
{
	struct link_pending first = link->pending[0];

	if (!link->n_pending)
		return;
	link->n_pending--;
	memmove(&link->pending[0], &link->pending[1], link->n_pending * sizeof(first));
	first.answer(first.data, code, text, fd);
}

static void link_operation_done(struct link *link, const struct keeper_done *done)
{
	const struct link_operation_ops *ops = link->operation;

	link->operation = NULL;
	if (ops)
		ops->done(link->operation_data, done);
}

static void link_fail_all(struct link *link, int code, const char *text)
{
	struct keeper_done done = {.code = code};
	int none = -1;

	while (link->n_pending)
		link_answer_oldest(link, code, text, &none);
	snprintf(done.text, sizeof(done.text), "%s", text);
	link_operation_done(link, &done);
}

static void link_lost(struct link *link, int code, const char *text)
{
	link->io = sd_event_source_disable_unref(link->io);
	link->timer = sd_event_source_disable_unref(link->timer);
	close_fd(&link->fd);
	link_fail_all(link, code, text);
	link->ops->lost(link->data);
}

/* What a keeper says about the operation under way; after the end of one it says nothing. */
static void link_handle_operation(struct link *link, struct packet *p)
{
	struct keeper_progress *progress = (void *)p->payload;
	struct keeper_checked *checked = (void *)p->payload;
	struct keeper_done *done = (void *)p->payload;

	if (!link->operation) /* a vgpud that ended since had asked for it */
		return;
	link->operation_by_ms = clock_ms() + LINK_OPERATION_MS;
	if (p->type == KEEPER_CONTROL_PROGRESS) {
		packet_text(progress->step, sizeof(progress->step));
		link->operation->progress(link->operation_data, progress);
	} else if (p->type == KEEPER_CONTROL_CHECKED) {
		packet_text(checked->text, sizeof(checked->text));
		link->operation->checked(link->operation_data, checked);
	} else {
		packet_text(done->text, sizeof(done->text));
		link_operation_done(link, done);
	}
}

static void link_handle(struct link *link, struct packet *p)
{
	struct keeper_result *result = (void *)p->payload;
	struct keeper_status *status = (void *)p->payload;
	struct keeper_text *text = (void *)p->payload;

	switch (p->type) {
	case KEEPER_CONTROL_STATUS:
		link->speak_by_ms = 0;
		packet_text(status->uuid, sizeof(status->uuid));
		packet_text(status->name, sizeof(status->name));
		packet_text(status->renderer, sizeof(status->renderer));
		packet_text(status->bound_to, sizeof(status->bound_to));
		packet_text(status->failure, sizeof(status->failure));
		link->ops->status(link->data, status);
		break;
	case KEEPER_CONTROL_EVENT:
		packet_text(text->text, sizeof(text->text));
		link->ops->event(link->data, text->text);
		break;
	case KEEPER_CONTROL_RESULT:
		packet_text(result->text, sizeof(result->text));
		link_answer_oldest(link, result->code, result->text, &p->fd);
		break;
	case KEEPER_CONTROL_PROGRESS:
	case KEEPER_CONTROL_CHECKED:
	case KEEPER_CONTROL_DONE:
		link_handle_operation(link, p);
		break;
	default: /* SCREEN, STATS: the table lets nothing else through */
		link_answer_oldest(link, 0, "", &p->fd);
		break;
	}
}

static int link_on_io(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct link *link = data;
	struct packet p;

	/* One message a turn: a handler may destroy the link. sd-event is level-triggered. */
	int r = packet_recv(link->fd, &keeper_control_table, KEEPER_FROM_KEEPER, &p);
	if (r == -EAGAIN)
		return 0;
	if (r <= 0) {
		link_lost(link, -ECONNRESET, "its keeper is gone");
		return 0;
	}
	link_handle(link, &p);
	close_fd(&p.fd);
	return 0;
}

/* When patience ends: with the oldest request, or with a keeper that has not said a word. */
static uint64_t link_due(const struct link *link)
{
	uint64_t due = link->speak_by_ms ?: UINT64_MAX;

	if (link->operation)
		due = MIN(due, link->operation_by_ms);
	return link->n_pending ? MIN(due, link->pending[0].deadline_ms) : due;
}

static void link_set_timer(struct link *link)
{
	uint64_t due = link_due(link);

	if (due == UINT64_MAX)
		return;
	sd_event_source_set_time(link->timer, due * 1000);
	sd_event_source_set_enabled(link->timer, SD_EVENT_ONESHOT);
}

static int link_on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct link *link = data;

	uint64_t due = link_due(link);

	if (clock_ms() >= due)
		link_lost(link, -ETIMEDOUT, "its keeper does not answer");
	else
		link_set_timer(link);
	return 0;
}

static int link_create(sd_event *event, int fd, pid_t pid, const struct link_ops *ops, void *data,
	struct link **ret)
{
	struct keeper_hello hello = {.version = KEEPER_PROTOCOL_VERSION};
	struct link *link = calloc(1, sizeof(*link));

	if (!link) {
		close(fd);
		return -ENOMEM;
	}
	*link = (struct link){.event = event,
		.fd = fd,
		.pid = pid,
		.speak_by_ms = clock_ms() + LINK_ANSWER_MS,
		.ops = ops,
		.data = data};
	int r = sd_event_add_io(event, &link->io, fd, EPOLLIN, link_on_io, link);
	if (r >= 0)
		r = sd_event_add_time(event, &link->timer, CLOCK_MONOTONIC, UINT64_MAX, 10000,
			link_on_timer, link);
	if (r >= 0)
		r = packet_send(fd, &keeper_control_table, KEEPER_CONTROL_HELLO, &hello, -1);
	if (r < 0) {
		link_destroy(link);
		return r;
	}
	link_set_timer(link);
	*ret = link;
	return 0;
}

pid_t link_keeper_pid(const struct link *link)
{
	return link->pid;
}

int link_fd(const struct link *link)
{
	return link->fd;
}

void link_destroy(struct link *link)
{
	if (!link)
		return;
	sd_event_source_disable_unref(link->io);
	sd_event_source_disable_unref(link->timer);
	close_fd(&link->fd);
	link_fail_all(link, -ECONNRESET, "its keeper is gone");
	free(link);
}

int link_request(struct link *link, enum keeper_control_message type, const void *payload, int fd,
	link_answer answer, void *data)
{
	if (link->fd < 0)
		return -ECONNRESET;
	if (answer && link->n_pending == LINK_REQUESTS)
		return -EAGAIN;
	int r = packet_send(link->fd, &keeper_control_table, type, payload, fd);
	if (r < 0 || !answer)
		return r;
	struct link_pending *pending = &link->pending[link->n_pending++];
	*pending = (struct link_pending){
		.answer = answer, .data = data, .deadline_ms = clock_ms() + LINK_ANSWER_MS};
	if (link->n_pending == 1)
		link_set_timer(link);
	return 0;
}

int link_operate(struct link *link, enum keeper_control_message type, const void *payload, int fd,
	const struct link_operation_ops *ops, void *data)
{
	if (link->fd < 0)
		return -ECONNRESET;
	if (link->operation)
		return -EBUSY;
	int r = packet_send(link->fd, &keeper_control_table, type, payload, fd);
	if (r < 0)
		return r;
	link->operation = ops;
	link->operation_data = data;
	link->operation_by_ms = clock_ms() + LINK_OPERATION_MS;
	link_set_timer(link);
	return 0;
}

int link_ask_status(struct link *link)
{
	struct keeper_hello hello = {.version = KEEPER_PROTOCOL_VERSION};

	if (link->fd < 0)
		return -ECONNRESET;
	return packet_send(link->fd, &keeper_control_table, KEEPER_CONTROL_HELLO, &hello, -1);
}
