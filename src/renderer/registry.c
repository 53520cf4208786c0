/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/interface.h"

#include "renderer/null/null.h"
#include "renderer/virgl/virgl.h"

#include "base/checked.h"

#include <string.h>

const struct renderer_ops *renderer_find(const char *name)
{
	static const struct renderer_ops *const all[] = {&renderer_null, &renderer_virgl};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		if (strcmp(all[i]->name, name) == 0)
			return all[i];
	}
	return NULL;
}
