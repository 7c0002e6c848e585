"""The docker backend's figures, beside a plain `docker run` of the same image on the same engine: a
private one (tests/it/engine.py), started for this and ended with all that it has. Without root, or
where none can be started, they are left out and a line on standard error says why.

Not measured: a first start, which makes the images from Debian's archive. What a bottle is compared
with is one container on the engine's default network, with nothing around it; a bottle is two, on
two networks of their own, and the proof of its wall is part of its start.
"""
import collections
import concurrent.futures
import json
import os
import subprocess
import time

import bottle
import engine as engines
import images
import peers
from figures import (LOAD, QUICK, alternating, compare, emit, mib, note, parse_load, rounds, settled_kib, stamped,
                     timed_ms, wanted)

GROUPS = ("docker_start", "docker_exec", "docker_image", "docker_memory", "docker_many", "docker_get_1k",
          "docker_cpu", "docker_latency")
PAIRS = 3 if QUICK else 11
N_MANY = 4 if QUICK else 20
PARALLEL = 4
PLAIN = "docker run"
SLEEP = ("sleep", "3600")
SHIM = "containerd-shim-runc-v2"


class Place:
    """The engine, its images, and a home whose bottles are made with it."""

    def __init__(self, world, engine):
        self.world, self.engine = world, engine
        self.home = world.make_home(docker_host=engine.host)
        images.load(engine)
        note("images: making what is not there")
        self.references = images.build(self.home, engine.host, "shell")
        images.save(engine, used=self.references.values())
        self.shell = self.references["shell"]

    def start(self, *command):
        """The slug of a bottle that nobody is attached to."""
        r = self.home.run("start", "worker", "--headless", "--detach", "--", *command, timeout=120,
                          check=True)
        return r.stdout.strip()

    def stop(self, slug):
        self.home.run("stop", slug, timeout=60, check=True)

    def docker_argv(self, *args):
        return ["docker", "-H", self.engine.host, *args]

    def docker_env(self):
        return dict(engines.SIDE, HOME=self.engine.folder)

    def plain(self, name, *command):
        self.engine.docker("run", "-d", "--name", name, self.shell, *command)

    def pid_of(self, container):
        return self.engine.inspect(container)["State"]["Pid"]

    def shim_of(self, container):
        parent = engines.stat_of(self.pid_of(container))[0]
        name = os.path.basename(engines.cmdline(parent)[0])
        if name != SHIM:
            raise RuntimeError(f"the parent of {container} is {name}, no shim")
        return parent

    def pinned(self, slug):
        networks = self.engine.inspect(f"claude-bottle-{slug}-bundle")["NetworkSettings"]["Networks"]
        return networks[f"claude-bottle-{slug}"]["IPAddress"]

    def keeper_of(self, slug):
        with open(f"{self.home.state}/{slug}/bottle.json") as f:
            return json.load(f)["pid"]

    def processes_of(self, slug):
        """{part of a bottle: its pids}; what the agent runs is none of them."""
        bundle, agent = f"claude-bottle-{slug}-bundle", f"claude-bottle-{slug}"
        return {"bundle": engines.with_descendants([self.pid_of(bundle)]),
                "keeper": bottle.descendants(self.keeper_of(slug)),  # and the agent's relay, its child
                "guest_init": [self.pid_of(agent)],
                "shims": [self.shim_of(bundle), self.shim_of(agent)]}

    def left(self):
        """How many containers, and networks but the engine's own, there are."""
        return len(self.engine.containers()) + len(self.engine.networks())


# --- time ---

def measure_start(place):
    note(f"docker: start of a bottle and of a plain container, {PAIRS} pairs")
    command = ("date", "+%s%N")
    home, env = place.home, place.docker_env()
    ours, plain = alternating(
        PAIRS,
        lambda: stamped(home.argv(["start", "worker", "--headless", "--", *command]), env=home.env(),
                        cwd=home.cwd),
        lambda: stamped(place.docker_argv("run", "--rm", place.shell, *command), env=env))
    note(f"    first instruction: ours {ours[0]:.0f} ms, docker run {plain[0]:.0f} ms; "
         f"the whole: ours {ours[1]:.0f} ms, docker run {plain[1]:.0f} ms")
    emit("docker_start", ours[0], "ms", PLAIN, plain[0], True)
    emit("docker_start_to_end", ours[1], "ms", PLAIN, plain[1], True)


def measure_exec(place):
    note(f"docker: exec of true, {PAIRS} pairs")
    slug = place.start(*SLEEP)
    place.plain("bench-exec", *SLEEP)
    home, env = place.home, place.docker_env()
    ours, plain = alternating(
        PAIRS,
        lambda: timed_ms(home.argv(["exec", slug, "--", "true"]), env=home.env(), cwd=home.cwd),
        lambda: timed_ms(place.docker_argv("exec", "bench-exec", "true"), env=env))
    note(f"    ours {ours[0]:.0f} ms, docker exec {plain[0]:.0f} ms")
    emit("docker_exec", ours[0], "ms", "docker exec", plain[0], True)
    place.stop(slug)
    place.engine.docker("rm", "-f", "bench-exec")


# --- space ---

def measure_images(place):
    """Whole, with the layers that they share. Of the agents' images those that were kept from an
    earlier build and are what would be built now."""
    for provider in ("claude", "codex"):
        images.load(place.engine, provider)
    r = place.home.run("image", "list", "--json", check=True)
    sizes = {x["kind"]: x["size_bytes"] for x in json.loads(r.stdout) if x["current"]}
    for kind in ("bundle", "shell", "claude", "codex"):
        if kind in sizes:
            note(f"docker: image {kind}: {sizes[kind]} bytes")
            emit(f"docker_image_{kind}", sizes[kind] / (1 << 20), "MiB")
        else:
            note(f"docker: image {kind}: not there, left out")


def emit_memory(prefix, ours, plain_shim):
    """ours: {part: KiB} of one bottle. The peer's one process of its own is its shim."""
    for part in ("bundle", "keeper", "guest_init"):
        emit(f"{prefix}_{part}", mib(ours[part]), "MiB")
    emit(f"{prefix}_shims", mib(ours["shims"]), "MiB", PLAIN, mib(plain_shim), True)
    emit(f"{prefix}_all", mib(sum(ours.values())), "MiB", PLAIN, mib(plain_shim), True)
    note("    " + ", ".join(f"{k} {mib(v):.1f} MiB" for k, v in ours.items()) +
         f"; a plain container's shim {mib(plain_shim):.1f} MiB")


def measure_memory(place):
    """One after the other: what two of them share would count for neither in full. The shims' figures
    are smaller where other containers run on the host, which share the program's pages with them."""
    note(f"docker: memory of one idle bottle, proportional; its two shims are {SHIM}")
    place.plain("bench-memory", *SLEEP)
    plain = settled_kib([place.shim_of("bench-memory")])
    place.engine.docker("rm", "-f", "bench-memory")
    slug = place.start(*SLEEP)
    ours = {part: settled_kib(pids) for part, pids in place.processes_of(slug).items()}
    place.stop(slug)
    emit_memory("docker_memory", ours, plain)


# --- many at once ---

def in_parallel(fn, items):
    """(results, seconds)"""
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        results = list(pool.map(fn, items))
    return results, time.monotonic() - began


def has_answered(place, slug):
    """An allowed request from inside, by way of this bottle's own bundle: that is what its record
    says, which no other bottle's bundle can write."""
    r = place.home.run("exec", slug, "--", LOAD, "--proxy", f"{place.pinned(slug)}:8888", "--target",
                       place.world.target, "--path", "/1k", "--requests", "1", "--seconds", "20", timeout=60)
    allowed = [x for x in place.home.records(slug) if x["verdict"] == "allow" and x.get("path") == "/1k"]
    if r.returncode != 0 or not allowed:
        note(f"    ! {slug}: {r.returncode} {r.stdout[-200:]} {r.stderr[-200:]}, {len(allowed)} records")
    return r.returncode == 0 and bool(allowed)


def measure_many_plain(place):
    """(seconds to start, KiB of one's shim, seconds to end)"""
    names = [f"bench-many-{i}" for i in range(N_MANY)]
    _, started = in_parallel(lambda name: place.plain(name, *SLEEP), names)
    shims = settled_kib([place.shim_of(n) for n in names]) / N_MANY
    began = time.monotonic()
    place.engine.docker("rm", "-f", *names)
    return started, shims, time.monotonic() - began


def measure_many_ours(place):
    """(seconds to start, {part: KiB of one}, seconds to end, how many answered)"""
    slugs, started = in_parallel(lambda _: place.start(*SLEEP), range(N_MANY))
    try:
        answered = sum(in_parallel(lambda slug: has_answered(place, slug), slugs)[0])
        parts = collections.defaultdict(list)
        for slug in slugs:
            for part, pids in place.processes_of(slug).items():
                parts[part] += pids
        memory = {part: settled_kib(pids) / N_MANY for part, pids in parts.items()}
        keepers = [place.keeper_of(s) for s in slugs]
    finally:
        began = time.monotonic()
        place.home.run("stop", "--all", timeout=60 + 20 * N_MANY, check=True)
        ended = time.monotonic() - began
    alive = [p for p in keepers if bottle.is_alive(p)]
    if alive:
        raise RuntimeError(f"keepers that still run after \"stop --all\": {alive}")
    return started, memory, ended, answered


def measure_many(place):
    note(f"docker: {N_MANY} at once, {PARALLEL} starts at a time")
    before = place.left()
    plain_started, plain_shim, plain_ended = measure_many_plain(place)
    started, memory, ended, answered = measure_many_ours(place)
    left = place.left() - before
    note(f"    all run after {started:.1f} s (docker run {plain_started:.1f} s), gone after {ended:.1f} s "
         f"(docker rm {plain_ended:.1f} s); {answered} answered, {left} containers and networks left")
    emit("docker_many", N_MANY, "bottles")
    emit("docker_many_started", started, "s", PLAIN, plain_started, True)
    emit("docker_many_stopped", ended, "s", "docker rm -f", plain_ended, True)
    emit("docker_many_answered", answered, "bottles")
    emit("docker_many_left", left, "objects")
    emit_memory("docker_many_memory", memory, plain_shim)
    if answered != N_MANY or left != 0:
        raise RuntimeError(f"of {N_MANY} bottles {answered} answered, and {left} objects are left")


# --- requests ---

class Docker:
    """A bottle on the docker backend; the client runs in the agent's container."""
    name = "docker"

    def __init__(self, place):
        self.place = place
        self.slug = place.start(*SLEEP)
        self.pinned = place.pinned(self.slug)

    def load(self, *args):
        world = self.place.world
        r = self.place.home.run("exec", self.slug, "--", LOAD, "--proxy", f"{self.pinned}:8888", "--target",
                                world.target, *args, timeout=120)
        return parse_load(r, world)

    def pids(self):
        return self.place.processes_of(self.slug)["bundle"]

    def stop(self):
        self.place.stop(self.slug)


def measure_load(place, direct, native):
    """The same client inside either bottle, the same upstream on this host's loopback: natively
    egress dials it, for the docker backend the keeper does."""
    ours = Docker(place)
    try:
        everyone = [direct, ours, native]
        for c in everyone:
            c.load("--path", "/1k", "--requests", "1", "--seconds", "10")
        note("docker: keep-alive GET, 1 KiB, 16 connections")
        r = rounds(everyone, "--path", "/1k", "--connections", "16")
        compare(r, "docker_get_1k_16conn", "per_second", "requests/s", ours=ours.name)
        compare(r, "docker_cpu_per_request_get_1k_16conn", "cpu_us", "us", True, ours=ours.name)
        note("docker: keep-alive GET, 1 KiB, 1 connection")
        r = rounds(everyone, "--path", "/1k", "--connections", "1")
        compare(r, "docker_latency_added_p50_1conn", "p50_us", "us", True, minus_direct=True, ours=ours.name)
    finally:
        ours.stop()


# --- all of it ---

def load_averages():
    """A busy host slows two containers down more than one."""
    return "load averages " + " ".join(f"{x:.1f}" for x in os.getloadavg())


def measure_with(world, engine, direct, make_native):
    try:
        place = Place(world, engine)
    except (AssertionError, subprocess.TimeoutExpired) as e:
        note(f"docker: left out, there are no images: {e}")
        return
    try:
        if wanted("docker_image"):
            measure_images(place)
        if wanted("docker_start"):
            measure_start(place)
        if wanted("docker_exec"):
            measure_exec(place)
        if wanted("docker_memory"):
            measure_memory(place)
        if wanted("docker_get_1k", "docker_cpu", "docker_latency"):
            native = make_native()
            try:
                measure_load(place, direct, native)
            finally:
                native.stop()
        if wanted("docker_many"):
            measure_many(place)
    finally:
        place.home.remove()


def measure(world, direct, make_native):
    """make_native(): a bottle on the native backend, for the figures that are compared with it."""
    if not wanted(*GROUPS):
        return
    why = engines.missing()
    if why:
        note(f"docker: left out: {why}")
        return
    try:
        engine = engines.Engine()
    except engines.EngineError as e:
        note(f"docker: left out, no engine starts here: {e}")
        return
    with engine:
        version = engine.docker("version", "--format", "{{.Server.Version}}, client {{.Client.Version}}")
        note(f"docker: engine {version.stdout.strip()} at {engine.host}, {load_averages()}")
        measure_with(world, engine, direct, make_native)
    note(f"docker: done, {load_averages()}")
