/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What `vgpuctl inspect` makes of a file that somebody else wrote. The input is split into
 * sections: a type, 16 bits of length and the payload, so that the search is about payloads; the
 * file's own form is fuzz_state's matter. The last section is also drawn as a picture.
 */

#include "cli/inspect.h"

#include "base/checked.h"
#include "state/section.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int made(const uint8_t *data, size_t size)
{
	int fd = memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct state_writer *w;

	if (fd < 0 || state_writer_create(STATE_IMAGE, fd, &w) < 0)
		abort();
	while (size >= 3) {
		size_t n = MIN((size_t)(data[1] | data[2] << 8), size - 3);
		state_begin(w, (enum state_section_type)(data[0] % STATE_END));
		state_put(w, data + 3, n);
		state_end(w);
		data += 3 + n;
		size -= 3 + n;
	}
	/* Type 0 is unknown and critical: that file is refused in the middle. */
	(void)!state_finish(w);
	state_writer_destroy(w);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = {0};
	json_t *state = NULL;
	int fd = made(data, size);

	if (inspect_read(fd, "file", NULL, &state, &err) < 0 && !err.text[0])
		abort();
	json_decref(state);
	close(fd);
	if (size > 6) {
		struct picture p = {.format = data[0] | (data[1] & 1u) << 8,
			.width = data[2],
			.height = data[3],
			.bytes = data + 4,
			.size = size - 4};
		inspect_write_png(&p, "/dev/null");
	}
	return 0;
}
