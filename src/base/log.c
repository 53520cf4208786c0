/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file is looked at again when this part of what it may have was written. */
#define LOOK_SHARE 16u

/* Process-wide by nature: there is one standard error. Written once, before any thread starts. */
static struct {
	const char *name;
	enum log_level max_level;
	bool journal;
	uint64_t below;  /* 0: a file may be of any length */
	uint64_t unseen; /* bytes since it was looked at; one thread's */
} log_config = {.name = "vgpu", .max_level = LOG_LEVEL_INFO};

void log_init(const char *name, enum log_level max_level)
{
	log_config.name = name;
	log_config.max_level = max_level;
	log_config.journal = !isatty(STDERR_FILENO);
}

void log_look(void)
{
	struct stat st;

	log_config.unseen = 0;
	if (!log_config.below)
		return;
	if (fstat(STDERR_FILENO, &st) == 0 && S_ISREG(st.st_mode) &&
		(uint64_t)st.st_size > log_config.below && ftruncate(STDERR_FILENO, 0) < 0)
		return; /* and looked at again: there is nobody to tell */
}

void log_keep_below(uint64_t bytes)
{
	log_config.below = bytes;
	log_look();
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[1024];
	size_t at = 0;
	va_list args;

	if (level > log_config.max_level)
		return;
	if (log_config.journal)
		at = (size_t)snprintf(line, sizeof(line), "<%d>", (int)level);
	at += (size_t)snprintf(line + at, sizeof(line) - at, "%s: ", log_config.name);
	va_start(args, format);
	int n = vsnprintf(line + at, sizeof(line) - at - 1, format, args);
	va_end(args);
	if (n < 0)
		return;
	at += (size_t)n < sizeof(line) - at - 1 ? (size_t)n : sizeof(line) - at - 2;
	for (size_t i = 0; i < at; i++) {
		if (line[i] == '\n' || line[i] == '\x1b') /* a guest's text stays on its line */
			line[i] = ' ';
	}
	line[at++] = '\n';
	/* One write a line keeps lines of several processes whole; nothing to do if it fails. */
	if (write(STDERR_FILENO, line, at) < 0)
		return;
	if (!log_config.below)
		return;
	log_config.unseen += at;
	if (log_config.unseen >= log_config.below / LOOK_SHARE)
		log_look();
}

bool log_limit_pass(struct log_limit *limit)
{
	uint64_t now = clock_ms();

	if (limit->interval_ms && limit->spent) {
		uint64_t earned = (now - limit->last_ms) / limit->interval_ms;
		if (earned) {
			limit->spent = earned >= limit->spent ? 0 : limit->spent - (uint32_t)earned;
			limit->last_ms = now;
		}
	}
	if (limit->spent >= limit->burst) {
		limit->suppressed++;
		return false;
	}
	if (!limit->spent)
		limit->last_ms = now;
	limit->spent++;
	if (limit->suppressed) {
		log_line(LOG_LEVEL_WARNING, "%u messages of this kind were left out",
			limit->suppressed);
		limit->suppressed = 0;
	}
	return true;
}
