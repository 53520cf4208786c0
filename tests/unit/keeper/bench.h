/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_KEEPER_BENCH_H
#define TESTS_UNIT_KEEPER_BENCH_H

/*
 * A real keeper with this test around it: the test is vgpud at its control channel, the clients at
 * its sockets, and each of its device processes (fake_device.c). Everything that waits has a limit.
 */

#include "protocol/keeper_table.h"

#include <stdbool.h>
#include <sys/types.h>

#define BENCH_FDS 4096

struct bench {
	char dir[64];
	pid_t keeper;
	pid_t last[2]; /* device processes */
	int control, listener;
	struct keeper_status status; /* the last one seen */
	char event[KEEPER_TEXT_MAX]; /* all that the last one said */
	struct keeper_done done;
	unsigned checked; /* CHECKED seen */
};

struct fake {
	pid_t pid;
	int channel, stats;
	char arg[64];
};

/* `options`: of the keeper, NULL-terminated; or NULL. */
void bench_start(struct bench *b, char *const *options);
void bench_stop(struct bench *b); /* also checks that the keeper ends well */

/* The next device process that the keeper starts; _ready: and says READY. */
void fake_accept(struct bench *b, struct fake *f);
void fake_accept_ready(struct bench *b, struct fake *f);
void fake_send(struct fake *f, uint32_t type, const void *payload, int fd);
void fake_saved(struct fake *f, uint32_t type, int code, uint64_t bytes, uint64_t left);
void fake_put(struct fake *f, uint32_t kind, uint32_t index, uint64_t a, int number);
void fake_release(struct fake *f, uint32_t kind, uint32_t index, uint64_t a);
/* The next message: it must be of that type. Its descriptor is the caller's. */
void fake_expect(struct fake *f, uint32_t type, struct packet *ret);
void fake_expect_only(struct fake *f, uint32_t type); /* and its descriptor is closed */
void fake_expect_nothing(struct fake *f, int ms);
void fake_expect_end(struct fake *f); /* it was killed; closes its ends */
void fake_kill(struct fake *f);       /* from outside */
void fake_crash(struct fake *f);      /* by itself */

/* Of a takeover: what was given, by kind, until LOAD came. */
struct given {
	struct keeper_custody what[BENCH_FDS];
	int number[BENCH_FDS];
	unsigned count, resumed;
	uint32_t resumed_id[8];
	struct keeper_load load;
	int file_number; /* LOAD_FILE */
};
/* Reads them, resting now and then; `last`: LOAD, LOAD_FILE or LOAD_PRECOPY. */
void fake_take(struct fake *f, struct given *given, uint32_t last, bool rest);
/* The number that was given for it, or -1. */
int given_number(const struct given *given, uint32_t kind, uint32_t index, uint64_t a);

int bench_client(struct bench *b, const char *socket_name);
/* One whose CONNECTION the device process has seen; *ret_id is its number. */
int bench_connect(struct bench *b, struct fake *f, uint32_t *ret_id);
bool client_open(int client); /* nothing ended it */
void client_expect_end(int client);

void bench_send(struct bench *b, uint32_t type, const void *payload, int fd);
void bench_until_state(struct bench *b, uint32_t state);
void bench_next_status(struct bench *b);
void bench_until_memory(struct bench *b, uint32_t state);
void bench_until_event(struct bench *b, const char *words);
void bench_until_done(struct bench *b, int code, const char *words);
int bench_file(int number);
int bench_file_number(int fd);

#endif
