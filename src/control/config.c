/* SPDX-License-Identifier: Apache-2.0 */
#include "control/config.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"
#include "control/tcp.h"
#include "scheduler/frames.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum value_kind {
	VALUE_TEXT,
	VALUE_NUMBER,
	VALUE_NUMBER32,
	VALUE_BOOL,
	VALUE_LOCKDOWN,
	VALUE_SHARES,
	VALUE_SHARING,
	VALUE_LOOPBACK
};

struct key {
	const char *name;
	enum value_kind kind;
	size_t offset;
	uint64_t least, most; /* VALUE_TEXT: most bytes with the end */
};

#define CONFIG_IDLE_MAX     (366u * 86400u)
#define CONFIG_SHADERS_MAX  (1u << 20)
#define CONFIG_STANDBY_MOST 16

#define TEXT(s, field) VALUE_TEXT, offsetof(struct s, field), 0, sizeof(((struct s *)0)->field)

static const struct key node_keys[] = {
	{"group", TEXT(config, group)},
	{"keeper", TEXT(config, keeper)},
	{"device", TEXT(config, device)},
	{"renderer", TEXT(config, renderer)},
	{"soft_gpus", VALUE_NUMBER, offsetof(struct config, soft_gpus), 0, 16},
	{"soft_vram_mib", VALUE_NUMBER, offsetof(struct config, soft_vram_mib), 64, 1u << 24},
	{"shader_cache_mib", VALUE_NUMBER, offsetof(struct config, shader_cache_mib), 0,
		CONFIG_SHADERS_MAX},
	{"lockdown", VALUE_LOCKDOWN, offsetof(struct config, lockdown), 0,
		sizeof(((struct config *)0)->lockdown)},
	{"shares", VALUE_SHARES, offsetof(struct config, shares), 0,
		sizeof(((struct config *)0)->shares)},
	{"host_root", TEXT(config, host_root)},
	{"rescan_s", VALUE_NUMBER32, offsetof(struct config, rescan_s), 0, 86400},
	{"dmabuf", VALUE_BOOL, offsetof(struct config, dmabuf)},
	{"min_free_mib", VALUE_NUMBER, offsetof(struct config, min_free_mib), 0, 1u << 24},
	{"lock_timeout_s", VALUE_NUMBER32, offsetof(struct config, lock_timeout_s), 1, 3600},
	{"standby", VALUE_NUMBER32, offsetof(struct config, standby), 0, CONFIG_STANDBY_MOST},
	{"hibernate_idle_s", VALUE_NUMBER32, offsetof(struct config, hibernate_idle_s), 0,
		CONFIG_IDLE_MAX},
	{0},
};

static const struct key libvirt_keys[] = {
	{"create", VALUE_BOOL, offsetof(struct config, libvirt_create)},
	{"gpu", TEXT(config, libvirt_gpu)},
	{"type", TEXT(config, libvirt_type)},
	{0},
};

static const struct key metrics_keys[] = {
	{"listen", VALUE_LOOPBACK, offsetof(struct config, metrics_listen), 0,
		sizeof(((struct config *)0)->metrics_listen)},
	{0},
};

static const struct key gpu_keys[] = {
	{"mixed", VALUE_BOOL, offsetof(struct config_gpu, mixed)},
	{"vram_mib", VALUE_NUMBER, offsetof(struct config_gpu, vram_mib), 64, 1u << 24},
	{"sharing", VALUE_SHARING, offsetof(struct config_gpu, sharing), 0,
		sizeof(((struct config_gpu *)0)->sharing)},
	{"standby", VALUE_NUMBER32, offsetof(struct config_gpu, standby), 0, CONFIG_STANDBY_MOST},
	{"vfs", VALUE_NUMBER32, offsetof(struct config_gpu, vfs), 1, UINT16_MAX},
	{0},
};

static const struct key type_keys[] = {
	{"gpu", TEXT(type, gpu)},
	{"vram_mib", VALUE_NUMBER, offsetof(struct type, vram_mib), 1, 1u << 24},
	{"max_instances", VALUE_NUMBER32, offsetof(struct type, max_instances), 1, TYPES_INSTANCES},
	{"max_width", VALUE_NUMBER32, offsetof(struct type, max_width), TYPES_MIN_SIDE,
		TYPES_MAX_SIDE},
	{"max_height", VALUE_NUMBER32, offsetof(struct type, max_height), TYPES_MIN_SIDE,
		TYPES_MAX_SIDE},
	{"heads", VALUE_NUMBER32, offsetof(struct type, heads), 1, TYPES_MAX_HEADS},
	{"hibernate_idle_s", VALUE_NUMBER32, offsetof(struct type, hibernate_idle_s), 0,
		CONFIG_IDLE_MAX},
	{"weight", VALUE_NUMBER32, offsetof(struct type, weight), 1, SCHED_WEIGHT_MAX},
	{"share_percent", VALUE_NUMBER32, offsetof(struct type, share_percent), 1, 100},
	{"max_fps", VALUE_NUMBER32, offsetof(struct type, max_fps), 0, FRAMES_RATE_MAX},
	{0},
};

struct parse {
	struct config *config;
	char why[256]; /* of the first error */
};

void config_init(struct config *config)
{
	*config = (struct config){.group = "vgpu",
		.renderer = "virgl",
		.soft_gpus = 1,
		.shader_cache_mib = 64,
		.min_free_mib = 256,
		.lock_timeout_s = 60,
		.standby = 1,
		.lockdown = "strict",
		.shares = "auto",
		.rescan_s = CONFIG_RESCAN_AUTO,
		.libvirt_create = true};
}

const struct config_gpu *config_find_gpu(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->n_gpus; i++) {
		if (!strcmp(config->gpus[i].name, name))
			return &config->gpus[i];
	}
	return NULL;
}

static const char *set_number(void *at, const struct key *key, const char *value)
{
	uint64_t number;

	if (!parse_number(value, 10, key->most, &number) || number < key->least)
		return "is not a number in its range";
	if (key->kind == VALUE_NUMBER32)
		*(uint32_t *)at = (uint32_t)number;
	else
		*(uint64_t *)at = number;
	return NULL;
}

static const char *set_bool(bool *at, const char *value)
{
	if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
		return "is neither yes nor no";
	*at = !strcmp(value, "yes");
	return NULL;
}

/* NULL, or what is wrong with the value. */
static const char *set_value(void *base, const struct key *key, const char *value)
{
	void *at = (char *)base + key->offset;
	struct tcp_address address;

	if (key->kind == VALUE_BOOL)
		return set_bool(at, value);
	if (key->kind == VALUE_LOCKDOWN && strcmp(value, "strict") != 0 &&
		strcmp(value, "best-effort") != 0 && strcmp(value, "off") != 0)
		return "is none of strict, best-effort and off";
	if (key->kind == VALUE_SHARES && strcmp(value, "auto") != 0 &&
		strcmp(value, "groups") != 0 && strcmp(value, "accounts") != 0)
		return "is none of auto, groups and accounts";
	if (key->kind == VALUE_SHARING && strcmp(value, "cpu") != 0 && strcmp(value, "slices") != 0)
		return "is neither cpu nor slices";
	if (key->kind == VALUE_LOOPBACK && *value && !tcp_parse_loopback(value, &address))
		return "is no loopback address with a port, as 127.0.0.1:9470 or [::1]:9470 are";
	if (key->kind == VALUE_NUMBER || key->kind == VALUE_NUMBER32)
		return set_number(at, key, value);
	if (strlen(value) >= key->most)
		return "is too long";
	snprintf(at, key->most, "%s", value);
	return NULL;
}

/* As that of a vGPU; PCI addresses have colons, too. */
static bool gpu_name_valid(const char *name)
{
	char plain[TYPES_NAME_MAX];

	int n = snprintf(plain, sizeof(plain), "%s", name);
	if (n < 1 || (size_t)n >= sizeof(plain))
		return false;
	for (char *p = plain + 1; *p; p++) {
		if (*p == ':')
			*p = '.';
	}
	return name_valid(plain);
}

/* The GPU or type of a section "gpu NAME", "type NAME", made at its first key. */
static void *section_object(struct parse *p, const char *section, const struct key **ret_keys)
{
	struct config *c = p->config;
	char *name;
	void *object;

	if (!strncmp(section, "gpu ", 4) && gpu_name_valid(section + 4)) {
		*ret_keys = gpu_keys;
		for (size_t i = 0; i < c->n_gpus; i++) {
			if (!strcmp(c->gpus[i].name, section + 4))
				return &c->gpus[i];
		}
		if (c->n_gpus == CONFIG_MAX)
			return NULL;
		object = &c->gpus[c->n_gpus];
		c->gpus[c->n_gpus].standby = CONFIG_STANDBY_NODE;
		name = c->gpus[c->n_gpus++].name;
		snprintf(name, TYPES_NAME_MAX, "%s", section + 4);
		return object;
	}
	if (strncmp(section, "type ", 5) != 0 || !name_valid(section + 5))
		return NULL;
	*ret_keys = type_keys;
	for (size_t i = 0; i < c->n_types; i++) {
		if (!strcmp(c->types[i].name, section + 5))
			return &c->types[i];
	}
	if (c->n_types == CONFIG_MAX)
		return NULL;
	struct type *type = &c->types[c->n_types++];
	*type = (struct type){.max_width = 1920,
		.max_height = 1200,
		.heads = 1,
		.hibernate_idle_s = TYPES_IDLE_NODE,
		.weight = SCHED_WEIGHT_DEFAULT};
	snprintf(type->name, sizeof(type->name), "%s", section + 5);
	return type;
}

static int on_key(void *user, const char *section, const char *name, const char *value)
{
	struct parse *p = user;
	const struct key *keys = NULL;
	void *object = p->config;
	const char *wrong;

	if (!strcmp(section, "node"))
		keys = node_keys;
	else if (!strcmp(section, "libvirt"))
		keys = libvirt_keys;
	else if (!strcmp(section, "metrics"))
		keys = metrics_keys;
	else
		object = section_object(p, section, &keys);
	if (!object) {
		wrong = "is in a section that does not exist";
	} else {
		while (keys->name && strcmp(keys->name, name) != 0)
			keys++;
		wrong = keys->name ? set_value(object, keys, value) : "is unknown here";
	}
	if (wrong && !p->why[0])
		snprintf(p->why, sizeof(p->why), "[%.40s] %.40s = %.40s %s", section, name, value,
			wrong);
	return !wrong;
}

static int check_types(const struct config *config, const char *path, struct error *err)
{
	for (size_t i = 0; i < config->n_types; i++) {
		const struct type *t = &config->types[i];
		if (!t->gpu[0] || !t->vram_mib)
			return error_set(err, EINVAL,
				"%s: [type %s] lacks gpu or vram_mib (give both)", path, t->name);
	}
	return 0;
}

int config_read(struct config *config, const char *path, struct error *err)
{
	struct parse p = {.config = config};
	cleanup_fclose FILE *f = fopen(path, "re");

	if (!f)
		return error_set(err, errno, "%s: %s (give --config a file that can be read)", path,
			strerror(errno));
	int line = ini_parse_file(f, on_key, &p);
	if (line)
		return error_set(err, EINVAL, "%s line %d: %s (see vgpud(8))", path,
			line > 0 ? line : 0, p.why[0] ? p.why : "this is not KEY = VALUE");
	return check_types(config, path, err);
}
