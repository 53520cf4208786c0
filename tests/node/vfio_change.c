/* SPDX-License-Identifier: Apache-2.0 */
/* vfio_change take|give ADDRESS: what host/vfio.h makes of it, as one line of JSON. */
#include "host/vfio.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	struct vfio_change change = {0};
	struct error err = {0};

	if (argc != 3 || (strcmp(argv[1], "take") != 0 && strcmp(argv[1], "give") != 0))
		return 2;
	bool take = !strcmp(argv[1], "take");
	int r = (take ? vfio_take : vfio_give_back)(
		&host_roots_real, &vfio_kernel_real, argv[2], &change);
	vfio_explain(&change, argv[2], &err);
	printf("{\"code\": %d, \"step\": \"%s\", \"before\": \"%s\", \"driver\": \"%s\", "
	       "\"requests\": %u, \"taken_back\": %s, \"text\": \"%s\"}\n",
		r, vfio_step_names[change.step], change.before, change.driver, change.requests,
		change.taken_back ? "true" : "false", err.text);
	return 0;
}
