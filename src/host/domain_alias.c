/* SPDX-License-Identifier: Apache-2.0 */
#include "host/domain_alias.h"

#include "base/parse.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static bool plain(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '-';
}

static bool name_fits(const char *name)
{
	size_t n = 0;

	if (!isalnum((unsigned char)name[0]))
		return false;
	while (plain(name[n]) || name[n] == '.')
		n++;
	/* One with the beginning of an alias inside could not be told from a domain's name. */
	return !name[n] && n < DOMAIN_ALIAS_NAME_MAX && !strstr(name, "-" DOMAIN_ALIAS_BEGIN);
}

bool domain_alias_make(const char *name, unsigned index, char ret[static DOMAIN_ALIAS_MAX])
{
	bool escape = strchr(name, '.') != NULL;
	size_t n;

	if (!name_fits(name) || index > DOMAIN_ALIAS_INDEX_MAX)
		return false;
	n = (size_t)snprintf(ret, DOMAIN_ALIAS_MAX, DOMAIN_ALIAS_BEGIN);
	if (index)
		n += (size_t)snprintf(ret + n, DOMAIN_ALIAS_MAX - n, "_%u_", index);
	if (escape)
		ret[n++] = '-';
	for (; *name; name++) {
		bool special = escape && (*name == '_' || *name == '.');
		if (special)
			ret[n++] = '_';
		ret[n++] = special && *name == '.' ? 'd' : *name;
	}
	ret[n] = '\0';
	return true;
}

/* "_d" is '.', "__" is '_'. */
static bool unescape(const char *text, char *ret, size_t size)
{
	size_t n = 0;

	for (; *text && n + 1 < size; text++) {
		bool special = *text == '_';
		if (special && *++text != '_' && *text != 'd')
			return false;
		ret[n++] = special && *text == 'd' ? '.' : *text;
	}
	ret[n] = '\0';
	return !*text;
}

bool domain_alias_read(
	const char *alias, char ret_name[static DOMAIN_ALIAS_NAME_MAX], unsigned *ret_index)
{
	char name[DOMAIN_ALIAS_NAME_MAX] = "", made[DOMAIN_ALIAS_MAX];
	uint64_t index = 0;
	size_t begin = strlen(DOMAIN_ALIAS_BEGIN);

	if (strncmp(alias, DOMAIN_ALIAS_BEGIN, begin) != 0)
		return false;
	const char *at = alias + begin;
	if (*at == '_') {
		at++;
		if (!isdigit((unsigned char)*at) ||
			!parse_next(&at, 10, DOMAIN_ALIAS_INDEX_MAX, &index) || *at++ != '_')
			return false;
	}
	if (*at != '-') {
		if (strlen(at) >= sizeof(name))
			return false;
		snprintf(name, sizeof(name), "%s", at);
	} else if (!unescape(at + 1, name, sizeof(name))) {
		return false;
	}
	/* Only what would be written so is one: each name has one alias. */
	if (!domain_alias_make(name, (unsigned)index, made) || strcmp(made, alias) != 0)
		return false;
	memcpy(ret_name, name, sizeof(name));
	*ret_index = (unsigned)index;
	return true;
}

bool domain_alias_by_domain(const char *domain, char ret_name[static DOMAIN_ALIAS_NAME_MAX])
{
	snprintf(ret_name, DOMAIN_ALIAS_NAME_MAX, "%s", domain);
	for (char *p = ret_name; *p; p++) {
		if (*p & 0x80 || (!plain(*p) && *p != '.'))
			*p = '-';
	}
	if (*ret_name && !isalnum((unsigned char)*ret_name))
		*ret_name = 'x';
	return *ret_name != '\0';
}

bool domain_alias_in_file(const char *text, size_t size,
	char ret_name[static DOMAIN_ALIAS_NAME_MAX], size_t *ret_domain)
{
	static const char begin[] = "-" DOMAIN_ALIAS_BEGIN;
	char alias[DOMAIN_ALIAS_MAX];
	unsigned index;

	for (size_t at = size; at-- > 0;) {
		if (size - at < sizeof(begin) || strncmp(text + at, begin, sizeof(begin) - 1) != 0)
			continue;
		size_t len = size - at - 1;
		if (len >= sizeof(alias))
			return false;
		snprintf(alias, sizeof(alias), "%.*s", (int)len, text + at + 1);
		*ret_domain = at;
		return domain_alias_read(alias, ret_name, &index);
	}
	return false;
}
