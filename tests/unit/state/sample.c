/* SPDX-License-Identifier: Apache-2.0 */
#include "sample.h"

#include "base/checked.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

const struct sample_section sample_sections[] = {
	{STATE_SOURCE, 1, "virgl, a name of a renderer", 16, 0},
	{STATE_DEVICE, 2, "soft-small", 0, 0},
	{STATE_CLIENT, 3, "", 8, 0},
	{STATE_RESOURCE, 4, "", 64, 0},
	{STATE_CONTENT, 5, "", 301, 0},
	{STATE_CONTENT, 6, "", 0, 1500},
	{STATE_CONTEXT, 7, "glxgears", 4, 0},
	{STATE_OBJECTS, 8, "", 128, 96},
	{STATE_QUERIES, 9, "", 12, 0},
	{STATE_BINDINGS, 10, "", 40, 300},
	{STATE_STREAMOUT, 11, "", 8, 0},
	{STATE_CONNECTION, 12, "", 31, 0},
	{STATE_LOSSY, 14, "one sample of four is kept", 0, 0},
};
const unsigned sample_count = ARRAY_SIZE(sample_sections);

static uint8_t noise(uint32_t seed, uint32_t i)
{
	uint32_t x = seed * 2654435761u + i * 2246822519u;
	x ^= x >> 15;
	x *= 2654435761u;
	return (uint8_t)(x >> 24);
}

void sample_write(struct state_writer *w)
{
	for (unsigned i = 0; i < sample_count; i++) {
		const struct sample_section *s = &sample_sections[i];
		state_begin(w, s->type);
		state_put_u32(w, s->number);
		state_put_u64(w, 0x1122334455667788ull * s->number);
		state_put_text(w, s->text);
		uint8_t *p = state_reserve(w, s->noise + s->fill);
		for (uint32_t k = 0; p && k < s->noise + s->fill; k++)
			p[k] = k < s->noise ? noise(s->number, k) : 0x55;
		state_end(w);
	}
}

static bool sample_same(struct state_reader *r, const struct sample_section *s)
{
	char text[64];

	if (state_get_u32(r) != s->number || state_get_u64(r) != 0x1122334455667788ull * s->number)
		return false;
	state_get_text(r, text, sizeof(text));
	const uint8_t *p = state_take(r, s->noise + s->fill);
	if (strcmp(text, s->text) != 0 || !p || state_left(r) || state_bad(r))
		return false;
	for (uint32_t k = 0; k < s->noise + s->fill; k++)
		if (p[k] != (k < s->noise ? noise(s->number, k) : 0x55))
			return false;
	return true;
}

int sample_read(struct state_reader *r)
{
	struct state_section section;
	unsigned i = 0;
	int got;

	while ((got = state_next(r, &section)) == 1) {
		const struct sample_section *s = &sample_sections[i++];
		if (i > sample_count || section.type != s->type || !sample_same(r, s))
			return -EILSEQ;
	}
	if (got < 0)
		return got;
	return i == sample_count ? 0 : -EILSEQ;
}

int sample_fd(const void *bytes, size_t n)
{
	int fd = memfd_create("sample", MFD_CLOEXEC);

	if (fd < 0 || write(fd, bytes, n) != (ssize_t)n || lseek(fd, 0, SEEK_SET) < 0)
		abort();
	return fd;
}

void *sample_bytes(int fd, size_t *ret_n)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		abort();
	void *p = malloc((size_t)st.st_size + 1);
	if (!p || pread(fd, p, (size_t)st.st_size, 0) != st.st_size)
		abort();
	*ret_n = (size_t)st.st_size;
	return p;
}
