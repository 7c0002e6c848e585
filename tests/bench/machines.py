"""The qemu backend's figures, beside a bare QEMU that boots the same kernel in the same run, and beside a native
bottle. Left out, with a line on standard error, where no machine can be had.

A cold start boots a machine and keeps its state; every later one begins from that (`vm_start`). The bare QEMU boots
into a shell that says one word: no disk, no network, no wall, no agent. The image is not part of it: it is made once,
before anything is measured. Times are of this host's clock, from the command to the agent's first word arriving here.
"""
import glob
import os
import shutil
import statistics
import subprocess
import tempfile
import time

import bottle
import images
from figures import (QUICK, alternating, compare, emit, mib, note, rounds, settled_kib, timed_ms,
                     wanted)

GROUPS = ("vm_start", "vm_exec", "vm_memory", "vm_get_1k", "vm_latency")
STARTS = 3 if QUICK else 7
COLD = 1 if QUICK else 3
MEMORY = "512MiB"
WORD = "first-instruction"
SAY = ("sh", "-c", f"echo {WORD}")
SLEEP = ("sleep", "3600")


def until_word(argv, **kw):
    """Milliseconds until the word is there, and until the end of all."""
    began = time.monotonic()
    p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True,
                         errors="replace", **kw)
    first = None
    for line in p.stdout:
        if WORD in line and first is None:
            first = (time.monotonic() - began) * 1000
    p.stdout.close()
    status = p.wait(60)
    if first is None:
        raise RuntimeError(f"{argv[:4]}: status {status}, and no word")
    return first, (time.monotonic() - began) * 1000


# --- the bare machine ---

def cpio_entry(number, name, mode, data):
    """newc, as the kernel's documentation has it (driver-api/early-userspace/buffer-format)."""
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
    head += b"\0" * (-len(head) % 4)
    return head + data + b"\0" * (-len(data) % 4)


def bare_initramfs(path):
    with open("/bin/busybox", "rb") as f:
        busybox = f.read()
    script = f"#!/busybox sh\necho {WORD}\n/busybox poweroff -f\n".encode()
    entries = (("busybox", 0o100755, busybox), ("init", 0o100755, script), ("dev", 0o040755, b""),
               ("TRAILER!!!", 0, b""))
    with open(path, "wb") as f:
        for i, entry in enumerate(entries):
            f.write(cpio_entry(i + 1, *entry))
    return path


def bare_argv(folder, accel):
    kernel = max(glob.glob("/boot/vmlinuz-*-cloud-*"), key=os.path.getmtime)
    return ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "q35",
            "-accel", accel, "-cpu", "max", "-m", "512M", "-kernel", kernel, "-initrd",
            bare_initramfs(f"{folder}/bare.cpio"), "-append", "console=ttyS0 quiet panic=-1", "-serial", "stdio"]


# --- figures ---

class Place:
    """Homes whose bottles are machines, with states of their own; images are taken over from the tests' cache."""

    def __init__(self, world):
        self.cache = f"{world.folder}/machines"
        ours = f"{self.cache}/claude-bottle/vm"
        for folder in (self.cache, os.path.dirname(ours), ours):
            os.mkdir(folder, 0o700)
        for path in glob.glob(f"{images.cache()}/claude-bottle/vm/*"):
            if not path.endswith((".state", ".lock")):
                shutil.copy(path, ours)
        self.options = {"cache": self.cache, "backend": "qemu", "limits": {"memory": MEMORY}}
        self.home = world.make_home(**self.options)

    def argv(self, *words):
        return self.home.argv(["start", "worker", "--headless", "--", *words])

    def start(self):
        return until_word(self.argv(*SAY), env=self.home.env(), cwd=self.home.cwd)

    def forget(self):
        for state in glob.glob(f"{self.cache}/claude-bottle/vm/*.state"):
            os.unlink(state)


def measure_start(place, folder):
    accel = "kvm" if glob.glob(f"{place.cache}/claude-bottle/vm/*.kvm.state") else "tcg,thread=multi"
    bare = bare_argv(folder, accel)
    note(f"vm: start, {COLD} cold and {STARTS} from a snapshot, beside a bare QEMU ({accel})")
    plain_cold = cold = []
    for _ in range(COLD):
        place.forget()
        cold = cold + [place.start()]
        plain_cold = plain_cold + [until_word(bare)]
    first_cold, bare_cold = (statistics.median(t[0] for t in times) for times in (cold, plain_cold))
    ours, plain = alternating(STARTS, place.start, lambda: until_word(bare))
    note(f"    first instruction: cold {first_cold:.0f} ms (bare {bare_cold:.0f} ms), from the snapshot {ours[0]:.0f} ms "
         f"(bare {plain[0]:.0f} ms); the whole {ours[1]:.0f} ms (bare {plain[1]:.0f} ms)")
    emit("vm_start_cold", first_cold, "ms", "bare QEMU", bare_cold, True)
    emit("vm_start_restored", ours[0], "ms", "bare QEMU", plain[0], True)
    emit("vm_start_restored_to_end", ours[1], "ms", "bare QEMU", plain[1], True)


def measure_exec(machine, native):
    note("vm: exec of true")
    ours, plain = (lambda c=c: timed_ms(c.home.argv(["exec", c.running.slug, "--", "true"]), env=c.home.env(),
                                        cwd=c.home.cwd) for c in (machine, native))
    ours, plain = alternating(STARTS, ours, plain)
    emit("vm_exec", ours[0], "ms", "native", plain[0], True)


def measure_memory(machine, native):
    """Proportional, of a bottle that does nothing: the monitor with the machine's own memory, its cell, the bundle and
    the keeper."""
    note("vm: memory of one idle bottle")
    roles = machine.running.roles()
    parts = {"monitor": roles.get("monitor", []), "cell": roles.get("cell", []) + roles.get("bwrap", []),
             "bundle": machine.pids(), "keeper": [p for role in ("keeper", "wire", "relay") for p in roles.get(role, [])]}
    kib = {part: settled_kib(pids) for part, pids in parts.items()}
    whole = settled_kib([p for pids in native.running.roles().values() for p in pids])
    for part, value in kib.items():
        emit(f"vm_memory_{part}", mib(value), "MiB")
    emit("vm_memory_all", mib(sum(kib.values())), "MiB", "native", mib(whole), True)


def measure_load(direct, machine, native):
    everyone = [direct, machine, native]
    for c in everyone:
        c.load("--path", "/1k", "--requests", "1", "--seconds", "10")
    note("vm: keep-alive GET, 1 KiB, 16 connections")
    r = rounds(everyone, "--path", "/1k", "--connections", "16")
    compare(r, "vm_get_1k_16conn", "per_second", "requests/s", ours=machine.name)
    note("vm: keep-alive GET, 1 KiB, 1 connection")
    r = rounds(everyone, "--path", "/1k", "--connections", "1")
    compare(r, "vm_latency_added_p50_1conn", "p50_us", "us", True, minus_direct=True, ours=machine.name)
    compare(r, "vm_latency_added_p99_1conn", "p99_us", "us", True, minus_direct=True, ours=machine.name)


def measure(world, direct, make_ours):
    """make_ours(name, **home): a bottle that runs, for load."""
    if not wanted(*GROUPS):
        return
    why = bottle.missing("qemu")
    if not why and not os.access("/bin/busybox", os.X_OK):
        why = "the bare machine needs /bin/busybox (package busybox-static)"
    if why:
        note(f"vm: left out: {why}")
        return
    place = Place(world)
    note("vm: making the image and the state, where they are not there")
    place.start()
    if wanted("vm_start"):
        with tempfile.TemporaryDirectory(prefix="cb-bare-") as folder:
            measure_start(place, folder)
    if not wanted(*GROUPS[1:]):
        return
    machine, native = make_ours("machine", **place.options), make_ours("native")
    try:
        if wanted("vm_exec"):
            measure_exec(machine, native)
        if wanted("vm_memory"):
            measure_memory(machine, native)
        if wanted("vm_get_1k", "vm_latency"):
            measure_load(direct, machine, native)
    finally:
        machine.stop()
        native.stop()
