/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_BASE_PARSE_H
#define VGPU_BASE_PARSE_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

/*
 * Reads an unsigned number at *text, white space before it allowed, and moves *text behind it.
 * False, and nothing changed, when there is none, it is negative, or above `most`.
 */
static inline bool parse_next(const char **text, int base, uint64_t most, uint64_t *ret)
{
	const char *at = *text;
	char *end;

	while (*at == ' ' || *at == '\t')
		at++;
	if (*at == '-' || *at == '+')
		return false;
	errno = 0;
	unsigned long long number = strtoull(at, &end, base);
	if (errno || end == at || number > most)
		return false;
	*text = end;
	*ret = number;
	return true;
}

/* The same for a text that is a number and nothing else, but for a line's end. */
static inline bool parse_number(const char *text, int base, uint64_t most, uint64_t *ret)
{
	uint64_t number;

	if (!parse_next(&text, base, most, &number) || (*text && *text != '\n'))
		return false;
	*ret = number;
	return true;
}

#endif
