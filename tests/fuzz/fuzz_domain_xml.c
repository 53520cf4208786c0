/* SPDX-License-Identifier: Apache-2.0 */

/* A domain's definition as anybody may hand it to vgpud: what is read of it keeps its promises. */

#include "host/domain_xml.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool ends(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

static bool kept(const struct domain_xml *domain)
{
	bool good = ends(domain->name, sizeof(domain->name)) && domain->name[0] &&
		    ends(domain->uuid, sizeof(domain->uuid)) &&
		    ends(domain->type, sizeof(domain->type)) && domain->memory_bytes &&
		    domain->memory_bytes <= INT64_MAX && domain->memory_bytes % 1024 == 0 &&
		    domain->current_bytes && domain->max_bytes >= domain->memory_bytes &&
		    domain->n_videos <= DOMAIN_VIDEOS_MAX &&
		    domain->n_hostdevs <= DOMAIN_HOSTDEVS_MAX;

	for (unsigned i = 0; good && i < domain->n_videos; i++)
		good = ends(domain->videos[i].model, sizeof(domain->videos[i].model)) &&
		       ends(domain->videos[i].driver, sizeof(domain->videos[i].driver));
	for (unsigned i = 0; good && i < domain->n_hostdevs; i++)
		good = ends(domain->hostdevs[i].address, sizeof(domain->hostdevs[i].address));
	return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct domain_xml domain;
	const char *why = NULL;
	char *text = malloc(size + 1); /* exactly as long: it need not end in NUL */

	if (!text)
		return 0;
	memcpy(text, data, size);
	int r = domain_xml_parse(text, size, &domain, &why);
	if (r == 0 ? !kept(&domain) : !why || r > 0)
		abort();
	(void)domain_xml_has_vhost_user_gpu(&domain);
	(void)domain_xml_hostdev(&domain, DOMAIN_HOSTDEV_MDEV);
	free(text);
	return 0;
}
