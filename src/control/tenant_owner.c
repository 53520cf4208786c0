/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may name a tenant. Whose vGPUs are of one tenant run what the others compiled, and get a GPU
 * with what another left in it; so a tenant is the user's who named it first, for as long as it has
 * anything: a vGPU, or its data in a GPU's memory. Root names any, and so does vgpud's own user.
 */
#include "control/tenant.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool has_vgpu(const struct vgpud *d, const char *tenant)
{
	for (const struct vgpu *v = d->vgpus; v; v = v->next) {
		if (!strcmp(v->def.tenant, tenant))
			return true;
	}
	return false;
}

static int refuse(const char *tenant, uid_t owner, const char *what, struct error *err)
{
	char whose[32] = "root";

	if (owner)
		snprintf(whose, sizeof(whose), "uid %u", owner);
	return error_set(err, EPERM,
		"%s: the tenant %s is another user's (%s), who named it first (choose another "
		"name, or have root create it)",
		what, tenant, whose);
}

/* It could not be removed when the last vGPU of that tenant went. */
static int clear(const struct vgpud *d, const char *tenant, const char *what, struct error *err)
{
	struct definition def = {0};

	snprintf(def.tenant, sizeof(def.tenant), "%s", tenant);
	int r = tenant_remove_folder(d, &def);
	if (r == 0)
		return 0;
	return error_set(err, -r,
		"%s: what an earlier tenant %s compiled is still in %s/tenant-%s, which cannot be "
		"removed: %s (remove it, or choose another name)",
		what, tenant, d->shaders_dir, tenant, strerror(-r));
}

int tenant_name(
	struct vgpud *d, const char *tenant, uid_t asker, const char *what, struct error *err)
{
	struct store_tenant stored;

	int r = store_get_tenant(d->store, tenant, &stored, err);
	if (r < 0)
		return r;
	bool taken = stored.left || has_vgpu(d, tenant);
	if (taken && stored.uid != asker && asker != 0 && asker != geteuid())
		return refuse(tenant, stored.uid, what, err);
	if (!taken)
		r = clear(d, tenant, what, err);
	if (r < 0)
		return r;
	return taken && stored.known ? 0 : store_set_tenant(d->store, tenant, asker, what, err);
}

void tenant_let_go(struct vgpud *d, const char *tenant)
{
	struct store_tenant stored;
	struct error err;

	if (!tenant[0] || !d->store || has_vgpu(d, tenant))
		return;
	int r = store_get_tenant(d->store, tenant, &stored, &err);
	if (r == 0 && stored.known && !stored.left)
		r = store_delete_tenant(d->store, tenant, "delete", &err);
	if (r < 0)
		log_warning("%s", err.text);
}
