/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_REPORT_H
#define VGPU_HOST_REPORT_H

/* What is known of a GPU (host/facts.h, host/methods.h) as JSON. Fields are added, never renamed.
 */

#include "host/facts.h"

#include <jansson.h>

/* X(name, type, meaning): beside those of a GPU in a list */
#define REPORT_GPU_FIELDS(X)                                                                       \
	X(methods, "array of method", "emulate, forward, mediate and passthrough")                 \
	X(pci, "pci or null", "null: it is no PCI function")                                       \
	X(iommu, "iommu or null", "its group and the node's IOMMU; null: no PCI function")         \
	X(sriov, "sriov or null", "null: it has no SR-IOV")                                        \
	X(mdev, "mdev or null", "null: it offers no mediated devices")                             \
	X(vendor, "vendor or null", "an interface of its vendor's, for vGPUs")                     \
	X(device_nodes, "array of strings", "its device files")                                    \
	X(console, "string or null", "the frame buffer on which the text console is")              \
	X(screens, "number", "that are plugged in")                                                \
	X(holders, "array of {pid, comm, file}", "processes that have a device file open")         \
	X(holders_complete, "boolean", "false: vgpud could not look at every process")             \
	X(unreadable, "array of {file, why, remedy}", "what could not be read")

#define REPORT_METHOD_FIELDS(X)                                                                    \
	X(method, "string", "")                                                                    \
	X(possible, "boolean", "whether this GPU on this node could be used so")                   \
	X(offered, "boolean", "whether this vgpud can do it")                                      \
	X(findings, "array of {condition, forbids, text, remedy}",                                 \
		"why not (forbids), and what is worth knowing; remedy: string or null")

#define REPORT_PCI_FIELDS(X)                                                                       \
	X(address, "string", "")                                                                   \
	X(vendor_id, "string", "as 0x10de")                                                        \
	X(device_id, "string", "")                                                                 \
	X(subsystem_vendor_id, "string", "")                                                       \
	X(subsystem_device_id, "string", "")                                                       \
	X(vendor, "string or null", "by name")                                                     \
	X(class, "string", "as 0x030000")                                                          \
	X(class_name, "string", "")                                                                \
	X(revision, "number", "")                                                                  \
	X(driver, "string or null", "")                                                            \
	X(driver_override, "string or null", "the only driver it may get")                         \
	X(boot_vga, "boolean", "the firmware's screen was on it")                                  \
	X(bars, "array of {index, size_bytes, prefetchable, io}", "")                              \
	X(vram_window_bytes, "number", "largest prefetchable BAR")                                 \
	X(can_reset, "boolean", "")                                                                \
	X(reset_methods, "array of strings", "in the kernel's order; empty: not told")             \
	X(power_state, "string or null", "")                                                       \
	X(runtime_status, "string or null", "")                                                    \
	X(numa_node, "number or null", "")                                                         \
	X(physfn, "string or null", "parent of a virtual function")

#define REPORT_IOMMU_FIELDS(X)                                                                     \
	X(active, "boolean", "the node has IOMMU groups")                                          \
	X(firmware, "boolean", "the firmware describes an IOMMU")                                  \
	X(disabled_by, "string or null", "word of the kernel's command line")                      \
	X(interrupt_remapping, "boolean or null", "null: not told")                                \
	X(unsafe_interrupts, "boolean", "VFIO was told to do without remapping")                   \
	X(group, "number or null", "null: it is in none")                                          \
	X(group_type, "string or null", "")                                                        \
	X(viable, "boolean", "VFIO would open the group as it is now")                             \
	X(members, "array of {address, driver, class_name, role}",                                 \
		"role: self, companion, bridge, free, vfio or foreign")

#define REPORT_SRIOV_FIELDS(X)                                                                     \
	X(total_vfs, "number", "most that it can show")                                            \
	X(num_vfs, "number", "enabled")                                                            \
	X(drivers_autoprobe, "boolean", "a new VF gets the host's driver at once")                 \
	X(vfs, "array of {number, address, driver, vgpu_type}",                                    \
		"vgpu_type: the vendor's, number or null")

#define REPORT_MDEV_FIELDS(X)                                                                      \
	X(types, "array of {id, name, description, device_api, available_instances}",              \
		"available_instances: number or null")                                             \
	X(devices, "array of {uuid, type, parent}", "that exist, whoever made them")

#define REPORT_VENDOR_FIELDS(X)                                                                    \
	X(interface, "string", "nvidia or xe")                                                     \
	X(types, "array of {id, name, creatable_vfs}", "nvidia: on how many VFs it can be made")   \
	X(vfs_in_use, "number", "nvidia: VFs that have a type")                                    \
	X(profiles,                                                                                \
		"array of {function, address, exec_quantum_ms, preempt_timeout_us, "               \
		"sched_priority, vram_quota_bytes}",                                               \
		"xe: of the PF and each VF")

/* An object of REPORT_GPU_FIELDS; NULL: out of memory. */
json_t *host_report(const struct host_facts *facts);

#endif
