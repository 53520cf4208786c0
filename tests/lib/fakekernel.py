# SPDX-License-Identifier: Apache-2.0
"""A kernel for a constructed tree: reacts to what vgpud writes as Linux does to writes to sysfs.

vgpud sends requests for such a tree to its socket `kernel` instead of writing files (see
src/control/host_kernel.h), and waits for the answer. What is done here is what was seen on real
kernels (shared facts of the node bench), bit by bit: a driver is taken and found by its override,
VFIO files come and go with the group's first and last function, a request about a device that is
held waits until it is not.
"""
import errno
import os
import socket
import struct
import threading


class Refusal(Exception):
    pass


def refuse(code):
    raise Refusal(code)


class FakeKernel:
    def __init__(self, tree, natives, cdev=False):
        """natives: {address: driver that takes the function when any may}. cdev: each device of
        VFIO has a file of its own (CONFIG_VFIO_DEVICE_CDEV, from 6.6)."""
        self.tree, self.cdev = tree, cdev
        self.natives = dict(natives)
        self.requests = []   # (path, text) in order
        self.own = []        # folders of devices' own files, by their numbers
        self.held = set()    # addresses that somebody has open: unbinding them waits
        self.fails = {}      # {end of a path: errno}
        self.handlers = []   # (function(path) -> handler(path, text) or None), for other buses
        self.lock = threading.RLock()
        self.freed = threading.Condition(self.lock)
        self.path = tree.path("kernel")
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        folder = os.open(tree.root, os.O_PATH)
        self.server.bind("/proc/self/fd/%d/kernel" % folder)  # its own path may be too long
        os.close(folder)
        self.server.listen(32)
        self.closed = False
        threading.Thread(target=self.serve, daemon=True).start()

    def close(self):
        self.closed = True
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()

    def serve(self):
        while not self.closed:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(client,), daemon=True).start()

    def answer(self, client):
        with client:
            path, _, text = client.recv(4096).decode().partition("\0")
            path = os.path.relpath(path, self.tree.root)
            with self.lock:
                self.requests.append((path, text))
                code = self.request(path, text)
            try:
                client.send(b"%d" % -code)
            except OSError:
                pass  # whoever asked is gone

    # ---- what requests do ----

    def request(self, path, text):
        for end, code in self.fails.items():
            if path.endswith(end):
                return code
        try:
            self.handler(path)(path, text)
        except Refusal as refusal:
            return refusal.args[0]
        return 0

    def handler(self, path):
        for find in self.handlers:
            found = find(path)
            if found:
                return found
        parts = path.split("/")
        if path == "sys/bus/pci/drivers_probe":
            return self.drivers_probe
        if path.startswith("sys/bus/pci/devices/"):
            if not os.path.lexists(self.tree.path("/".join(parts[:5]))):
                refuse(errno.ENOENT)
            if parts[5:] == ["driver_override"]:
                return self.driver_override
            if parts[5:] == ["driver", "unbind"]:
                return self.unbind
            if parts[5:] == ["reset"]:
                return lambda path, text: None
            if parts[5:] in (["enable"], ["power", "control"]):
                return self.store
        return lambda path, text: refuse(errno.ENOENT)

    def store(self, path, text):
        self.tree.put(path, text)

    def driver_override(self, path, text):
        self.tree.put(path, text.strip() + "\n" if text.strip() else "(null)\n")

    def driver(self, address):
        try:
            return os.path.basename(os.readlink(self.tree.path(self.tree.BUS, address, "driver")))
        except FileNotFoundError:
            return None

    def group(self, address):
        try:
            return int(os.path.basename(
                os.readlink(self.tree.path(self.tree.BUS, address, "iommu_group"))))
        except FileNotFoundError:
            return None

    def unbind(self, path, text):
        address = path.split("/")[4]
        if not self.driver(address):
            refuse(errno.ENOENT)
        if text.strip() != address:
            refuse(errno.ENODEV)
        self.wait_for(address)
        self.tree.remove(self.tree.BUS + address + "/driver")
        self.vfio_files()

    def wait_for(self, address):
        while address in self.held and not self.closed:
            self.freed.wait(0.5)

    def release(self, address):
        with self.lock:
            self.held.discard(address)
            self.freed.notify_all()

    def drivers_probe(self, path, text):
        address = text.strip()
        if not os.path.lexists(self.tree.path("sys/bus/pci/devices", address)):
            refuse(errno.EINVAL)
        if self.driver(address):
            return
        with open(self.tree.path(self.tree.BUS, address, "driver_override")) as f:
            override = f.read().strip().replace("(null)", "")
        driver = override or self.natives.get(address)
        if driver and (driver != "vfio-pci" or self.group(address) is not None):
            self.tree.bind(address, driver)
        self.vfio_files()

    def vfio_files(self):
        """A VFIO file for each group that has a function on vfio-pci, root's; no others."""
        groups = {self.group(address) for address in os.listdir(self.tree.path(self.tree.BUS))
                  if self.driver(address) == "vfio-pci"}
        folder = self.tree.path("dev/vfio")
        os.makedirs(folder, exist_ok=True)
        there = {int(name) for name in os.listdir(folder) if name.isdigit()}
        for group in there - groups:
            os.unlink(os.path.join(folder, str(group)))
        for group in groups - there - {None}:
            os.close(os.open(os.path.join(folder, str(group)), os.O_CREAT | os.O_WRONLY, 0o600))
        for address in os.listdir(self.tree.path(self.tree.BUS)):
            self.own_file(self.tree.BUS + address, self.driver(address) == "vfio-pci")
        self.own_files_swept()

    def own_file(self, at, there):
        """vfio-dev/vfioN below that device, which every kernel from 6.1 has, and its file."""
        folder = self.tree.path("dev/vfio/devices")
        if not there or os.path.isdir(self.tree.path(at, "vfio-dev")):
            if not there and os.path.isdir(self.tree.path(at, "vfio-dev")):
                self.tree.remove(at + "/vfio-dev")
            return
        number = len(self.own)
        self.own.append(at + "/vfio-dev/vfio%d" % number)
        self.tree.put(self.own[-1] + "/uevent", "")
        if self.cdev:
            self.tree.put(self.own[-1] + "/dev", "511:%d\n" % number)
            os.makedirs(folder, exist_ok=True)
            os.close(os.open(os.path.join(folder, "vfio%d" % number), os.O_CREAT | os.O_WRONLY,
                             0o600))

    def own_files_swept(self):
        """Those of devices that are gone, or on another driver."""
        for number, at in enumerate(self.own):
            path = self.tree.path("dev/vfio/devices/vfio%d" % number)
            if not os.path.isdir(self.tree.path(at)) and os.path.exists(path):
                os.unlink(path)


def gpu_files(tree, address, bytes_of_memory=1 << 21, vendor=0x1234, device=0x1111):
    """What reset and scrub look at, of a GPU whose whole memory is in its window (QEMU's)."""
    at = tree.path(tree.BUS, address)
    base = 0xe0000000
    header = struct.pack("<HHHHBBBBBBBB", vendor, device, 2, 0, 0, 0, 0, 3, 0, 0, 0, 0)
    header += struct.pack("<IIIIII", base | 8, 0, 0, 0, 0, 0)
    with open(os.path.join(at, "config"), "wb") as f:
        f.write(header.ljust(256, b"\0"))
    with open(os.path.join(at, "resource0"), "wb") as f:
        f.truncate(bytes_of_memory)
    tree.put(tree.BUS + address + "/resource", "0x%016x 0x%016x 0x%016x\n" %
             (base, base + bytes_of_memory - 1, 0x42208))
    tree.put(tree.BUS + address + "/reset", "")
    tree.put(tree.BUS + address + "/enable", "1\n")
