/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `libvirt attach|detach|check`: the definition that libvirt keeps of a domain, and a vGPU. What
 * has to be in it, host/domain_edit.h knows; vgpud is asked what the vGPU is, virsh for the
 * definition. A domain that runs is left as it runs: libvirt takes the definition at its next
 * start.
 */
#include "cli/libvirt.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One call of a verb. */
struct session {
	struct cli *cli;
	struct virsh virsh;
	const char *domain, *name; /* name NULL: not told */
	char what[200];
	char *xml;
	struct virsh_state state;
	struct libvirt_vgpus vgpus;
	struct domain_findings findings;
};

static void session_finish(struct session *s)
{
	free(s->xml);
	libvirt_vgpus_finish(&s->vgpus);
}

static void session_begin(struct session *s, struct cli *cli, const char *connect,
	const struct cli_words *words, const char *verb)
{
	*s = (struct session){.cli = cli,
		.domain = words->word[0],
		.name = words->count > 1 ? words->word[1] : NULL};
	snprintf(s->what, sizeof(s->what), "libvirt %s %.90s", verb, s->domain);
	s->virsh = (struct virsh){.connect = connect, .what = s->what};
}

/* The definition, and what libvirt makes of the domain now. */
static int session_read(struct session *s, bool secrets, struct error *err)
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

/* --- rule 1: another domain --- */

struct other {
	char name[DOMAIN_LABEL_MAX]; /* "": there is none */
	bool more;                   /* there are more domains than are looked at */
};

/* Calls for each line of `list` that is another domain; a domain that goes meanwhile has none. */
static int find_other(
	struct session *s, const struct domain_vgpu *vgpu, const char *list, struct other *ret)
{
	char name[DOMAIN_LABEL_MAX];
	struct error ignored;
	unsigned n = 0;

	*ret = (struct other){0};
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

static int other_domain(
	struct session *s, const struct domain_vgpu *vgpu, struct other *ret, struct error *err)
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

static void print_findings(const struct domain_findings *findings, bool marks)
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

static unsigned missing(const struct domain_findings *findings)
{
	unsigned n = 0;

	for (size_t i = 0; i < findings->count; i++)
		n += findings->list[i].missing;
	return n;
}

static void print_json(const struct session *s, json_t *more)
{
	json_t *json = json_pack("{s:s, s:s?, s:o}", "domain", s->domain, "vgpu", s->name,
		"findings", findings_json(&s->findings));

	json_object_update(json, more);
	json_decref(more);
	cli_print_json(json);
	json_decref(json);
}

/* What was changed, and what is worth knowing. */
static int report(const struct session *s, const struct domain_edit *edit, const char *done)
{
	if (s->cli->json) {
		print_json(s, json_pack("{s:b, s:o}", "changed", edit->changed, "changes",
				      findings_json(&edit->said)));
		return CLI_OK;
	}
	printf("%s: %s\n", s->domain, done);
	print_findings(&edit->said, false);
	print_findings(&s->findings, false);
	return CLI_OK;
}

/* --- attach --- */

static int attach(
	struct session *s, bool keep_video, bool print, struct domain_edit *edit, struct error *err)
{
	struct other other = {0};

	int r = libvirt_vgpus_get(s->cli, s->what, &s->vgpus, err);
	if (r < 0)
		return r;
	const struct domain_vgpu *vgpu = libvirt_vgpus_find(&s->vgpus, s->name);
	if (!vgpu)
		return error_set(err, ENOENT,
			"%s: there is no vGPU %.64s that a machine can have (see `vgpuctl list`)",
			s->what, s->name);
	r = session_read(s, !print, err);
	if (r == 0)
		r = other_domain(s, vgpu, &other, err);
	if (r == 0 && other.name[0])
		r = error_set(err, EBUSY,
			"%s: the domain %.100s has the vGPU %s already, and a vGPU has at most one "
			"VM (rule 1) (vgpuctl libvirt detach it there)",
			s->what, other.name, s->name);
	if (r == 0)
		r = domain_attach(s->xml, strlen(s->xml), vgpu, s->vgpus.list, s->vgpus.count,
			keep_video, s->what, edit, err);
	if (r == 0 && edit->changed && !print)
		r = virsh_define(&s->virsh, edit->xml, err);
	if (r < 0)
		return r;
	if (other.more)
		domain_find(&s->findings, false, NULL,
			"there are more than %u domains: not all were searched for this vGPU",
			LIBVIRT_DOMAINS_MAX);
	note_state(s, vgpu);
	note_holder(s, vgpu);
	if (vgpu->device == DOMAIN_VIDEO && is_local(s))
		libvirt_backend_check("", is_session(s), &s->findings);
	return 0;
}

static int libvirt_attach(struct cli *cli, int argc, char **argv)
{
	const char *connect = NULL;
	bool print = false, keep_video = false;
	const struct cli_option options[] = {{"connect", &connect, NULL}, {"print", NULL, &print},
		{"keep-video", NULL, &keep_video}, {0}};
	struct domain_edit edit = {0};
	struct cli_words words;
	struct session s;
	struct error err;

	int r = cli_parse(cli, argc, argv, options, 2, 2, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	session_begin(&s, cli, connect, &words, "attach");
	if (attach(&s, keep_video, print, &edit, &err) < 0)
		r = cli_fail(&err);
	else if (print)
		r = fputs(edit.xml, stdout) < 0;
	else
		r = report(&s, &edit,
			edit.changed ? "its definition is changed" : "it has it already");
	domain_edit_finish(&edit);
	session_finish(&s);
	return r;
}

/* --- detach --- */

static int libvirt_detach(struct cli *cli, int argc, char **argv)
{
	const char *connect = NULL;
	bool print = false;
	const struct cli_option options[] = {
		{"connect", &connect, NULL}, {"print", NULL, &print}, {0}};
	struct domain_edit edit = {0};
	struct cli_words words;
	struct session s;
	struct error err;

	int r = cli_parse(cli, argc, argv, options, 2, 2, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	session_begin(&s, cli, connect, &words, "detach");
	r = session_read(&s, !print, &err);
	if (r == 0)
		r = domain_detach(s.xml, strlen(s.xml), s.name, s.what, &edit, &err);
	if (r == 0 && !print)
		r = virsh_define(&s.virsh, edit.xml, &err);
	if (r == 0 && s.state.running)
		domain_find(
			&s.findings, false, NULL, "it runs, and has the vGPU until it is shut off");
	if (r < 0)
		r = cli_fail(&err);
	else if (print)
		r = fputs(edit.xml, stdout) < 0;
	else
		r = report(&s, &edit, "its definition is changed");
	domain_edit_finish(&edit);
	session_finish(&s);
	return r;
}

/* --- check --- */

/* The vGPU that the definition names; NULL: none. *ret has room for a name. */
static const char *name_of(struct session *s, const struct domain_seen *seen, char *ret)
{
	if (seen->n_names) {
		memcpy(ret, seen->names[0], sizeof(seen->names[0]));
		return ret;
	}
	if (seen->unnamed && domain_alias_by_domain(seen->domain, ret))
		return ret;
	for (size_t i = 0; i < s->vgpus.count; i++) {
		if (s->vgpus.list[i].device != DOMAIN_VIDEO &&
			domain_has_device(s->xml, strlen(s->xml), &s->vgpus.list[i])) {
			memcpy(ret, s->vgpus.list[i].name, sizeof(s->vgpus.list[i].name));
			return ret;
		}
	}
	return NULL;
}

static int check_vgpu(struct session *s, const struct domain_vgpu *vgpu, struct error *err)
{
	struct other other = {0};

	int r = domain_check(s->xml, strlen(s->xml), vgpu, s->what, &s->findings, err);
	if (r == 0)
		r = other_domain(s, vgpu, &other, err);
	if (r < 0)
		return r;
	if (other.name[0])
		domain_find(&s->findings, true, "vgpuctl libvirt detach one of them",
			"the domain %.100s has the vGPU %s too (rule 1)", other.name, vgpu->name);
	if (vgpu->device == DOMAIN_VIDEO && is_local(s))
		libvirt_backend_check("", is_session(s), &s->findings);
	note_holder(s, vgpu);
	note_state(s, vgpu);
	return 0;
}

static int check(struct session *s, char *name, struct error *err)
{
	struct domain_seen seen = {0};

	int r = session_read(s, false, err);
	if (r == 0)
		r = domain_look(s->xml, strlen(s->xml), s->what, &seen, err);
	if (r == 0)
		r = libvirt_vgpus_get(s->cli, s->what, &s->vgpus, err);
	if (r < 0)
		return r;
	s->name = name_of(s, &seen, name);
	const struct domain_vgpu *vgpu = s->name ? libvirt_vgpus_find(&s->vgpus, s->name) : NULL;
	if (vgpu)
		return check_vgpu(s, vgpu, err);
	if (s->name)
		domain_find(&s->findings, true, "vgpuctl create it, or vgpuctl libvirt detach it",
			"its vGPU %s is not there", s->name);
	else
		domain_find(&s->findings, true, "vgpuctl libvirt attach one", "it has no vGPU");
	return 0;
}

static int libvirt_check(struct cli *cli, int argc, char **argv)
{
	const char *connect = NULL;
	const struct cli_option options[] = {{"connect", &connect, NULL}, {0}};
	char name[DOMAIN_ALIAS_NAME_MAX];
	struct cli_words words;
	struct session s;
	struct error err;

	int r = cli_parse(cli, argc, argv, options, 1, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	session_begin(&s, cli, connect, &words, "check");
	r = check(&s, name, &err);
	unsigned n = missing(&s.findings);
	if (r == 0 && cli->json) {
		print_json(&s, json_pack("{s:i}", "missing", (int)n));
	} else if (r == 0) {
		printf("%s: %s%s\n", s.domain, s.name ? "its vGPU is " : "no vGPU",
			s.name ? s.name : "");
		print_findings(&s.findings, true);
	}
	if (r == 0 && n)
		r = error_set(&err, ENOENT, "%s: %u %s missing or wrong (do what is said above)",
			s.what, n, n == 1 ? "thing is" : "things are");
	session_finish(&s);
	return r < 0 ? cli_fail(&err) : CLI_OK;
}

/* --- the verbs --- */

#define CONNECT "--connect URI  of libvirt; if it is not given, what virsh takes\n"

const struct verb verb_libvirt_attach = {.name = "libvirt attach",
	.args = "DOMAIN NAME [--connect URI] [--print] [--keep-video]",
	.summary = "Gives a libvirt domain the vGPU",
	.details = "Writes into the definition that libvirt keeps: the device, shared or locked "
		   "memory where the\nvGPU needs it, and what was there before, so that detach "
		   "gives it back. It counts from the\ndomain's next start on. Needs "
		   "virsh.\n\n" CONNECT
		   "--print        prints the new definition (without passwords), changes "
		   "nothing\n"
		   "--keep-video   beside the domain's video devices, as a second screen; else "
		   "in their place\n",
	.run = libvirt_attach};

const struct verb verb_libvirt_detach = {.name = "libvirt detach",
	.args = "DOMAIN NAME [--connect URI] [--print]",
	.summary = "Takes the vGPU out of a libvirt domain",
	.details =
		"Only what attach wrote; what else needs shared memory keeps it. It counts from "
		"the "
		"domain's\nnext start on. vgpud need not run.\n\n" CONNECT
		"--print        prints the new definition (without passwords), changes nothing\n",
	.run = libvirt_detach};

const struct verb verb_libvirt_check = {.name = "libvirt check",
	.args = "DOMAIN [--connect URI]",
	.summary = "What a libvirt domain lacks for its vGPU",
	.details = "Status 1 when something is missing; behind -> what to do.\n\n" CONNECT,
	.run = libvirt_check};
