"""Bottles of the smolmachines backend against the strict double of its command line: in a real wall and
a real cell, with a real bundle and registry. What that proves and what not is told in smolvm/README.md."""
import os
import signal
import subprocess
import time

import pytest

import bottle
import smol_world
from bottle import wait_until
from session import Terminal

pytestmark = pytest.mark.skipif(smol_world.missing() is not None, reason=smol_world.missing() or "")


@pytest.fixture(name="image", scope="module")
def fixture_image(scratch):
    return smol_world.small_root(f"{scratch}/small-root.tar")


@pytest.fixture(name="double", scope="module")
def fixture_double(scratch):
    with smol_world.Double(scratch, cache=f"{scratch}/smol-layers") as d:
        yield d


def make_home(scratch, double, image, rule_cache, version):
    h = bottle.Home(f"{scratch}/smol-{version}", cache=rule_cache, backend="smolmachines")
    double.version(version)
    h.secrets = {"CLAUDE_BOTTLE_SMOLVM": double.path}
    h.write_bottle(image=image)
    h.write_agent()
    return h


@pytest.fixture(name="home", scope="module")
def fixture_home(scratch, double, image, rule_cache):
    h = make_home(scratch, double, image, rule_cache, "0.8.0")
    yield h
    h.remove()


@pytest.fixture(name="behave")
def fixture_behave(double):
    yield double
    double.misbehave()


@pytest.fixture(name="box", scope="module")
def fixture_box(home):
    """A bottle that runs, and that nobody ends."""
    with home.background() as b:
        yield b


def readable(folder):
    """All files that lie there, one after the other."""
    found = ""
    for at, _, files in os.walk(folder):
        for path in (os.path.join(at, name) for name in files):
            if os.path.isfile(path):
                with open(path, errors="replace") as f:
                    found += f.read()
    return found


LOOP = "while :; do sleep 0.1; done"


# --- one that runs ---


def test_who_the_agent_is_and_what_it_finds(box):
    script = ("id -u; id -g; echo $HOME; pwd; cat /etc/resolv.conf; env; ls /.claude-bottle/run 2>&1; ps; "
              "head -n 1 $SSL_CERT_FILE >/dev/null && echo certificates")
    r = box.exec("sh", "-c", script)
    lines = r.stdout.splitlines()
    assert lines[:4] == ["1000", "1000", "/home/agent", "/home/agent"], r.stdout + r.stderr
    assert "certificates" in lines and f"nameserver {smol_world.PINNED}" in lines
    assert f"HTTPS_PROXY=http://{smol_world.PINNED}:8888" in lines and "FROM_IMAGE" not in r.stdout
    assert any("Permission denied" in x for x in lines)
    # A process namespace of the agent's, whose first process is of its user too.
    assert "guest wait" not in r.stdout and any(x.split()[:2] == ["1", "agent"] for x in lines), r.stdout


def test_no_secret_lies_with_the_tool(box):
    """Its records hold what a Smolfile says, in plain text: neither environment nor placeholder."""
    found = readable(f"{box.folder}/smol")
    assert "claude-bottle/agent@sha256:" in found and f"{smol_world.PINNED}/32" in found
    assert "PROXY" not in found and "DEPLOY_TOKEN" not in found
    assert set(os.listdir(f"{box.folder}/smol-in")) - {"kvm"} == {"Smolfile", "order.json"}
    assert os.stat(f"{box.folder}/smol-in/order.json").st_size == 0


def test_who_hears_the_tool_has_no_powers(box):
    assert [bottle.powers(p) for p in box.roles()["bridge"]] == [bottle.SEALED]


def test_its_folder_is_watched(box):
    """How the watch ends a bottle is told by the unit tests: nobody here writes 48 GiB."""
    below = bottle.descendants(box.state()["pid"])
    assert [p for p in below if text_of(p, "comm") == "smol-watch\n"]
    monitor, = [p for p in below if b"\0machine\0start\0" in raw_cmdline(p)]
    limit, = [x for x in text_of(monitor, "limits").splitlines() if x.startswith("Max file size")]
    assert limit.split()[3:5] == [str(48 << 30)] * 2


def test_commands_beside_it(home, box):
    r = box.exec("sh", "-c", "cat; echo err >&2; exit 1", input="in\n")
    assert (r.returncode, r.stdout, r.stderr) == (1, "in\n", "err\n")
    assert box.exec("/no/such").returncode == 127 and box.exec("/etc").returncode == 126
    assert box.exec("sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM
    data = os.urandom(1 << 20)
    assert box.exec("cat", input=data, text=False).stdout == data
    several = [subprocess.Popen(home.argv(["exec", box.slug, "--", "sh", "-c", f"sleep 1; exit {n}"]),
                                env=home.env(), cwd=home.cwd, stdin=subprocess.DEVNULL) for n in range(4)]
    assert [p.wait(60) for p in several] == [0, 1, 2, 3]


def test_a_terminal_beside_it(home, box):
    t = Terminal(home, "exec", box.slug, "--", "sh", "-c", f"trap 'stty size' WINCH; stty size; echo ready; {LOOP}",
                 rows=22, columns=77)
    try:
        assert b"22 77" in t.expect(b"ready", 30)
        t.resize(50, 60)
        t.expect(b"50 60", 20)
        t.type(b"\x03")
        assert t.wait(30) == 128 + signal.SIGINT
    finally:
        t.close()


# --- the agent ---


def test_status_and_streams(home):
    r = home.start("sh", "-c", "cat; echo err >&2; exit 41", input="typed\n")
    assert (r.returncode, r.stdout) == (41, "typed\n"), r.stderr
    assert r.stderr.splitlines()[-1] == "err"


def test_statuses_that_the_tool_has_too(home):
    """Its own failures are 1 and 137; the agent's are believed, because the guest has noted them."""
    for script, status in (("exit 1", 1), ("kill -KILL $$", 137)):
        r = home.start("sh", "-c", script)
        assert r.returncode == status and "was stopped" not in r.stderr, r.stderr
    r = home.start("/no/such")
    assert r.returncode == 127 and "was stopped" not in r.stderr, r.stderr


def test_a_terminal_and_its_size(home):
    t = Terminal(home, "start", "worker", "--", "sh", "-c",
                 f"trap 'stty size' WINCH; tty; stty size; echo re${{X}}ady; {LOOP}", rows=31, columns=101)
    try:
        before = t.expect(b"ready", 60)
        assert b"/dev/" in before and b"31 101" in before, before
        t.resize(40, 90)
        t.expect(b"40 90", 20)
        t.type(b"\x03")
        assert t.wait(30) == 128 + signal.SIGINT
    finally:
        t.close()


def test_signals(home):
    with home.background("sh", "-c", f"trap 'echo term; exit 7' TERM; echo ready; {LOOP}") as b:
        assert b.process.stdout.readline() == b"ready\n"  # while it runs
        beside = subprocess.Popen(
            home.argv(["exec", b.slug, "--", "sh", "-c", f"trap 'echo interrupted; exit 9' INT; echo ready; {LOOP}"]),
            env=home.env(), cwd=home.cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert beside.stdout.readline() == b"ready\n"
        beside.send_signal(signal.SIGINT)
        assert beside.communicate(timeout=30)[0] == b"interrupted\n" and beside.returncode == 9
        assert home.run("stop", b.slug).returncode == 0
        assert b.process.stdout.readline() == b"term\n" and b.wait() == 7


def test_the_home_goes_on(home):
    r = home.start("sh", "-c", "echo kept > note; mkdir -m 0700 deep; echo x > deep/x; chmod 0400 deep/x; exit 3")
    assert r.returncode == 3, r.stderr
    slug = max(home.slugs(), key=lambda s: os.stat(f"{home.state}/{s}/bottle.json").st_mtime)
    assert not os.path.exists(f"{home.state}/{slug}/smol")
    r = home.run("resume", slug, "--headless", "--", "sh", "-c", "cat note deep/x; ls -ld deep; id -u")
    lines = r.stdout.splitlines()
    assert r.returncode == 0 and lines[:2] == ["kept", "x"] and lines[2].startswith("drwx------"), r.stdout + r.stderr


# --- its end ---


def test_a_stubborn_one_is_stopped(home, double):
    before = double.guests()
    with home.background("sh", "-c", f"trap '' TERM HUP; echo ready; {LOOP}") as b:
        assert b.process.stdout.readline() == b"ready\n" and double.guests() == before + 1
        assert home.run("stop", b.slug, "--now", timeout=40).returncode == 0
        assert wait_until(lambda: double.guests() == before, 10)
        assert b.state()["state"] == "ended"


def test_a_tool_that_hangs_does_not_hold_the_end_up(home, behave):
    before = behave.guests()
    with home.background() as b:
        behave.misbehave("exec-hangs")
        begun = time.monotonic()
        assert home.run("stop", b.slug, "--now", timeout=40).returncode == 0
        assert wait_until(lambda: behave.guests() == before, 20) and time.monotonic() - begun < 20
        assert b.wait() != 0


def test_nothing_outlives_a_killed_keeper(home, double):
    before = double.guests()
    with home.background() as b:
        tree = bottle.descendants(b.state()["pid"])
        assert double.guests() == before + 1 and len(tree) > 8
        os.kill(tree[0], signal.SIGKILL)
        assert wait_until(lambda: double.guests() == before and
                          not any(os.path.exists(f"/proc/{p}") for p in tree[1:]), 10)
        assert home.run("cleanup").returncode == 0
        assert not os.path.exists(b.folder)


def test_a_guest_that_dies_is_no_status_of_its_agent(home):
    with home.background() as b:
        monitor, = [p for p in bottle.descendants(b.state()["pid"]) if b"\0machine\0start\0" in raw_cmdline(p)]
        os.kill(monitor, signal.SIGKILL)
        assert b.wait() != 0
        assert "the bottle was stopped: smolvm machine cp: Error: machine " in b.state()["reason"], b.state()


def test_no_bottle_goes_on_without_its_bridge(home):
    with home.background() as b:
        bridge, = b.roles()["bridge"]
        os.kill(bridge, signal.SIGSYS)
        assert b.wait() != 0
        assert "the process that speaks with smolvm was killed: it asked the kernel" in b.state()["reason"], b.state()


def text_of(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", encoding="ascii", errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def raw_cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read()
    except OSError:
        return b""


# --- what does not hold ---


@pytest.mark.parametrize("how, reason", [
    ("start-fails", "smolvm machine start: Error: boot: the processor does not do what it should"),
    # The registry is in the wall, so nothing is pulled.
    ("open-wall pull-ignored", "canary: a listener of the host was reached"),
])
def test_what_does_not_hold_is_not_started(home, box, behave, how, reason):
    """With the wall taken away the canary must see it. box: so that the image is known."""
    assert box.slug
    before = behave.guests()
    behave.misbehave(*how.split())
    r = home.start("echo", "never")
    assert r.returncode == 1 and r.stdout == "" and reason in r.stderr, r.stderr
    assert wait_until(lambda: behave.guests() == before, 5)


def uids(below, word):
    """Of the processes below this one that the bundle's executable runs as such: their users."""
    found = set()
    for pid in bottle.descendants(below):
        if b"claude-bottle-bundle\0" + word + b"\0" in raw_cmdline(pid):
            found |= {int(x.split()[1]) for x in text_of(pid, "status").splitlines() if x.startswith("Uid:")}
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has one uid to give")
def test_the_registry_is_a_user_of_its_own(home):
    with subprocess.Popen(home.argv(["start", "worker", "--headless", "--", "true"]), env=home.env(), cwd=home.cwd,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
        assert wait_until(lambda: uids(p.pid, b"registry") - {0}, 30)
        assert p.wait(60) == 0


def test_a_tool_of_another_kind(home, behave):
    """Slow, and each command a container of its own."""
    behave.misbehave("apart", "boot=2")
    with home.background("sh", "-c", "echo ready; sleep 600") as b:
        assert b.process.stdout.readline() == b"ready\n"
        assert b.exec("sh", "-c", "exit 3").returncode == 3


@pytest.mark.parametrize("version", ["0.9.0", "1.0.1"])
def test_an_unknown_version_is_refused(home, double, version):
    before = double.current()
    double.version(version)
    r = home.start("true")
    double.version(before)
    assert r.returncode == 1
    assert r.stderr.splitlines()[-1] == (
        f"claude-bottle: smolvm {version} is not known here: its command line is, of versions 0.8.x, and 1.0.2 and "
        "later 1.x")


def test_what_is_exposed_is_a_copy(home, image, scratch):
    os.makedirs(f"{scratch}/shown/deep", exist_ok=True)
    with open(f"{scratch}/shown/deep/file", "w") as f:
        f.write("seen\n")
    home.write_bottle("showing", image=image, expose=[f"{scratch}/shown"])
    home.write_agent("showing", "showing")
    r = home.start("sh", "-c", f"cat {scratch}/shown/deep/file; echo x >{scratch}/shown/deep/file", agent="showing")
    assert r.stdout == "seen\n" and r.returncode != 0 and "ermission denied" in r.stderr


def test_what_it_cannot_have(home, image):
    home.write_bottle("shared", image=image, workspace="mount")
    home.write_agent("shared", "shared")
    r = home.run("start", "shared", "--headless", "--", "true")
    assert r.returncode == 1 and "workspace: mount cannot be had with smolmachines" in r.stderr, r.stderr


def test_doctor(home):
    r = home.run("doctor", "--backend", "smolmachines")
    assert "0.8.0 at " in r.stdout and "asked in a wall and a cell" in r.stdout


def test_names_as_flags(scratch, double, image, rule_cache):
    """The later dialect, in all that it has; its terminal follows its size by itself."""
    h = make_home(scratch, double, image, rule_cache, "1.0.2")
    t = Terminal(h, "start", "worker", "--", "sh", "-c", f"trap 'stty size' WINCH; stty size; echo re${{X}}ady; {LOOP}")
    try:
        assert b"31 101" in t.expect(b"ready", 60)
        t.resize(40, 90)
        t.expect(b"40 90", 20)
        assert h.run("exec", h.slugs()[0], "--", "sh", "-c", "exit 5").returncode == 5
        t.type(b"\x03")
        assert t.wait(30) == 128 + signal.SIGINT
    finally:
        t.close()
        double.version("0.8.0")
        h.remove()
