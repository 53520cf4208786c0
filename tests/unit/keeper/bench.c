/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define LIMIT_MS 20000

static void wait_readable(int fd, const char *what)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (poll(&p, 1, LIMIT_MS) != 1)
		fail_msg("waited in vain for %s", what);
}

/* --- keeper --- */

static struct sockaddr_un address(const struct bench *b, const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%.40s", b->dir, name);
	return addr;
}

static void keeper_exec(const struct bench *b, int control, char *const *options)
{
	char run_dir[96], control_fd[16], socket_path[96];
	char *argv[32] = {getenv("KEEPER"), "--run-dir", run_dir, "--name", "x", "--uuid", "u",
		"--device", getenv("FAKE_DEVICE"), "--control-fd", control_fd};
	unsigned n = 11;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when a test stops half-way */
	snprintf(run_dir, sizeof(run_dir), "%s/vgpus/x", b->dir);
	snprintf(control_fd, sizeof(control_fd), "%d", control);
	snprintf(socket_path, sizeof(socket_path), "%s/fake", b->dir);
	setenv("VGPU_FAKE_SOCKET", socket_path, 1);
	while (options && *options)
		argv[n++] = *options++;
	argv[n++] = "--";
	argv[n++] = "first";
	if (argv[0])
		execv(argv[0], argv);
	_exit(126);
}

void bench_start(struct bench *b, char *const *options)
{
	static const char *const folders[] = {"vms", "vgpus", "vgpus/x"};
	int pair[2];

	*b = (struct bench){.dir = "/tmp/vgpu-unit-XXXXXX"};
	signal(SIGPIPE, SIG_IGN);
	assert_non_null(getenv("KEEPER"));
	assert_non_null(mkdtemp(b->dir));
	for (unsigned i = 0; i < ARRAY_SIZE(folders); i++) {
		char path[128];
		snprintf(path, sizeof(path), "%s/%s", b->dir, folders[i]);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	struct sockaddr_un addr = address(b, "fake");
	b->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(b->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(b->listener, 8), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	b->keeper = fork();
	if (b->keeper == 0) {
		fcntl(pair[1], F_SETFD, 0);
		fcntl(pair[1], F_SETFL, O_NONBLOCK);
		keeper_exec(b, pair[1], options);
	}
	close(pair[1]);
	b->control = pair[0];
	struct keeper_hello hello = {.version = KEEPER_PROTOCOL_VERSION};
	bench_send(b, KEEPER_CONTROL_HELLO, &hello, -1);
}

static bool is_child_of(pid_t pid, pid_t parent)
{
	char path[32];
	int of = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	FILE *f = fopen(path, "re");
	if (!f)
		return false;
	bool read = fscanf(f, "%*d (%*[^)]) %*c %d", &of) == 1;
	fclose(f);
	return read && of == (int)parent;
}

/* They do not read QUIT, and the keeper would give them time for that. */
static void bench_end_processes(const struct bench *b)
{
	for (unsigned i = 0; i < ARRAY_SIZE(b->last); i++) {
		if (b->last[i] && is_child_of(b->last[i], b->keeper))
			kill(b->last[i], SIGKILL);
	}
}

void bench_stop(struct bench *b)
{
	char command[96];
	int status;

	kill(b->keeper, SIGTERM);
	for (int i = 0; i < LIMIT_MS / 10; i++) {
		pid_t pid = waitpid(b->keeper, &status, WNOHANG);
		if (pid == b->keeper)
			break;
		if (i + 1 == LIMIT_MS / 10) {
			kill(b->keeper, SIGKILL);
			fail_msg("the keeper did not end");
		}
		usleep(10000);
		if (i == 10)
			bench_end_processes(b);
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	close(b->control);
	close(b->listener);
	snprintf(command, sizeof(command), "rm -r %s", b->dir);
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a path that mkdtemp() made */
}

/* --- device processes --- */

void fake_accept(struct bench *b, struct fake *f)
{
	struct fdpass_fds fds;
	struct ucred peer;
	socklen_t len = sizeof(peer);

	*f = (struct fake){0};
	wait_readable(b->listener, "a device process");
	int s = accept4(b->listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(s >= 0);
	wait_readable(s, "its channel");
	assert_true(fdpass_recv(s, f->arg, sizeof(f->arg), 0, &fds) > 0);
	assert_int_equal(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &peer, &len), 0);
	close(s);
	f->pid = peer.pid;
	b->last[1] = b->last[0];
	b->last[0] = f->pid;
	f->channel = fdpass_take(&fds);
	f->stats = fdpass_take(&fds);
}

void fake_accept_ready(struct bench *b, struct fake *f)
{
	struct keeper_ready ready = {.version = KEEPER_PROTOCOL_VERSION, .renderer = "fake"};

	fake_accept(b, f);
	fake_send(f, KEEPER_DEVICE_READY, &ready, -1);
}

void fake_send(struct fake *f, uint32_t type, const void *payload, int fd)
{
	assert_int_equal(packet_send(f->channel, &keeper_device_table, type, payload, fd), 0);
}

void fake_saved(struct fake *f, uint32_t type, int code, uint64_t bytes, uint64_t left)
{
	struct keeper_saved saved = {.code = code, .bytes = bytes, .left = left};

	if (code)
		snprintf(saved.text, sizeof(saved.text), "it says no");
	fake_send(f, type, &saved, -1);
}

int bench_file(int number)
{
	int fd = memfd_create("numbered", MFD_CLOEXEC);

	assert_int_equal(pwrite(fd, &number, sizeof(number), 0), sizeof(number));
	return fd;
}

int bench_file_number(int fd)
{
	int number = -1;

	if (pread(fd, &number, sizeof(number), 0) != (ssize_t)sizeof(number))
		return -1; /* an eventfd has none */
	return number;
}

void fake_put(struct fake *f, uint32_t kind, uint32_t index, uint64_t a, int number)
{
	struct keeper_custody what = {.kind = kind, .index = index, .a = a};
	int fd = bench_file(number);

	fake_send(f, KEEPER_DEVICE_CUSTODY, &what, fd);
	close(fd);
}

void fake_release(struct fake *f, uint32_t kind, uint32_t index, uint64_t a)
{
	struct keeper_custody what = {.kind = kind, .index = index, .a = a};

	fake_send(f, KEEPER_DEVICE_RELEASE, &what, -1);
}

void fake_expect(struct fake *f, uint32_t type, struct packet *ret)
{
	do { /* a slow test's process is told to be idle */
		wait_readable(f->channel, keeper_device_rows[type].name);
		int r = packet_recv(f->channel, &keeper_device_table, KEEPER_FROM_KEEPER, ret);
		assert_int_equal(r, 1);
	} while (ret->type == KEEPER_DEVICE_IDLE && type != KEEPER_DEVICE_IDLE);
	assert_string_equal(keeper_device_rows[ret->type].name, keeper_device_rows[type].name);
}

void fake_expect_only(struct fake *f, uint32_t type)
{
	struct packet p;

	fake_expect(f, type, &p);
	if (p.fd >= 0)
		close(p.fd);
}

void fake_expect_nothing(struct fake *f, int ms)
{
	struct pollfd p = {.fd = f->channel, .events = POLLIN};
	struct packet idle;

	while (poll(&p, 1, ms) != 0) {
		assert_int_equal(
			packet_recv(f->channel, &keeper_device_table, KEEPER_FROM_KEEPER, &idle),
			1);
		assert_int_equal(idle.type, KEEPER_DEVICE_IDLE);
	}
}

void fake_expect_end(struct fake *f)
{
	struct packet p;

	for (;;) {
		wait_readable(f->channel, "the end of a device process");
		int r = packet_recv(f->channel, &keeper_device_table, KEEPER_FROM_KEEPER, &p);
		if (r <= 0)
			break;
		if (p.fd >= 0)
			close(p.fd);
	}
	close(f->channel);
	close(f->stats);
}

void fake_kill(struct fake *f)
{
	kill(f->pid, SIGKILL);
	fake_expect_end(f);
}

void fake_crash(struct fake *f)
{
	kill(f->pid, SIGTRAP);
	fake_expect_end(f);
}

/* --- what a successor gets --- */

static void given_add(struct given *given, const struct packet *p)
{
	assert_true(given->count < BENCH_FDS);
	memcpy(&given->what[given->count], p->payload, sizeof(struct keeper_custody));
	given->number[given->count++] = bench_file_number(p->fd);
}

void fake_take(struct fake *f, struct given *given, uint32_t last, bool rest)
{
	struct packet p = {.type = KEEPER_DEVICE_MESSAGE_COUNT};

	memset(given, 0, sizeof(*given));
	for (unsigned n = 1; p.type != last; n++) {
		if (rest && n % 97 == 0)
			usleep(2000);
		wait_readable(f->channel, "what a successor gets");
		assert_int_equal(
			packet_recv(f->channel, &keeper_device_table, KEEPER_FROM_KEEPER, &p), 1);
		if (p.type == KEEPER_DEVICE_IDLE)
			continue;
		if (p.type == KEEPER_DEVICE_GIVE) {
			assert_int_equal(given->resumed, 0); /* the order of the contract */
			given_add(given, &p);
		} else if (p.type == KEEPER_DEVICE_RESUME) {
			const struct keeper_connection *c = (void *)p.payload;
			given->resumed_id[given->resumed++] = c->id;
		} else {
			assert_string_equal(
				keeper_device_rows[p.type].name, keeper_device_rows[last].name);
			if (last != KEEPER_DEVICE_LOAD_PRECOPY)
				memcpy(&given->load, p.payload, sizeof(given->load));
			if (p.fd >= 0)
				given->file_number = bench_file_number(p.fd);
		}
		if (p.fd >= 0)
			close(p.fd);
	}
}

int given_number(const struct given *given, uint32_t kind, uint32_t index, uint64_t a)
{
	for (unsigned i = 0; i < given->count; i++) {
		const struct keeper_custody *what = &given->what[i];
		if (what->kind == kind && what->index == index && what->a == a)
			return given->number[i];
	}
	return -1;
}

/* --- clients --- */

int bench_client(struct bench *b, const char *socket_name)
{
	char name[64];
	snprintf(name, sizeof(name), "vgpus/x/%s", socket_name);
	struct sockaddr_un addr = address(b, name);

	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

int bench_connect(struct bench *b, struct fake *f, uint32_t *ret_id)
{
	struct packet p;
	int client = bench_client(b, "vtest.sock");

	fake_expect(f, KEEPER_DEVICE_CONNECTION, &p);
	*ret_id = ((struct keeper_connection *)p.payload)->id;
	close(p.fd);
	return client;
}

bool client_open(int client)
{
	struct pollfd p = {.fd = client, .events = POLLIN};

	return poll(&p, 1, 50) == 0;
}

void client_expect_end(int client)
{
	char byte;

	wait_readable(client, "the end of a connection");
	assert_true(read(client, &byte, 1) <= 0);
	close(client);
}

/* --- vgpud --- */

void bench_send(struct bench *b, uint32_t type, const void *payload, int fd)
{
	assert_int_equal(packet_send(b->control, &keeper_control_table, type, payload, fd), 0);
}

/* Takes in one message; its type. */
static uint32_t bench_read(struct bench *b, const char *what)
{
	struct packet p;

	wait_readable(b->control, what);
	assert_int_equal(packet_recv(b->control, &keeper_control_table, KEEPER_FROM_KEEPER, &p), 1);
	if (p.type == KEEPER_CONTROL_STATUS)
		memcpy(&b->status, p.payload, sizeof(b->status));
	if (p.type == KEEPER_CONTROL_EVENT)
		memcpy(b->event, p.payload, sizeof(b->event));
	if (p.type == KEEPER_CONTROL_DONE)
		memcpy(&b->done, p.payload, sizeof(b->done));
	b->checked += p.type == KEEPER_CONTROL_CHECKED;
	return p.type;
}

void bench_until_state(struct bench *b, uint32_t state)
{
	uint64_t end = clock_ms() + LIMIT_MS;

	for (;;) {
		uint32_t type = bench_read(b, "a state");
		if (type == KEEPER_CONTROL_STATUS && b->status.state == state)
			return;
		if (clock_ms() > end)
			fail_msg("state %u never came, it is %u", state, b->status.state);
	}
}

void bench_next_status(struct bench *b)
{
	while (bench_read(b, "a status") != KEEPER_CONTROL_STATUS)
		;
}

void bench_until_memory(struct bench *b, uint32_t state)
{
	uint64_t end = clock_ms() + LIMIT_MS;

	do {
		if (clock_ms() > end)
			fail_msg("memory never was in state %u, it is in %u: %s", state,
				b->status.memory.state, b->status.memory.refusal);
		bench_next_status(b);
	} while (b->status.memory.state != state);
}

void bench_until_event(struct bench *b, const char *words)
{
	while (bench_read(b, words) != KEEPER_CONTROL_EVENT || !strstr(b->event, words))
		;
}

void bench_until_done(struct bench *b, int code, const char *words)
{
	while (bench_read(b, words) != KEEPER_CONTROL_DONE)
		;
	if (b->done.code != code || !strstr(b->done.text, words))
		fail_msg("DONE says %d \"%s\" and not %d \"%s\"", b->done.code, b->done.text, code,
			words);
}
