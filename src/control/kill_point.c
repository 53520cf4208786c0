/* SPDX-License-Identifier: Apache-2.0 */
#include "control/kill_point.h"

#include "base/parse.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define LATE_US                                                                                    \
	50000u /* a request goes on for so long after vgpud's end: the next one is there           \
		*/

static struct kill_setting {
	atomic_uint passed; /* of vgpud and its children */
	unsigned at;
	pid_t vgpud;
} * setting; /* NULL: none */

void kill_points_init(void)
{
	const char *text = getenv("VGPUD_KILL_AT");
	uint64_t at;

	if (!text || !parse_number(text, 10, 1000000, &at) || !at)
		return;
	void *page = mmap(
		NULL, sizeof(*setting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return;
	setting = page;
	setting->at = (unsigned)at;
	setting->vgpud = getpid();
}

static bool reached(void)
{
	return setting && atomic_fetch_add(&setting->passed, 1) + 1 == setting->at;
}

void kill_point(void)
{
	if (!reached())
		return;
	kill(setting->vgpud, SIGKILL);
	for (;;)
		pause(); /* a child ends with vgpud */
}

bool kill_point_in_request(void)
{
	if (!reached())
		return false;
	if (fork() == 0) {
		usleep(LATE_US);
		return true;
	}
	kill(setting->vgpud, SIGKILL);
	for (;;)
		pause();
}
