/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_BASE_LOG_H
#define VGPU_BASE_LOG_H

/*
 * One line a message on standard error, prefixed "<N>" for the journal when it is not a terminal.
 * Whatever a guest can cause is logged through a struct log_limit, so no guest can fill a disk.
 */

#include <stdbool.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR = 3, /* numbers are syslog(3)'s */
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

/* Sets the process' name in every line and the least important level shown. `name` must outlive. */
void log_init(const char *name, enum log_level max_level);

/*
 * Where standard error is a file, it starts over when it has become longer than that: it is looked
 * at now, and each time that a sixteenth of it was written. For processes with one thread.
 */
void log_keep_below(uint64_t bytes);
/* The same at once, when somebody else may have written to it. */
void log_look(void);

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* A budget of messages: `burst` at once, then one every `interval_ms`. Zero-initialise the rest. */
struct log_limit {
	uint32_t burst;
	uint32_t interval_ms;
	uint32_t spent;
	uint32_t suppressed; /* since the last message that passed */
	uint64_t last_ms;
};

#define LOG_LIMIT_INIT                                                                             \
	{                                                                                          \
		.burst = 10, .interval_ms = 1000                                                   \
	}

/* True when a message may be written now; counts it. */
bool log_limit_pass(struct log_limit *limit);

#define log_limited(limit, level, ...)                                                             \
	do {                                                                                       \
		if (log_limit_pass(limit))                                                         \
			log_line(level, __VA_ARGS__);                                              \
	} while (0)

#endif
