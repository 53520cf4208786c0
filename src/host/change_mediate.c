/* SPDX-License-Identifier: Apache-2.0 */
#include "host/change_mediate.h"

#include "base/cleanup.h"
#include "host/held.h"

#include <errno.h>

int change_say(const struct change_saying *sayings, int code, const char *what, const char *verb,
	const char *subject, struct error *err)
{
	for (; sayings->code; sayings++) {
		if (sayings->code == code)
			return error_set(err, -code, "%s: %s %s: %s (%s)", what, verb, subject,
				sayings->why, sayings->remedy);
	}
	return change_explain(code, what, verb, subject, err);
}

int change_unheld(const struct change_node *node, const char *folder, const char *what,
	const char *verb, const char *subject, struct error *err)
{
	char names[HOLDER_VFIO_MAX][HOLDER_FILE_MAX], text[160];
	const char *files[HOLDER_VFIO_MAX];
	struct holders holders;

	cleanup_close int device = change_open(node, folder);
	size_t n = device < 0 ? 0 : holder_vfio_files(device, names);
	for (size_t i = 0; i < n; i++)
		files[i] = names[i];
	holders_find(node->roots, files, n, &holders);
	if (!holders.count && holders.complete)
		return 0;
	return error_set(err, EBUSY, "%s: %s %s: %s (end that first)", what, verb, subject,
		held_text(&holders, text, sizeof(text)));
}
