/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Processes that are really killed, at moments nobody chose, under a client that does not wait for
 * anybody: this one keeps what is in custody, another is the client, a third serves until it is
 * killed and a fourth takes over.
 */

#include "life.h"
#include "script.h"

#include "base/cleanup.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define ROUNDS   8u
#define RUNS     12u
#define RUN_SECS 30u

void life_point(void)
{
}

struct shared {
	struct script_notes notes;
	bool finished;
};

struct keeper {
	struct life life;
	struct shared *shared;
	uint32_t seed;
	uint32_t version;
	int client_fd, channel;
	pid_t client, server;
	unsigned kills;
};

static uint32_t random_next(struct keeper *k)
{
	k->seed = k->seed * 1664525u + 1013904223u;
	return k->seed >> 8;
}

/* ---- the client ---- */

static bool client_wait(void *data)
{
	struct pollfd pollfd = {.fd = *(int *)data, .events = POLLIN};

	return poll(&pollfd, 1, 20) >= 0;
}

static void client_main(struct keeper *k)
{
	struct script script = {.fd = k->client_fd,
		.version = k->version,
		.rounds = ROUNDS,
		.notes = &k->shared->notes,
		.wait = client_wait,
		.data = &k->client_fd};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(RUN_SECS);
	close(k->life.socket);
	k->shared->finished = script_run(&script);
	_exit(0);
}

/* ---- the server ---- */

static void server_main(struct keeper *k, int channel)
{
	struct process p;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(RUN_SECS);
	close(k->client_fd);
	k->life.channel = channel;
	if (!process_start(&k->life, &p))
		_exit(2);
	while (!p.over) {
		bool waits = p.vtest->epoll_events & EPOLLOUT;
		struct pollfd pollfd = {
			.fd = k->life.socket, .events = (short)(POLLIN | (waits ? POLLOUT : 0))};
		poll(&pollfd, 1, 1000);
		process_step(&p);
	}
	_exit(0);
}

static void server_fork(struct keeper *k, int channel)
{
	k->life.seed = random_next(k) & 1 ? random_next(k) : 0;
	k->server = fork();
	assert_true(k->server >= 0);
	if (k->server == 0)
		server_main(k, channel);
}

/* ---- the keeper ---- */

static void keep_custody(struct keeper *k)
{
	for (;;) {
		struct keeper_custody what;
		struct fdpass_fds fds;
		ssize_t n = fdpass_recv(k->channel, &what, sizeof(what), MSG_DONTWAIT, &fds);
		if (n != sizeof(what))
			return;
		int fd = fdpass_take(&fds);
		if (fd >= 0)
			life_put(&k->life, &what, fd);
		else
			life_drop(&k->life, &what);
		close_fd(&fd);
	}
}

static bool is_over(pid_t *pid)
{
	int status;

	if (waitpid(*pid, &status, WNOHANG) != *pid)
		return false;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	*pid = 0;
	return true;
}

/* Lets the server live for so long, in microseconds; true: the client is done. */
static bool keep_for(struct keeper *k, uint32_t us)
{
	const struct timespec step = {.tv_nsec = 100000};

	for (uint32_t done = 0; done < us; done += 100) {
		struct pollfd pollfd = {.fd = k->channel, .events = POLLIN};
		ppoll(&pollfd, 1, &step, NULL);
		keep_custody(k);
		if (is_over(&k->client))
			return true;
	}
	return false;
}

/* The client has its last answer while the server's turn goes on. */
static void let_turn_end(struct keeper *k)
{
	const struct timespec step = {.tv_nsec = 10000000};

	for (unsigned i = 0; i < 5; i++) {
		nanosleep(&step, NULL);
		keep_custody(k);
	}
}

static void run(struct keeper *k, bool kill_it)
{
	int pair[2], channel[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel), 0);
	life_init(&k->life, pair[1]);
	k->client_fd = pair[0];
	k->channel = channel[0];
	k->shared->finished = false;
	k->client = fork();
	assert_true(k->client >= 0);
	if (k->client == 0)
		client_main(k);
	close(pair[0]);
	server_fork(k, channel[1]);
	while (!keep_for(k, kill_it ? 300 + random_next(k) % 4000 : 100000)) {
		if (!kill_it)
			continue;
		kill(k->server, SIGKILL);
		waitpid(k->server, NULL, 0);
		keep_custody(k);
		k->kills++;
		server_fork(k, channel[1]);
	}
	let_turn_end(k);
	kill(k->server, SIGKILL);
	waitpid(k->server, NULL, 0);
	keep_custody(k);
	close(channel[0]);
	close(channel[1]);
	close(pair[1]);
}

static void keeper_finish(struct keeper *k)
{
	for (unsigned i = 0; i < LIFE_CUSTODY; i++)
		close_fd(&k->life.custody[i].fd);
	munmap(k->life.anchor, sizeof(*k->life.anchor));
}

static struct shared *new_shared(void)
{
	void *p = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static void test_killed_at_any_time(void **state)
{
	struct shared *calm = new_shared(), *out = new_shared();
	unsigned kills = 0;

	for (uint32_t seed = 1; seed <= RUNS; seed++) {
		struct keeper k = {.seed = seed * 77, .version = seed & 1 ? 3 : 2, .shared = calm};
		run(&k, false);
		assert_true(calm->finished);
		uint64_t history = k.life.anchor->history;
		unsigned shared = life_count(&k.life, KEEPER_CUSTODY_SHARED);
		unsigned events = life_count(&k.life, KEEPER_CUSTODY_EVENT);
		keeper_finish(&k);
		k = (struct keeper){.seed = seed, .version = k.version, .shared = out};
		run(&k, true);
		kills += k.kills;
		if (!out->finished)
			fail_msg("seed %u: ended early: %s", seed, k.life.anchor->reason);
		assert_int_equal(out->notes.n, calm->notes.n);
		assert_memory_equal(out->notes.bytes, calm->notes.bytes, calm->notes.n);
		assert_true(history == k.life.anchor->history);
		assert_int_equal(life_count(&k.life, KEEPER_CUSTODY_SHARED), shared);
		assert_int_equal(life_count(&k.life, KEEPER_CUSTODY_EVENT), events);
		keeper_finish(&k);
	}
	print_message("# %u processes were killed\n", kills);
	assert_true(kills >= RUNS);
	munmap(calm, sizeof(*calm));
	munmap(out, sizeof(*out));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_at_any_time),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("vtest kill", tests, NULL, NULL);
}
