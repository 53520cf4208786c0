/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/formats_file.h"

#include "base/checked.h"

#include <elf.h>
#include <epoxy/gl.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

_Static_assert(FORMATS_FOUND_COUNT <= 16 && FORMATS_KINDS % 2 == 0, "4 bits a kind");

#define FNV_START 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

static uint64_t fnv(uint64_t hash, const void *bytes, size_t size)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ at[i]) * FNV_PRIME;
	return hash;
}

static uint64_t fnv_text(uint64_t hash, const char *text)
{
	return text ? fnv(hash, text, strlen(text) + 1) : fnv(hash, "", 1);
}

/* ---- the key ---- */

static size_t note_padded(uint32_t size)
{
	return ((size_t)size + 3) & ~(size_t)3;
}

/* 0: the object says no build. */
static uint64_t build_of(const uint8_t *notes, size_t size)
{
	size_t at = 0;

	while (at + sizeof(ElfW(Nhdr)) <= size) {
		ElfW(Nhdr) note;
		memcpy(&note, notes + at, sizeof(note));
		size_t name = at + sizeof(note), desc = name + note_padded(note.n_namesz);
		if (desc + note.n_descsz > size)
			break;
		if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof(ELF_NOTE_GNU) &&
			!memcmp(notes + name, ELF_NOTE_GNU, sizeof(ELF_NOTE_GNU)))
			return fnv(FNV_START, notes + desc, note.n_descsz);
		at = desc + note_padded(note.n_descsz);
	}
	return 0;
}

/* The sum of all, so that the order in which they were loaded is no matter. */
static int add_object(struct dl_phdr_info *object, size_t size, void *data)
{
	uint64_t *sum = data, build = 0;

	for (unsigned i = 0; !build && i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &object->dlpi_phdr[i];
		/* What the loader mapped, and so the process' own. */
		const uint8_t *at = (const uint8_t *)(uintptr_t)object->dlpi_addr + header->p_vaddr;
		if (header->p_type == PT_NOTE)
			build = build_of(at, header->p_memsz);
	}
	*sum += build ? build : fnv_text(FNV_START, object->dlpi_name);
	return 0;
}

/* Family, model and what it can do, but not which of its cores this is. */
static uint64_t fnv_processor(uint64_t hash)
{
#if defined(__x86_64__) || defined(__i386__)
	const unsigned apic_id = 1; /* the word of leaf 1 that has it */
	unsigned words[4] = {0};

	if (__get_cpuid(1, &words[0], &words[1], &words[2], &words[3])) {
		words[apic_id] = 0;
		hash = fnv(hash, words, sizeof(words));
	}
	if (__get_cpuid_count(7, 0, &words[0], &words[1], &words[2], &words[3]))
		hash = fnv(hash, words, sizeof(words));
#endif
	return hash;
}

uint64_t formats_file_key(void)
{
	static const GLenum names[] = {
		GL_VENDOR, GL_RENDERER, GL_VERSION, GL_SHADING_LANGUAGE_VERSION};
	uint64_t hash = FNV_START, objects = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		hash = fnv_text(hash, (const char *)glGetString(names[i]));
	dl_iterate_phdr(add_object, &objects);
	hash = fnv(hash, &objects, sizeof(objects));
	return fnv_processor(hash);
}

/* ---- the file ---- */

void formats_file_write(
	struct formats_file *ret, uint64_t key, const uint8_t found[FORMATS_COUNT][FORMATS_KINDS])
{
	*ret = (struct formats_file){
		.magic = FORMATS_MAGIC, .version = FORMATS_VERSION, .key = key};
	for (unsigned format = 0; format < FORMATS_COUNT; format++) {
		for (unsigned kind = 0; kind < FORMATS_KINDS; kind++)
			ret->found[format][kind / 2] |=
				(uint8_t)(found[format][kind] << kind % 2 * 4);
	}
	ret->sum = fnv(FNV_START, ret->found, sizeof(ret->found));
}

static unsigned file_found(const struct formats_file *file, unsigned format, unsigned kind)
{
	return file->found[format][kind / 2] >> kind % 2 * 4 & 0xf;
}

static bool file_is_whole(const struct formats_file *file)
{
	if (file->sum != fnv(FNV_START, file->found, sizeof(file->found)))
		return false;
	for (unsigned i = 0; i < FORMATS_COUNT * FORMATS_KINDS; i++) {
		if (file_found(file, i / FORMATS_KINDS, i % FORMATS_KINDS) >= FORMATS_FOUND_COUNT)
			return false;
	}
	return true;
}

int formats_file_read(
	const void *bytes, size_t size, uint64_t key, uint8_t ret[FORMATS_COUNT][FORMATS_KINDS])
{
	struct formats_file file;

	if (size < sizeof(file.magic) + sizeof(file.version))
		return -EBADMSG;
	memcpy(&file, bytes, MIN(size, sizeof(file)));
	if (file.magic != FORMATS_MAGIC)
		return -EBADMSG;
	if (file.version != FORMATS_VERSION)
		return -ESTALE;
	if (size != sizeof(file) || !file_is_whole(&file))
		return -EBADMSG;
	if (file.key != key)
		return -ESTALE;
	for (unsigned i = 0; i < FORMATS_COUNT * FORMATS_KINDS; i++)
		ret[i / FORMATS_KINDS][i % FORMATS_KINDS] =
			(uint8_t)file_found(&file, i / FORMATS_KINDS, i % FORMATS_KINDS);
	return 0;
}
