#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The dependency rule of docs/architecture.md, checked on every #include.

LAYERS says which folders' headers a folder may include; its own are always allowed. LIBRARIES says
which folders may see a library at all. SEPARATE lists folders whose children are alternatives and
know nothing of each other. Tests may include anything. A folder that is in no table is an error:
whoever adds one says where it belongs.
"""

import argparse
import os
import re
import sys
import tempfile

# Folder below src/ (or "protocol"): what it may include beside itself and the C library.
LAYERS = {
    "base": set(),
    "protocol": {"base"},
    # the data plane: frontend -> device -> stream, renderer -> base
    "stream": {"base", "protocol"},
    "renderer": {"base", "protocol"},
    "display": {"base", "protocol"},
    "state": {"base", "protocol"},
    "device": {"base", "protocol", "stream", "renderer", "display", "state", "scheduler"},
    "frontend": {"base", "protocol", "device", "display", "renderer", "state"},
    "isolation": {"base"},
    # compiled shaders outside the driver: keepers store them, device processes use them
    "shaders": {"base", "protocol"},
    "process": {"base", "protocol", "device", "display", "renderer", "stream", "frontend",
                "isolation", "state", "shaders"},
    # the control plane: shares protocol/ and base/ with the data plane and nothing else
    "keeper": {"base", "protocol", "shaders"},
    # host: `doctor` answers without a vgpud; state: `inspect` reads files
    "cli": {"base", "protocol", "host", "state"},
    # a client of GPUs: knows nothing of vgpud
    "probe": set(),
    "host": {"base"},
    "scheduler": {"base"},
    "licensing": {"base"},
    "metrics": {"base", "protocol"},
    "control": {"base", "protocol", "host", "scheduler", "licensing", "metrics"},
}

# Start of an <include>: the folders that may name it.
LIBRARIES = {
    "virgl": {"renderer"},
    "epoxy/": {"renderer", "probe"},
    "EGL/": {"renderer", "probe"},
    "GL/": {"renderer"},
    "GLES": {"renderer"},
    "gbm.h": {"renderer"},
    "vulkan/": {"renderer"},
    "seccomp.h": {"isolation"},
    "cap-ng.h": {"isolation"},
    "sqlite3.h": {"control"},
    "microhttpd.h": {"control"},
    "libvirt/": {"control"},
    "curl/": {"cli"},
    "png.h": {"cli", "display", "control"},
    "systemd/": {"control"},
    "libudev.h": {"host"},
    "libxml/": {"host"},
    "ini.h": {"control"},
    "jansson.h": {"cli", "control", "host", "process", "licensing"},
    "sodium": {"licensing"},
    "zstd.h": {"state"},
    "xf86drm": {"host", "renderer"},
}

SEPARATE = {"frontend", "renderer"}

INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')


def folder_of(path):
    """("device", None) for src/device/x.c; ("frontend", "vtest") for src/frontend/vtest/x.c."""
    parts = path.split("/")
    if parts[0] == "protocol":
        return "protocol", None
    if parts[0] != "src" or len(parts) < 3:
        return None, None
    return parts[1], parts[2] if len(parts) > 3 else None


def check_quoted(layer, child, path, target):
    parts = target.split("/")
    if len(parts) == 1:
        return None  # beside the file itself
    other = parts[0]
    if other not in LAYERS:
        return f'"{target}": name headers from src/ or from the root, as "folder/file.h"'
    if other == layer:
        other_child = parts[1] if len(parts) > 2 else None
        if layer in SEPARATE and child and other_child and child != other_child:
            return f"{layer}/{child} may not know {layer}/{other_child}"
        return None
    if other not in LAYERS[layer]:
        allowed = ", ".join(sorted(LAYERS[layer])) or "nothing"
        return f"{layer} may not include {other} (only: {allowed})"
    return None


def check_library(layer, target):
    for prefix, allowed in LIBRARIES.items():
        if target.startswith(prefix) and layer not in allowed:
            return f"{layer} may not use <{target}> (only: {', '.join(sorted(allowed))})"
    return None


def check_file(root, path):
    layer, child = folder_of(path)
    if layer is None:
        return []
    if layer not in LAYERS:
        return [f"{path}: src/{layer} is not in the table of the dependency rule"]
    found = []
    with open(os.path.join(root, path), encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            quoted, angled = match.groups()
            fault = (check_quoted(layer, child, path, quoted) if quoted
                     else check_library(layer, angled))
            if fault:
                found.append(f"{path}:{number}: {fault}")
    return found


def sources(root):
    for top in ("src", "protocol"):
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if name.endswith((".c", ".h", ".def")):
                    yield os.path.relpath(os.path.join(folder, name), root)


def check_tree(root):
    return [fault for path in sources(root) for fault in check_file(root, path)]


SAMPLES = {
    # path: (text, is it a violation?)
    "src/base/a.c": ('#include "base/log.h"\n#include <stdio.h>\n', False),
    "src/base/b.c": ('#include "device/device.h"\n', True),
    "src/stream/a.c": ('#include "renderer/interface.h"\n', True),
    "src/device/a.c": ('#include "stream/stream.h"\n#  include "display/display.h"\n', False),
    "src/device/b.c": ('#include "frontend/vtest/vtest.h"\n', True),
    "src/frontend/vtest/a.c": ('#include "device/device.h"\n#include "internal.h"\n', False),
    "src/frontend/vtest/b.c": ('#include "frontend/vhost_user/vhost_user.h"\n', True),
    "src/control/a.c": ('#include "device/device.h"\n', True),
    "src/keeper/a.c": ('#include "protocol/keeper.h"\n', False),
    "src/keeper/b.c": ('#include "../control/secret.h"\n', True),
    "src/cli/a.c": ('#include <sqlite3.h>\n', True),
    "src/device/c.c": ('#include <virglrenderer.h>\n', True),
    "src/surprise/a.c": ("", True),
    "protocol/a.h": ('#include "base/packet.h"\n', False),
    "protocol/b.h": ('#include "device/device.h"\n', True),
}


def self_test():
    with tempfile.TemporaryDirectory() as root:
        for path, (text, _) in SAMPLES.items():
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as file:
                file.write(text)
        wrong = [path for path, (_, violation) in SAMPLES.items()
                 if bool(check_file(root, path)) != violation]
        if len(check_tree(root)) != sum(violation for _, violation in SAMPLES.values()):
            wrong.append("the whole tree")
    return [f"layering self-test: wrong about {path}" for path in wrong]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("root", nargs="?", default=".")
    arguments = parser.parse_args()
    faults = self_test() if arguments.self_test else check_tree(arguments.root)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
