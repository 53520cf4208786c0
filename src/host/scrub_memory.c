/* SPDX-License-Identifier: Apache-2.0 */
#include "host/scrub_memory.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAP_BYTES  (64ull << 20) /* at a time: tables of pages for all of a large BAR are large */
#define PAGE_BYTES 4096u
#define LOOK_MS    200 /* at the progress */
#define REAP_MS    5000
#define ONES       0xffu

/* Memory of devices is read and written in whole, aligned words; this is the widest that all have.
 */
typedef uint64_t word __attribute__((vector_size(16), may_alias));

/* Shared with the process that does the work; it alone writes. */
struct board {
	_Atomic uint32_t step;
	_Atomic uint64_t done;                /* bytes of this step */
	uint64_t scrubbed, bad, bad_ones, at; /* read when it has ended */
	int code;
	bool ended; /* by itself */
};

/* --- what is done with a chunk; 0 or -errno --- */

struct work {
	struct board *board;
	uint64_t nonce;
};

/* What a page is to hold while it is tried: its own, so that a page seen twice is noticed. */
static uint64_t mark_of(const struct work *w, uint64_t offset)
{
	return w->nonce ^ (offset + 1) * 0x9e3779b97f4a7c15u;
}

static int put_marks(struct work *w, volatile uint8_t *at, uint64_t offset, uint64_t size)
{
	for (uint64_t i = 0; i < size; i += PAGE_BYTES)
		*(volatile uint64_t *)(at + i) = mark_of(w, offset + i);
	atomic_thread_fence(memory_order_seq_cst);
	return 0;
}

static int check_marks(struct work *w, volatile uint8_t *at, uint64_t offset, uint64_t size)
{
	for (uint64_t i = 0; i < size; i += PAGE_BYTES) {
		uint64_t is = *(volatile uint64_t *)(at + i);
		if (is == mark_of(w, offset + i))
			continue;
		w->board->at = offset + i;
		return is == UINT64_MAX ? -EIO : -ENXIO;
	}
	return 0;
}

/* The fence empties write-combining buffers; reading pushes what is still posted on the bus. */
static int put_zeroes(struct work *w, volatile uint8_t *at, uint64_t offset, uint64_t size)
{
	volatile word *words = (volatile word *)at;

	for (uint64_t i = 0; i < size / sizeof(word); i++)
		words[i] = (word){0, 0};
	atomic_thread_fence(memory_order_seq_cst);
	(void)*(volatile uint64_t *)(at + size - sizeof(uint64_t));
	return 0;
}

static void count_bad(struct board *board, const word *is, uint64_t offset)
{
	uint8_t bytes[sizeof(word)];

	memcpy(bytes, is, sizeof(bytes));
	for (unsigned i = 0; i < sizeof(bytes); i++) {
		if (!bytes[i])
			continue;
		if (!board->bad++)
			board->at = offset + i;
		board->bad_ones += bytes[i] == ONES;
	}
}

static int check_zeroes(struct work *w, volatile uint8_t *at, uint64_t offset, uint64_t size)
{
	volatile word *words = (volatile word *)at;
	uint64_t before = w->board->bad;

	for (uint64_t i = 0; i < size / sizeof(word); i++) {
		word is = words[i];
		if (is[0] | is[1])
			count_bad(w->board, &is, offset + i * sizeof(word));
	}
	w->board->scrubbed += size - (w->board->bad - before);
	return 0;
}

/* In this order. What is no memory is written to as little as can be. */
static const struct {
	enum scrub_step step;
	int (*chunk)(struct work *w, volatile uint8_t *at, uint64_t offset, uint64_t size);
	bool first_only; /* the first chunk alone */
} passes[] = {
	{SCRUB_PROBE, put_marks, true},
	{SCRUB_PROBE, check_marks, true},
	{SCRUB_PROBE, put_marks, false},
	{SCRUB_PROBE, check_marks, false},
	{SCRUB_ZERO, put_zeroes, false},
	{SCRUB_VERIFY, check_zeroes, false},
};

/* --- the process that does it --- */

static int run_pass(struct work *w, size_t pass, int fd, uint64_t bytes)
{
	int r = 0;

	atomic_store(&w->board->done, 0);
	atomic_store(&w->board->step, passes[pass].step);
	for (uint64_t at = 0; r == 0 && at < bytes; at += MAP_BYTES) {
		uint64_t size = MIN(bytes - at, (uint64_t)MAP_BYTES);
		uint8_t *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)at);
		if (map == MAP_FAILED)
			return -errno;
		for (uint64_t i = 0; r == 0 && i < size; i += SCRUB_CHUNK_BYTES) {
			uint64_t chunk = MIN(size - i, (uint64_t)SCRUB_CHUNK_BYTES);
			r = passes[pass].chunk(w, map + i, at + i, chunk);
			atomic_fetch_add(&w->board->done, chunk);
		}
		munmap(map, size);
	}
	return r;
}

static int run_passes(const struct scrub_memory *m, struct board *board)
{
	struct work w = {.board = board};
	struct stat file;
	int r = 0;

	atomic_store(&board->step, SCRUB_MAP);
	cleanup_close int fd = open(m->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &file) < 0)
		return -errno;
	if (!S_ISREG(file.st_mode) || (uint64_t)file.st_size != m->window)
		return -EBADMSG;
	if (getrandom(&w.nonce, sizeof(w.nonce), 0) != sizeof(w.nonce))
		return -errno;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(passes); i++)
		r = run_pass(&w, i, fd,
			passes[i].first_only ? MIN(m->bytes, (uint64_t)SCRUB_CHUNK_BYTES)
					     : m->bytes);
	if (r < 0 || !board->bad)
		return r;
	/* What is gone reads as ones. */
	return board->bad_ones == board->bad && board->bad >= PAGE_BYTES ? -EIO : -EUCLEAN;
}

static void __attribute__((noreturn))
child(const struct scrub_memory *m, struct board *board, pid_t parent)
{
	/* It ends with whoever wants it, and leaves no picture of the GPU's memory behind. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent ||
		prctl(PR_SET_DUMPABLE, 0) < 0 || signal(SIGBUS, SIG_DFL) == SIG_ERR)
		_exit(1);
	board->code = run_passes(m, board);
	if (board->code == 0)
		atomic_store(&board->step, SCRUB_AFTER);
	board->ended = true;
	_exit(0);
}

/* --- and the one that waits for it --- */

static void tell(const struct scrub_memory *m, const struct board *board)
{
	const struct scrub_request *request = m->request;

	if (request->progress)
		request->progress(request->data, (enum scrub_step)atomic_load(&board->step),
			atomic_load(&board->done), m->bytes);
}

/* Has it ended within so many milliseconds? */
static bool wait_ended(int pidfd, uint64_t wait_ms)
{
	struct pollfd end = {.fd = pidfd, .events = POLLIN};

	return poll(&end, 1, (int)MIN(wait_ms, (uint64_t)INT_MAX)) > 0;
}

/* 0, or the signal that ended it; -ETIMEDOUT: it had to be ended, or could not be. */
static int wait_for(const struct scrub_memory *m, pid_t pid, int pidfd, const struct board *board,
	unsigned limit_ms)
{
	uint64_t limit = clock_ms() + limit_ms, now;
	bool ended = false;
	int status;

	while (!ended && (now = clock_ms()) < limit) {
		ended = wait_ended(pidfd, MIN(limit - now, (uint64_t)LOOK_MS));
		tell(m, board);
	}
	if (!ended) {
		kill(pid, SIGKILL);
		/* One that waits in the kernel for a device is left to itself. */
		if (wait_ended(pidfd, REAP_MS))
			(void)waitpid(pid, &status, 0);
		return -ETIMEDOUT;
	}
	if (waitpid(pid, &status, 0) != pid)
		return -errno;
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

int scrub_memory(const struct scrub_memory *memory, unsigned limit_ms, struct scrub_result *ret)
{
	struct board *board = mmap(
		NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ret->step = SCRUB_MAP;
	if (board == MAP_FAILED)
		return -errno;
	pid_t parent = getpid(), pid = fork();
	if (pid == 0)
		child(memory, board, parent);
	int r = pid < 0 ? -errno : 0;
	cleanup_close int pidfd = pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
	if (pid > 0 && pidfd < 0) {
		r = -errno;
		kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
	}
	if (r == 0)
		r = wait_for(memory, pid, pidfd, board, limit_ms);
	if (r > 0)
		r = r == SIGBUS ? -ENODEV : -EINTR;
	else if (r == 0)
		r = board->ended ? board->code : -EINTR;
	if (pid > 0) {
		ret->step = (enum scrub_step)MIN(atomic_load(&board->step), (uint32_t)SCRUB_AFTER);
		ret->scrubbed_bytes = board->scrubbed;
		ret->bad_bytes = board->bad;
		ret->bad_at = board->at;
	}
	munmap(board, sizeof(*board));
	return ret->code = r;
}
