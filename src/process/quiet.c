/* SPDX-License-Identifier: Apache-2.0 */
#include "process/quiet.h"

#include "process/channel.h"

#include "base/checked.h"

#include "protocol/keeper.h"

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

/* Whole pages of one segment. It was never written to: not by us, and not by the loader. */
static void segment_give_back(const struct dl_phdr_info *object, const ElfW(Phdr) * segment)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t from = object->dlpi_addr + segment->p_vaddr;
	uintptr_t to = (from + segment->p_filesz) & ~(page - 1);

	from = (from + page - 1) & ~(page - 1);
	/* What cannot be given back is kept, and nothing else comes of it. */
	if (from < to)
		madvise((void *)from, to - from, MADV_DONTNEED);
}

/* Did the loader write into its code? */
static bool object_has_text_relocations(const struct dl_phdr_info *object)
{
	for (ElfW(Half) i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
		if (segment->p_type != PT_DYNAMIC)
			continue;
		const ElfW(Dyn) *entry = (const void *)(object->dlpi_addr + segment->p_vaddr);
		for (; entry->d_tag != DT_NULL; entry++) {
			if (entry->d_tag == DT_TEXTREL ||
				(entry->d_tag == DT_FLAGS && entry->d_un.d_val & DF_TEXTREL))
				return true;
		}
	}
	return false;
}

static int object_give_back(struct dl_phdr_info *object, size_t size, void *data)
{
	if (object_has_text_relocations(object))
		return 0;
	for (ElfW(Half) i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
		if (segment->p_type == PT_LOAD && (segment->p_flags & (PF_X | PF_W)) == PF_X)
			segment_give_back(object, segment);
	}
	return 0;
}

static void quiet_give_back(void)
{
	malloc_trim(0);
	dl_iterate_phdr(object_give_back, NULL);
}

static void quiet_end(void *data)
{
	channel_send((int)(intptr_t)data, KEEPER_DEVICE_AWAKE, NULL, -1);
}

void quiet_begin(struct loop *loop, int channel_fd)
{
	quiet_give_back();
	channel_send(channel_fd, KEEPER_DEVICE_RESTING, NULL, -1);
	loop_set_woken(loop, quiet_end, (void *)(intptr_t)channel_fd);
}
