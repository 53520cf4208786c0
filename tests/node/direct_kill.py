# SPDX-License-Identifier: Apache-2.0
"""Runs inside the node: direct_kill.py GPU OPERATION STRIDE FUNCTION...

Kills vgpud at each STRIDE-th point of an operation on a GPU in passthrough (create, or delete) and
has the next one go on; after each, what is listed, what is stored and what the kernel shows must
agree. Prints one line of JSON."""
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
    if not head:
        raise Gone()
    return int(head.split()[1]), json.loads(payload)


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


def kernel_shows(functions):
    found = {}
    for address in functions:
        at = "/sys/bus/pci/devices/" + address
        driver = os.path.basename(os.readlink(at + "/driver")) if os.path.islink(at + "/driver") else ""
        with open(at + "/driver_override") as f:
            found[address] = [driver, f.read().strip().replace("(null)", "")]
    files = {}
    for name in sorted(os.listdir("/dev/vfio")):
        if name.isdigit():
            file = os.stat("/dev/vfio/" + name)
            files[name] = [file.st_uid, stat.S_IMODE(file.st_mode)]
    return found, files


def stored():
    db = sqlite3.connect("file:%s/vgpud.db?mode=ro" % STATE, uri=True)
    try:
        left = db.execute("SELECT name, left_by FROM gpus WHERE left_by != ''").fetchall()
        return [r[0] for r in db.execute("SELECT name FROM vgpus")], left
    finally:
        db.close()


def settled():
    end = time.monotonic() + 60
    while time.monotonic() < end:
        listed = ask("GET", "/v1/vgpus")[1]
        if not any(v["state"] in TRANSIENT for v in listed):
            return listed
        time.sleep(0.05)
    raise AssertionError("it does not settle")


def check(before, functions):
    """True: the vGPU is there, and all of it; False: nothing is."""
    listed = settled()
    names, left = stored()
    now = kernel_shows(functions)
    assert names == [v["name"] for v in listed], (names, listed)
    if not listed:
        assert now == before and not left, (now, before, left)
        return False
    assert listed[0]["state"] == "ready", listed
    assert all(d[0] == "vfio-pci" for d in now[0].values()), now
    assert list(now[1].values()) == [[OWNER, 0o600]], now
    return True


def create(gpu):
    return ask("POST", "/v1/vgpus", {"name": "a", "gpu": gpu, "method": "passthrough",
                                     "owner": str(OWNER)})


def one_point(gpu, operation, at, before, functions):
    """False: vgpud was not killed: there is no such point."""
    if operation == "delete":
        process = start()
        code, said = create(gpu)
        assert code == 201, said
        stop(process)
    process = None
    try:
        process = start(at)
        code, said = create(gpu) if operation == "create" else (settled(), ask("DELETE", "/v1/vgpus/a"))[1]
        assert code < 300, said
        reached = False
        stop(process)
    except Gone:
        if process:
            process.wait(20)
        reached = True
    process = start()
    try:
        if check(before, functions):
            code, said = ask("DELETE", "/v1/vgpus/a")
            assert code == 200, said
        assert not check(before, functions)
    finally:
        stop(process)
    return reached


def main():
    gpu, operation, stride = sys.argv[1], sys.argv[2], int(sys.argv[3])
    functions = sys.argv[4:]
    before = kernel_shows(functions)
    points, began, wrong = [], time.monotonic(), []
    for at in range(1, 200, stride):
        try:
            if not one_point(gpu, operation, at, before, functions):
                break
            points.append(at)
        except (AssertionError, Gone) as failed:
            wrong.append([at, repr(failed)])
            break
    print(json.dumps({"points": points, "wrong": wrong, "took_s": time.monotonic() - began}))


main()
