/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The reader of saved states. The first byte chooses: read in order or mapped, as the file is or
 * with its CRCs made right (so that the search gets beyond them), and how sections are taken apart.
 */

#include "state/section.h"

#include "state/internal.h"

#include "base/checked.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAPPED = 1, REPAIR = 2, BY_FIELDS = 4 };

static void repair(uint8_t *bytes, size_t n)
{
	struct state_section_header h;

	for (size_t at = sizeof(struct state_header); range_inside(at, sizeof(h), n);) {
		memcpy(&h, bytes + at, sizeof(h));
		uint8_t *payload = bytes + at + sizeof(h);
		if (h.stored_size > n || !range_inside(at + sizeof(h), h.stored_size, n))
			return;
		if (h.flags & STATE_CRC) {
			h.crc = crc32c(0, payload, h.stored_size);
			h.header_crc = crc32c(0, &h, STATE_HEADER_CHECKED);
			memcpy(bytes + at, &h, sizeof(h));
		}
		at += sizeof(h) + h.stored_size + state_padding(h.stored_size);
	}
}

static void walk(struct state_reader *r, bool by_fields)
{
	struct state_section section;
	char text[20];
	unsigned sections = 0;
	int got;

	while ((got = state_next(r, &section)) == 1 && sections++ < 64) {
		if (section.size != state_left(r) || section.size > STATE_SECTION_MAX)
			abort();
		while (by_fields && !state_bad(r)) {
			state_get_u32(r);
			state_get_text(r, text, sizeof(text));
			if (memchr(text, 0, sizeof(text)) == NULL)
				abort();
		}
		size_t n = state_left(r);
		const volatile uint8_t *p = state_take(r, n);
		for (size_t i = 0; p && i < n; i++)
			(void)p[i];
	}
	if (got < 0 && (!state_reader_why(r)[0] || state_next(r, &section) != got))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct state_reader *r;

	if (size < 1)
		return 0;
	int fd = memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint8_t *bytes = malloc(size);
	if (fd < 0 || !bytes)
		abort();
	memcpy(bytes, data + 1, size - 1);
	if (data[0] & REPAIR)
		repair(bytes, size - 1);
	if (write(fd, bytes, size - 1) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		abort();
	free(bytes);
	if (data[0] & MAPPED)
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
	if (state_reader_create(fd, &r) == 0) {
		walk(r, data[0] & BY_FIELDS);
		state_reader_destroy(r);
	}
	close(fd);
	return 0;
}
