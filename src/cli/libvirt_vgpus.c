/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/libvirt.h"

#include "base/checked.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *method;
	enum domain_device device;
} methods[] = {
	{"emulate", DOMAIN_VIDEO}, {"forward", DOMAIN_VIDEO}, {"passthrough", DOMAIN_PCI},
	{"mediate", DOMAIN_PCI}, /* or a mediated device, as its address is a UUID */
};

static const char *string_of(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

static bool add_address(struct domain_vgpu *vgpu, const char *s, size_t len)
{
	if (len >= DOMAIN_ADDRESS_MAX || vgpu->n_addresses == DOMAIN_FUNCTIONS_MAX)
		return false;
	memcpy(vgpu->address[vgpu->n_addresses], s, len);
	vgpu->address[vgpu->n_addresses++][len] = '\0';
	return true;
}

/* "0000:03:00.0 0000:03:00.1", the same with commas, or a UUID. */
static bool read_addresses(const char *s, struct domain_vgpu *vgpu)
{
	static const char between[] = " ,";

	while (s && *(s += strspn(s, between))) {
		size_t len = strcspn(s, between);
		if (!add_address(vgpu, s, len))
			return false;
		s += len;
	}
	return true;
}

/* Addresses, or an array of them. */
static bool read_device(const json_t *device, struct domain_vgpu *vgpu)
{
	const json_t *one;
	size_t i;

	json_array_foreach(device, i, one)
	{
		if (!read_addresses(json_string_value(one), vgpu))
			return false;
	}
	return read_addresses(json_string_value(device), vgpu);
}

bool libvirt_vgpu_from_json(const json_t *json, struct domain_vgpu *ret)
{
	const char *method = string_of(json, "method");
	char alias[DOMAIN_ALIAS_MAX];
	json_int_t heads = json_integer_value(json_object_get(json, "heads"));
	size_t i = 0;

	*ret = (struct domain_vgpu){.heads = heads > 0 && heads < 64 ? (unsigned)heads : 1};
	while (i < ARRAY_SIZE(methods) && strcmp(methods[i].method, method) != 0)
		i++;
	if (i == ARRAY_SIZE(methods) || !domain_alias_make(string_of(json, "name"), 0, alias))
		return false;
	snprintf(ret->name, sizeof(ret->name), "%s", string_of(json, "name"));
	ret->device = methods[i].device;
	if (ret->device == DOMAIN_VIDEO)
		return true;
	if (!read_device(json_object_get(json, "device"), ret))
		return false;
	if (ret->n_addresses == 1 && strlen(ret->address[0]) == 36)
		ret->device = DOMAIN_MDEV;
	return true;
}

/* Rule 4: while the node over-commits memory, or is about to, that of a VM with a vGPU is locked.
 */
static bool node_overcommits(struct cli *cli)
{
	struct cli_reply reply;
	struct error err;

	if (cli_call(cli, "GET", "/v1/node", NULL, &reply, &err) < 0)
		return false;
	const char *said = json_string_value(json_object_get(reply.json, "overcommit"));
	bool on = said && strcmp(said, "off") != 0 && strcmp(said, "stopping") != 0;
	cli_reply_finish(&reply);
	return on;
}

int libvirt_vgpus_get(
	struct cli *cli, const char *what, struct libvirt_vgpus *ret, struct error *err)
{
	struct cli_reply reply;
	const json_t *one;
	size_t i;

	*ret = (struct libvirt_vgpus){0};
	int r = cli_call(cli, "GET", "/v1/vgpus", NULL, &reply, err);
	if (r < 0)
		return r;
	ret->list = calloc(LIBVIRT_VGPUS_MAX, sizeof(*ret->list));
	ret->json = json_incref(reply.json);
	cli_reply_finish(&reply);
	if (!ret->list || json_array_size(ret->json) > LIBVIRT_VGPUS_MAX) {
		libvirt_vgpus_finish(ret);
		return error_set(err, ENOMEM,
			"%s: there is no memory for the list of vGPUs (free some)", what);
	}
	bool locked = node_overcommits(cli);
	json_array_foreach(ret->json, i, one)
	{
		struct domain_vgpu *vgpu = &ret->list[ret->count];
		ret->count += libvirt_vgpu_from_json(one, vgpu);
		vgpu->locked = locked;
	}
	return 0;
}

void libvirt_vgpus_finish(struct libvirt_vgpus *vgpus)
{
	free(vgpus->list);
	json_decref(vgpus->json);
	*vgpus = (struct libvirt_vgpus){0};
}

const struct domain_vgpu *libvirt_vgpus_find(const struct libvirt_vgpus *vgpus, const char *name)
{
	for (size_t i = 0; i < vgpus->count; i++) {
		if (!strcmp(vgpus->list[i].name, name))
			return &vgpus->list[i];
	}
	return NULL;
}

const json_t *libvirt_vgpus_json(const struct libvirt_vgpus *vgpus, const char *name)
{
	const json_t *one;
	size_t i;

	json_array_foreach(vgpus->json, i, one)
	{
		if (!strcmp(string_of(one, "name"), name))
			return one;
	}
	return NULL;
}
