/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PCI function's driver, from what it has to vfio-pci and back (host/vfio.h does the steps). A
 * function that had no driver has none again: it is not offered to any.
 */
#include "base/checked.h"
#include "host/change_private.h"
#include "host/held.h"
#include "host/iommu.h"
#include "host/pci.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool driver_valid(const char *name)
{
	size_t len = strlen(name);

	for (const char *p = name; *p; p++) {
		if (*p <= ' ' || *p > '~' || *p == '/')
			return false;
	}
	return len < PCI_DRIVER_MAX;
}

static bool vfio_valid(const struct change *c)
{
	return pci_address_valid(c->subject) && driver_valid(c->before) && driver_valid(c->after) &&
	       iommu_driver_is_vfio(c->after);
}

static int vfio_look(
	const struct change_node *node, const struct change *c, char *ret_now, bool *ret_half)
{
	char driver[PCI_DRIVER_MAX], override[PCI_DRIVER_MAX];

	int r = vfio_read(node->roots, c->subject, driver, override);
	if (r < 0)
		return r;
	snprintf(ret_now, CHANGE_VALUE_MAX, "%s", driver);
	bool asked = iommu_driver_is_vfio(override);
	if (!iommu_driver_is_vfio(c->before))
		*ret_half = driver[0] ? asked && !strcmp(driver, c->before) : asked || c->before[0];
	return 0;
}

static int vfio_apply(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	char driver[PCI_DRIVER_MAX], override[PCI_DRIVER_MAX];
	struct vfio_change took;

	int r = vfio_read(node->roots, c->subject, driver, override);
	if (r < 0)
		return change_explain(r, what, "read the driver of", c->subject, err);
	if (override[0] && !iommu_driver_is_vfio(override))
		return error_set(err, EBUSY,
			"%s: somebody chose %s as the only driver of %s (write an empty line to "
			"its driver_override)",
			what, override, c->subject);
	return vfio_take(node->roots, node->kernel, c->subject, &took) == 0
		       ? 0
		       : vfio_explain(&took, what, err);
}

static int vfio_unheld(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	struct holders holders;
	char text[160];

	if (held_find(node->roots, c->subject, &holders) < 0 ||
		(!holders.count && holders.complete))
		return 0; /* what cannot be looked at is said when it is undone */
	return error_set(err, EBUSY, "%s: %s (end that first)", what,
		held_text(&holders, text, sizeof(text)));
}

static int vfio_undo(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	struct vfio_change gave;

	int r = c->before[0] ? vfio_give_back(node->roots, node->kernel, c->subject, &gave)
			     : vfio_release(node->roots, node->kernel, c->subject, &gave);
	return r == 0 ? 0 : vfio_explain(&gave, what, err);
}

const struct change_row change_row_vfio = {
	.noun = "the driver",
	.valid = vfio_valid,
	.look = vfio_look,
	.apply = vfio_apply,
	.undo = vfio_undo,
	.unheld = vfio_unheld,
};
