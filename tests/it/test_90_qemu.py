"""Bottles of the qemu backend: a virtual machine each, under emulation where there is no KVM. One small image,
few machines: what all backends do alike is tested on the others."""
import concurrent.futures
import fcntl
import glob
import json
import os
import shutil
import signal
import subprocess
import tarfile

import pytest

import bottle
from session import detach, states, wait_for

MEMORY = 256 << 20  # of a machine here
F_GET_SEALS, F_SEAL_WRITE = 1034, 8  # <linux/fcntl.h>


@pytest.fixture
def backend():
    return "qemu"


@pytest.fixture(scope="session")
def root(scratch):
    """A root file system of one program."""
    busybox = shutil.which("busybox", path="/bin:/usr/bin")
    if not busybox or b"statically" not in subprocess.run(["file", "-L", busybox], capture_output=True).stdout:
        pytest.skip("busybox-static is missing")
    path = f"{scratch}/root.tar"
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tarfile.open(path, "w") as tar:
        def add(name, kind, mode=0o755, **more):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = kind, mode
            for key, value in more.items():
                setattr(entry, key, value)
            tar.addfile(entry)
        for name in ("bin", "etc", "home", "tmp", "proc", "sys", "dev", "run", "var", "var/tmp"):
            add(name, tarfile.DIRTYPE)
        add("home/agent", tarfile.DIRTYPE, uid=1000, gid=1000)
        tar.add(os.path.realpath(busybox), "bin/busybox")
        for name in applets:
            if name != "busybox":
                add(f"bin/{name}", tarfile.SYMTYPE, linkname="busybox")
    os.chmod(path, 0o644)
    return path


def furnish(home, root):
    home.write_bottle("box", image=root, limits={"memory": f"{MEMORY >> 20}MiB"})
    home.write_agent("worker", "box")
    return home


@pytest.fixture
def home(make_home, root):
    return furnish(make_home(), root)


def left_over(pids, slug):
    return [bottle.cmdline(p) for p in pids if bottle.is_alive(p)], bottle.cgroups_named(slug), \
        [line for line in bottle.mounts().splitlines() if slug in line]


def test_streams_status_and_the_second_start(home):
    r = home.start("sh", "-c", "cat; echo err >&2; exit 41", input="typed\n", timeout=300)
    assert r.returncode == 41, r.stderr + home.logs_of_all()
    assert r.stdout == "typed\n" and r.stderr.splitlines()[-1] == "err"
    # As a monitor could that its guest has taken over: all that the next one might ask for is locked.
    shared = [open(path, "rb") for path in glob.glob(f"{home.cache}/claude-bottle/vm/*.sqfs")]
    assert shared
    for f in shared:
        bottle.lock_shared(f)
    r = home.start("sh", "-c", "uname -r; id -u; [ -s $SSL_CERT_FILE ] && echo trusts; cat /proc/1/cmdline")
    lines = r.stdout.splitlines()
    assert lines[0] != os.uname().release and lines[1:3] == ["1000", "trusts"], r.stdout
    limits = [json.load(open(f"{home.state}/{s}/bottle.json"))["limits"] for s in home.slugs()]
    assert any(f"a machine of {MEMORY >> 20} MiB, restored" in text for text in limits), limits


def test_beside_the_agent(home, terminal):
    with home.background("sh", "-c", "trap 'echo got it; exit 5' USR1 TERM; while :; do sleep 0.1; done") as running:
        r = running.exec("sh", "-c", "cat; echo err >&2; exit 3", input="in\n")
        assert (r.returncode, r.stdout, r.stderr) == (3, "in\n", "err\n")
        data = os.urandom(1 << 20)
        assert running.exec("cat", input=data, text=False).stdout == data
        assert running.exec("nosuch").returncode == 127
        roles = running.roles()
        assert [bottle.powers(p) for p in roles["wire"] + roles["relay"]] == [bottle.SEALED] * 2
        assert running.exec("sh", "-c", "kill -9 $$").returncode == 137
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            got = list(pool.map(lambda n: running.exec("sh", "-c", f"sleep 1; echo {n}").stdout, range(12)))
        assert got == [f"{n}\n" for n in range(12)]

        t = terminal(home, "exec", running.slug, "--", "sh", rows=31, columns=101)
        t.type(b"stty size; trap 'echo stopped; exit 9' INT\n")
        t.expect(b"31 101")
        t.resize(44, 123)
        t.type(b"stty size\n")
        t.expect(b"44 123")
        t.type(b"echo wa''it; while :; do sleep 0.1; done\n")
        t.expect(b"wait\r\n")
        t.type(b"\x03")
        t.expect(b"stopped\r\n")
        assert t.wait() == 9

        # Its image is nobody's to remove meanwhile, nor is the snapshot that it was restored from.
        image = next(x["reference"] for x in json.loads(home.run("image", "list", "--json", check=True).stdout)
                     if x["used"] and x["kind"] == "snapshot")
        r = home.run("image", "remove", image)
        assert r.returncode == 1 and r.stdout == "" and r.stderr.count("is used by a bottle") >= 2, r.stderr

        # As its neighbours see it: no device that leads out, and nobody else's processes.
        seen = running.exec("sh", "-c", "ls /dev; ps").stdout
        assert "vport" not in seen and "vda" not in seen and "[kworker" not in seen
        home.run("stop", running.slug, timeout=30)
        assert running.wait() == 5
        assert running.process.stdout.read() == b"got it\n"


def test_a_home_that_outlives_the_machine(home):
    with home.background("sh", "-c", "echo kept > ~/note; sync; echo late >> ~/note; sleep 600") as running:
        wait_for(lambda: "late" in running.exec("cat", "/home/agent/note").stdout)
        home.run("stop", running.slug, timeout=30)
        running.resume()
        assert running.exec("sh", "-c", "cat ~/note; id -u").stdout == "kept\nlate\n1000\n"
        # On this disk it takes what is in it, whatever its size, and of what was deleted nothing.
        disk = f"{running.folder}/home.ext4"
        assert os.stat(disk).st_mode & 0o777 == 0o600 and os.stat(disk).st_size > 1 << 30
        running.exec("sh", "-c", "dd if=/dev/urandom of=$HOME/big bs=1M count=48; sync", check=True)
        assert os.stat(disk).st_blocks * 512 > 48 << 20
        running.exec("sh", "-c", "rm ~/big; sync", check=True)
        wait_for(lambda: os.stat(disk).st_blocks * 512 < 32 << 20)


@pytest.mark.parametrize("victim", ["keeper", "monitor", "init", "cell"])
def test_a_kill_leaves_nothing(home, victim):
    with home.background() as running:
        roles = running.roles()
        pids = [p for ps in roles.values() for p in ps]
        assert bottle.cgroups_named(running.slug) or os.geteuid() != 0
        bottle.kill_quietly(roles[victim][0])
        running.wait()
        assert bottle.wait_until(lambda: not any(map(bottle.is_alive, pids)), 10), left_over(pids, running.slug)
        reason = running.state()["reason"]
        if victim != "keeper":
            assert reason.startswith("the bottle was stopped: "), reason
        r = home.run("cleanup", timeout=30)
        assert r.returncode == 0, r.stderr
        assert left_over(pids, running.slug) == ([], [], [])
        assert home.slugs() == []


def test_a_greedy_agent_and_its_sibling(home):
    greedy = "dd if=/dev/zero of=/tmp/fill bs=1M 2>/dev/null; x=x; while :; do x=$x$x; done"
    with home.background() as sibling, home.background("sh", "-c", f"({greedy}) & ({greedy}) & sleep 600") as running:
        monitor, = running.roles()["monitor"]
        bottle.wait_until(lambda: False, 5)
        resident = int(open(f"/proc/{monitor}/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert resident < MEMORY + (320 << 20)
        assert sibling.exec("echo", "here").stdout == "here\n"
        home.run("stop", running.slug, "--now", timeout=30)
        running.wait()
        assert bottle.wait_until(lambda: not bottle.is_alive(monitor), 10)
        # As its filter would, if it did what it never does: nobody speaks for the machine then.
        pids = [p for ps in sibling.roles().values() for p in ps]
        bottle.kill_quietly(sibling.roles()["wire"][0], signal.SIGSYS)
        sibling.wait()
        reason = sibling.state()["reason"]
        assert "speaks with the virtual machine was killed: it asked the kernel" in reason, reason
        assert bottle.wait_until(lambda: not any(map(bottle.is_alive, pids)), 10), left_over(pids, sibling.slug)


def test_a_reader_that_waits_holds_no_machine(home):
    """The relay has output that nobody takes; without its wire the machine ends all the same."""
    with home.background("yes") as running:
        (monitor,), (wire,) = running.roles()["monitor"], running.roles()["wire"]
        bottle.wait_until(lambda: False, 2)
        bottle.kill_quietly(wire)
        assert bottle.wait_until(lambda: not bottle.is_alive(monitor), 10)
        assert running.process.stdout.read().endswith(b"y\n") and running.wait() != 0


def seals_of(path):
    with open(path, "rb") as f:
        return fcntl.fcntl(f, F_GET_SEALS)


def prlimit(pid, *words):
    """Of another user's process only that user may know, or lower, the limits."""
    owner = os.stat(f"/proc/{pid}")
    user = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups"]
    return subprocess.run([*(user if os.geteuid() == 0 else []), "prlimit", f"--pid={pid}", *words],
                          capture_output=True, text=True, check=True).stdout


def test_a_monitor_that_maps_all_it_may(home):
    """As one could that its guest has taken over: its next piece of memory is its end, and the bottle's."""
    with home.background() as running:
        roles = running.roles()
        (monitor,), (cell, *_) = roles["monitor"], roles["cell"]
        soft, hard = map(int, prlimit(monitor, "--as", "--raw", "--noheadings", "--output=SOFT,HARD").split())
        assert 2 * MEMORY < soft == hard < 8 << 30
        assert prlimit(monitor, "--nofile", "--raw", "--noheadings", "--output=HARD").strip() == "1024"
        if os.geteuid() == 0:
            # Landlock has no say over these: as often as it opens them anew, it writes to none.
            memory = [fd for fd in glob.glob(f"/proc/{monitor}/fd/*") if os.readlink(fd).startswith("/memfd:")]
            assert memory and all(seals_of(fd) & F_SEAL_WRITE for fd in memory), memory
        # What is lent to it is all that it has: else its filter were another.
        assert not [word for word in bottle.cmdline(cell) if word.startswith("write=")]
        prlimit(monitor, "--as=4096")
        running.exec("sh", "-c", "for n in 1 2 3 4 5 6 7 8; do dd if=/dev/zero of=$HOME/$n bs=64k count=8 conv=fsync & "
                     "done; wait", timeout=30)
        assert running.wait() != 0
        assert running.state()["reason"].startswith("the bottle was stopped: the virtual machine ended: "), \
            running.state()


def test_as_many_as_memory_allows(home):
    """Ten, for the first time and at once: one snapshot is made, and all but its maker begin from that. No two draw
    the same random numbers."""
    free, = [int(line.split()[1]) << 10 for line in open("/proc/meminfo") if line.startswith("MemAvailable:")]
    n = min(10, free // (MEMORY + (256 << 20)))
    assert n >= 2, "too little memory is free"
    home.cache = f"{home.folder}/.cache"
    draw = "dd if=/dev/urandom bs=16 count=1 2>/dev/null | sha256sum"
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        agent = f"({draw}; cat /proc/sys/kernel/random/uuid; echo done) > ~/drawn; sleep 600"
        slugs = list(pool.map(lambda _: detach(home, "sh", "-c", agent), range(n)))
        assert sorted(s for s, b in states(home).items() if b["alive"]) == sorted(slugs)
        assert len(glob.glob(f"{home.cache}/claude-bottle/vm/*.state")) == 1

        def drawn(slug):
            read = ("exec", slug, "--", "cat", "/home/agent/drawn")
            wait_for(lambda: "done" in home.run(*read, timeout=60).stdout, 60)
            return home.run(*read, timeout=60, check=True).stdout

        words = [word for text in pool.map(drawn, slugs) for word in text.split() if word not in ("-", "done")]
        assert len(words) == len(set(words)) == 2 * n, words
        list(pool.map(lambda slug: home.run("stop", slug, "--now", timeout=60, check=True), slugs))
    assert not any(b["alive"] for b in states(home).values())


def test_what_a_machine_cannot_have(home):
    r = home.start("true", options=("--workspace", "mount"))
    assert r.returncode != 0 and "workspace: mount cannot be had in a virtual machine" in r.stderr


def test_as_an_ordinary_user(make_home, ordinary, root):
    uid, folder = ordinary
    home = make_home(uid if os.geteuid() == 0 else None)
    home.program = f"{folder}/build/claude-bottle"
    furnish(home, root)
    with home.background() as running:
        assert running.exec("id", "-u", timeout=60).stdout == "1000\n"
        pids = [p for ps in running.roles().values() for p in ps]
        if os.geteuid() == 0:
            assert all(f"\nUid:\t{uid}\t{uid}\t" in open(f"/proc/{p}/status").read() for p in pids)
        home.run("stop", running.slug, timeout=30)
    # That a keeper has ended is known by its lock, a moment before it is gone.
    assert bottle.wait_until(lambda: not any(map(bottle.is_alive, pids)), 10), left_over(pids, running.slug)
