/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CLI_CLIENT_PRIVATE_H
#define VGPU_CLI_CLIENT_PRIVATE_H

/* What calls and streams share of the way to vgpud. */

#include "cli/cli.h"

#include <curl/curl.h>

void client_prepare(const struct cli *cli, CURL *curl, const char *path);
/* There was no answer: -errno and why. */
int client_failed(const struct cli *cli, CURL *curl, CURLcode code, struct error *err);
/* The answer was a refusal, of that status. */
int client_refused(const json_t *reply, long status, struct error *err);

#endif
