/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/checked.h"

#include <stdio.h>

/* Through units that are 1000 times the one before. */
static void scaled(double value, const char *const units[], unsigned n, char *ret, size_t size)
{
	unsigned unit = 0;

	for (; value >= 999.5 && unit + 1 < n; unit++)
		value /= 1000;
	snprintf(ret, size, unit && value < 99.95 ? "%.1f%s" : "%.0f%s", value, units[unit]);
}

void cli_bytes(double bytes, char *ret, size_t size)
{
	static const char *const units[] = {" B", " kB", " MB", " GB", " TB", " PB"};
	scaled(bytes, units, ARRAY_SIZE(units), ret, size);
}

void cli_count(double count, char *ret, size_t size)
{
	static const char *const units[] = {"", "k", "M", "G", "T", "P"};
	scaled(count, units, ARRAY_SIZE(units), ret, size);
}

void cli_seconds(double ns, char *ret, size_t size)
{
	double s = ns / 1e9;

	if (s >= 3600)
		snprintf(ret, size, "%.1f h", s / 3600);
	else if (s >= 100)
		snprintf(ret, size, "%.0f s", s);
	else if (s >= 1)
		snprintf(ret, size, "%.2f s", s);
	else
		snprintf(ret, size, "%.1f ms", s * 1000);
}

void cli_mib(double bytes, char *ret, size_t size)
{
	snprintf(ret, size, "%.0f MiB", bytes / (1 << 20));
}
