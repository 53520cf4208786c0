/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/libvirt_session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void session_begin(struct session *s, struct cli *cli, const char *connect,
	const struct cli_words *words, const char *verb)
{
	*s = (struct session){.cli = cli,
		.domain = words->word[0],
		.name = words->count > 1 ? words->word[1] : NULL};
	snprintf(s->what, sizeof(s->what), "libvirt %s %.90s", verb, s->domain);
	s->virsh = (struct virsh){.connect = connect, .what = s->what};
}

int session_read(struct session *s, bool secrets, struct error *err)
{
	int r = virsh_domain_state(&s->virsh, s->domain, &s->state, err);

	if (r < 0)
		return r;
	if (!s->state.persistent)
		return error_set(err, ENOTSUP,
			"%s: the domain is transient: libvirt keeps no definition of it (`virsh "
			"define` it)",
			s->what);
	return virsh_definition(&s->virsh, s->domain, secrets, &s->xml, err);
}

void session_finish(struct session *s)
{
	free(s->xml);
	libvirt_vgpus_finish(&s->vgpus);
}

/* --- what is worth knowing --- */

static bool is_session(const struct session *s)
{
	return s->virsh.connect ? strstr(s->virsh.connect, ":///session") != NULL : geteuid() != 0;
}

/* Is that libvirt on this node, where its folders can be looked at? */
static bool is_local(const struct session *s)
{
	const char *at = s->virsh.connect ? strstr(s->virsh.connect, "://") : NULL;

	return !at || at[3] == '/';
}

static void note_state(struct session *s, const struct domain_vgpu *vgpu)
{
	if (s->state.running)
		domain_find(&s->findings, false, NULL,
			"it runs: what is here is so from its next start on");
	if (s->state.saved)
		domain_find(&s->findings, true, "virsh managedsave-remove it, or start and stop it",
			"it has a saved image, which would start it as it was before");
	domain_find(&s->findings, false, NULL, "%s",
		vgpu->device == DOMAIN_VIDEO
			? "QEMU refuses to save or migrate it (\"virgl is not yet migratable\"): "
			  "virsh save, managedsave and migrate fail while it runs"
			: "a host device is not saved or migrated with it: virsh save, managedsave "
			  "and migrate fail while it runs");
}

static void note_holder(struct session *s, const struct domain_vgpu *vgpu)
{
	const json_t *json = libvirt_vgpus_json(&s->vgpus, vgpu->name);
	const char *state = json_string_value(json_object_get(json, "state"));
	const char *holder = json_string_value(json_object_get(json, "bound_to"));

	if (state && !strcmp(state, "failed"))
		domain_find(&s->findings, true, "see `vgpuctl show`", "the vGPU %s is failed",
			vgpu->name);
	if (holder && !strstr(holder, s->domain))
		domain_find(&s->findings, true, "end that before it starts",
			"the vGPU %s is held by %.150s", vgpu->name, holder);
}

void session_note(struct session *s, const struct domain_vgpu *vgpu)
{
	if (vgpu->device == DOMAIN_VIDEO && is_local(s))
		libvirt_backend_check("", is_session(s), &s->findings);
	note_holder(s, vgpu);
	note_state(s, vgpu);
}

/* --- rule 1: another domain --- */

/* Calls for each line of `list` that is another domain; a domain that goes meanwhile has none. */
static int find_other(struct session *s, const struct domain_vgpu *vgpu, const char *list,
	struct session_other *ret)
{
	char name[DOMAIN_LABEL_MAX];
	struct error ignored;
	unsigned n = 0;

	*ret = (struct session_other){0};
	for (; *list && !ret->name[0]; list += strcspn(list, "\n"), list += *list == '\n') {
		char *xml = NULL;
		size_t len = strcspn(list, "\n");
		if (!len || len >= sizeof(name))
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)len, list);
		if (!strcmp(name, s->domain))
			continue;
		ret->more = n++ == LIBVIRT_DOMAINS_MAX;
		if (ret->more)
			break;
		if (virsh_definition(&s->virsh, name, false, &xml, &ignored) == 0 &&
			domain_has_device(xml, strlen(xml), vgpu))
			snprintf(ret->name, sizeof(ret->name), "%s", name);
		free(xml);
	}
	return 0;
}

int session_other_domain(struct session *s, const struct domain_vgpu *vgpu,
	struct session_other *ret, struct error *err)
{
	static const char *const words[] = {"list", "--all", "--name", NULL};
	char *list = NULL;

	int r = virsh_run(&s->virsh, words, &list, err);
	if (r == 0)
		r = find_other(s, vgpu, list, ret);
	free(list);
	return r;
}

/* --- what is said --- */

void session_print_findings(const struct domain_findings *findings, bool marks)
{
	for (size_t i = 0; i < findings->count; i++) {
		const struct domain_finding *f = &findings->list[i];
		printf("%-9s%s\n", marks && f->missing ? "missing" : "", f->text);
		if (f->remedy[0])
			printf("%9s-> %s\n", "", f->remedy);
	}
}

static json_t *findings_json(const struct domain_findings *findings)
{
	json_t *list = json_array();

	for (size_t i = 0; i < findings->count; i++) {
		const struct domain_finding *f = &findings->list[i];
		json_array_append_new(
			list, json_pack("{s:b, s:s%, s:s?}", "missing", f->missing, "text", f->text,
				      strlen(f->text), "remedy", f->remedy[0] ? f->remedy : NULL));
	}
	return list;
}

unsigned session_missing(const struct domain_findings *findings)
{
	unsigned n = 0;

	for (size_t i = 0; i < findings->count; i++)
		n += findings->list[i].missing;
	return n;
}

void session_print_json(const struct session *s, json_t *more)
{
	json_t *json = json_pack("{s:s, s:s?, s:o}", "domain", s->domain, "vgpu", s->name,
		"findings", findings_json(&s->findings));

	json_object_update(json, more);
	json_decref(more);
	cli_print_json(json);
	json_decref(json);
}

/* What was changed, and what is worth knowing. */
int session_report(const struct session *s, const struct domain_edit *edit, const char *done)
{
	if (s->cli->json) {
		session_print_json(s, json_pack("{s:b, s:o}", "changed", edit->changed, "changes",
					      findings_json(&edit->said)));
		return CLI_OK;
	}
	printf("%s: %s\n", s->domain, done);
	session_print_findings(&edit->said, false);
	session_print_findings(&s->findings, false);
	return CLI_OK;
}
