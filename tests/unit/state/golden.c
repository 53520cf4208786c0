/* SPDX-License-Identifier: Apache-2.0 */

/* Writes the sample to standard output: how tests/golden/state was made, and will be again. */

#include "sample.h"

int main(void)
{
	struct state_writer *w;

	if (state_writer_create(STATE_FILE, 1, &w))
		return 1;
	sample_write(w);
	int err = state_finish(w);
	state_writer_destroy(w);
	return err ? 1 : 0;
}
