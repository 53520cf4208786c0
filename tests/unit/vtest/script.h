/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_VTEST_SCRIPT_H
#define VGPU_TESTS_VTEST_SCRIPT_H

/*
 * A client that uses every command of its version, and notes all it sees: answers, what shared
 * memory holds, which eventfds are readable. Two runs that note the same are the same to a client.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCRIPT_NOTES (256u << 10)

struct script_notes {
	size_t n;
	uint8_t bytes[SCRIPT_NOTES];
};

struct script {
	int fd;
	uint32_t version;
	unsigned rounds;
	bool bad_end; /* sends what ends the connection, last */
	struct script_notes *notes;
	/* Nothing to read, or no room to write: lets the other side go on. False: it has ended. */
	bool (*wait)(void *data);
	void *data;
};

/* True when it came to its end, false when the connection ended before. */
bool script_run(struct script *s);

#endif
