# SPDX-License-Identifier: Apache-2.0
"""Runs inside the node: direct_kill.py METHOD GPU OPERATION STRIDE [FUNCTION...]

Kills vgpud at each STRIDE-th point of an operation on a GPU (METHODS and OPERATIONS name what) and
has the next one go on; after each, what is listed, what is stored and what the kernel shows must
agree. Prints one line of JSON, and before it, one a point, that a sweep goes on."""
import json
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import time

RUN, STATE = "/mnt/r", "/mnt/s"
TRANSIENT = ("creating", "starting", "stopping", "deleting", "scrubbing")
OWNER = 1234
MOST = 400  # points of one operation; it has fewer
SECRET = "what-A-drew"
MDEV = "/sys/bus/mdev/devices"


class Gone(Exception):
    """vgpud is."""


def ask(method, path, body=None):
    text = json.dumps(body) if body is not None else ""
    request = "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n" \
        "Content-Length: %d\r\n\r\n%s" % (method, path, len(text), text)
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(RUN + "/vgpud.sock")
            client.sendall(request.encode())
            while True:
                part = client.recv(65536)
                if not part:
                    break
                answer += part
    except OSError:
        raise Gone() from None
    head, _, payload = answer.partition(b"\r\n\r\n")
    try:
        return int(head.split()[1]), json.loads(payload)
    except (IndexError, ValueError):
        raise Gone() from None  # in the middle of a word


def start(kill_at=None):
    environment = dict(os.environ)
    if kill_at:
        environment["VGPUD_KILL_AT"] = str(kill_at)
    process = subprocess.Popen(["vgpud", "--config", "/mnt/conf", "--run-dir", RUN, "--state-dir", STATE],
                               env=environment, stderr=open("/mnt/log", "a"))
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            ask("GET", "/v1/vgpus")
            return process
        except Gone:
            if process.poll() is not None:
                raise
            time.sleep(0.02)
    raise AssertionError("vgpud does not start")


def stop(process):
    process.kill()
    process.wait()


def files():
    """Who may use which group."""
    found = {}
    for name in sorted(os.listdir("/dev/vfio")):
        if name.isdigit():
            file = os.stat("/dev/vfio/" + name)
            found[name] = [file.st_uid, stat.S_IMODE(file.st_mode)]
    return found


def stored():
    db = sqlite3.connect("file:%s/vgpud.db?mode=ro" % STATE, uri=True)
    try:
        left = db.execute("SELECT name, left_by FROM gpus WHERE left_by != ''").fetchall()
        return [r[0] for r in db.execute("SELECT name FROM vgpus")], left
    finally:
        db.close()


def until(condition, what):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        said = condition()
        if said is not None:
            return said
        time.sleep(0.05)
    raise AssertionError(what)


def settled():
    def listed():
        found = ask("GET", "/v1/vgpus")[1]
        return None if any(v["state"] in TRANSIENT for v in found) else found
    return until(listed, "it does not settle")


def in_state(state):
    until(lambda: True if ask("GET", "/v1/vgpus/a")[1]["state"] == state else None,
          "it does not become " + state)


class Passthrough:
    """The GPU's functions go to vfio-pci and back."""

    def __init__(self, gpu, functions):
        self.functions = functions
        self.body = {"gpu": gpu, "method": "passthrough"}

    def offered(self):
        """At once."""

    def shows(self):
        found = {}
        for address in self.functions:
            at = "/sys/bus/pci/devices/" + address
            driver = os.path.basename(os.readlink(at + "/driver")) if os.path.islink(at + "/driver") else ""
            with open(at + "/driver_override") as f:
                found[address] = [driver, f.read().strip().replace("(null)", "")]
        return found, files()

    def right(self, now):
        """Of what is shown while its vGPU is there."""
        return (all(d[0] == "vfio-pci" for d in now[0].values()) and
                list(now[1].values()) == [[OWNER, 0o600]])

    def secrets(self):
        """How often a new tenant would find what the old one drew."""
        for function in self.functions:
            run("vfio_change", "take", function)
        found = json.loads(run("vfio_client", self.functions[0], "find", SECRET).splitlines()[-1])
        for function in self.functions:
            run("vfio_change", "give", function)
        return found.get("found", 0)


class Mediate:
    """A mediated device is made and removed; one made by hand is nobody's business."""

    def __init__(self, gpu, _):
        self.gpu, self.kind = gpu, gpu.removeprefix("mdev-") + "-small"
        self.body = {"gpu": gpu, "type": gpu + "-" + self.kind}

    def offered(self):
        def there():
            types = ask("GET", "/v1/types?gpu=" + self.gpu)[1]
            return True if any(t["name"] == self.body["type"] for t in types) else None
        until(there, "it does not offer " + self.kind)

    def shows(self):
        found = sorted(os.path.basename(os.readlink("%s/%s/mdev_type" % (MDEV, uuid)))
                       for uuid in os.listdir(MDEV))
        return found, files()

    def right(self, now):
        return now[0] == [self.kind] and list(now[1].values()) == [[OWNER, 0o600]]


METHODS = {"passthrough": Passthrough, "mediate": Mediate}


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout


def check(thing, before):
    """True: the vGPU is there, and all of it; False: nothing is."""
    listed = settled()
    names, left = stored()
    now = thing.shows()
    assert names == [v["name"] for v in listed], (names, listed)
    if not listed:
        assert now == before and not left, (now, before, left)
        return False
    assert listed[0]["state"] == "ready", listed
    assert thing.right(now), now
    return True


def create(thing):
    thing.offered()
    code, said = ask("POST", "/v1/vgpus", dict(thing.body, name="a", owner=str(OWNER)))
    assert code == 201, said


def use(thing):
    """A VM comes and goes, and leaves something behind."""
    settled()
    holder = subprocess.Popen(["vfio_client", thing.functions[0], "write", SECRET, "hold", "30"],
                              stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "holding\n"
        in_state("bound")
    finally:
        holder.kill()
        holder.communicate(timeout=20)
    in_state("ready")


def delete(_):
    settled()
    code, said = ask("DELETE", "/v1/vgpus/a")
    assert code == 200, said


# What is there before, and what is done.
OPERATIONS = {"create": (False, create), "scrub": (True, use), "delete": (True, delete)}


def one_point(process, thing, operation, at, before):
    """Whether vgpud was killed (else there is no such point), and the vgpud that runs afterwards."""
    there, act = OPERATIONS[operation]
    if there:
        create(thing)
    stop(process)
    process = None
    try:
        process = start(at)
        act(thing)
        reached = False
        stop(process)
    except Gone:
        if process:
            process.wait(20)
        reached = True
    process = start()
    if check(thing, before):
        delete(thing)
    assert not check(thing, before)
    if operation == "scrub":
        stop(process)
        assert thing.secrets() == 0, "what its VM drew is still there"
        assert thing.shows() == before
        process = start()
    return reached, process


def main():
    method, gpu, operation, stride = sys.argv[1:5]
    thing = METHODS[method](gpu, sys.argv[5:])
    before = thing.shows()
    points, began, wrong = [], time.monotonic(), []
    process = start()
    for at in range(1, MOST, int(stride)):
        try:
            reached, process = one_point(process, thing, operation, at, before)
            if not reached:
                break
            points.append(at)
            print("%s %s: point %d, %.0f s" % (gpu, operation, at, time.monotonic() - began), flush=True)
        except (AssertionError, Gone) as failed:
            with open("/mnt/log") as log:
                wrong.append([at, repr(failed), log.read()[-1000:]])
            break
    process.kill()
    print("sweep " + json.dumps({"points": points, "wrong": wrong, "took_s": time.monotonic() - began}))


main()
