/* SPDX-License-Identifier: Apache-2.0 */
#include "state/internal.h"

#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* reflected */

/* One byte at a time by halves: 16 entries are enough where the instruction is missing. */
#define STEP(x)   (((x) >> 1) ^ (POLYNOMIAL & (0u - ((x)&1u))))
#define NIBBLE(x) STEP(STEP(STEP(STEP((uint32_t)(x)))))

static const uint32_t crc32c_nibbles[16] = {
	NIBBLE(0),
	NIBBLE(1),
	NIBBLE(2),
	NIBBLE(3),
	NIBBLE(4),
	NIBBLE(5),
	NIBBLE(6),
	NIBBLE(7),
	NIBBLE(8),
	NIBBLE(9),
	NIBBLE(10),
	NIBBLE(11),
	NIBBLE(12),
	NIBBLE(13),
	NIBBLE(14),
	NIBBLE(15),
};

uint32_t crc32c_by_table(uint32_t crc, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;

	crc = ~crc;
	for (size_t i = 0; i < n; i++) {
		crc ^= at[i];
		crc = (crc >> 4) ^ crc32c_nibbles[crc & 15];
		crc = (crc >> 4) ^ crc32c_nibbles[crc & 15];
	}
	return ~crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc32c_by_instruction(
	uint32_t crc, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;
	uint64_t sum = ~crc;

	for (; n >= 8; n -= 8, at += 8) {
		uint64_t word;
		memcpy(&word, at, 8);
		sum = __builtin_ia32_crc32di(sum, word);
	}
	for (; n; n--)
		sum = __builtin_ia32_crc32qi((uint32_t)sum, *at++);
	return ~(uint32_t)sum;
}
#endif

uint32_t crc32c(uint32_t crc, const void *bytes, size_t n)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2"))
		return crc32c_by_instruction(crc, bytes, n);
#endif
	return crc32c_by_table(crc, bytes, n);
}
