"""Bottles of the smolmachines backend against the strict double of its command line: in a real wall and
a real cell, with a real bundle and registry. What that proves and what not is told in smolvm/README.md."""
import os
import signal
import subprocess

import pytest

import bottle
import smol_world
from bottle import wait_until
from session import Terminal

pytestmark = pytest.mark.skipif(smol_world.missing() is not None, reason=smol_world.missing() or "")

APPLETS = ("sh", "cat", "echo", "env", "id", "sleep", "stty", "head", "ls", "ps", "kill", "hostname", "true",
           "wc", "seq", "dd", "trap", "touch", "nc", "printf", "mkdir", "rm", "test", "tty", "tar", "chmod")


def small_root(path):
    """An image of busybox alone."""
    with open(smol_world.BUSYBOX, "rb") as f:
        program = f.read()
    folders = {d: None for d in ("bin", "usr", "usr/bin", "etc", "home", "home/agent", "root", "tmp", "var", "proc",
                                 "dev", "run")}
    with open(path, "wb") as f:
        f.write(smol_world.tar_of({**folders, "bin/busybox": (0o755, program),
                                   **{f"bin/{n}": "busybox" for n in APPLETS}}))
    return path


@pytest.fixture(name="image", scope="module")
def fixture_image(scratch):
    return small_root(f"{scratch}/small-root.tar")


@pytest.fixture(name="double", scope="module")
def fixture_double(scratch):
    with smol_world.Double(scratch, cache=f"{scratch}/smol-layers") as d:
        yield d


@pytest.fixture(name="home", params=["0.8.0", "1.0.2"], scope="module")
def fixture_home(request, scratch, double, image, rule_cache):
    h = bottle.Home(f"{scratch}/smol-{request.param}", cache=rule_cache, backend="smolmachines")
    double.version(request.param)
    h.secrets = {"CLAUDE_BOTTLE_SMOLVM": double.path}
    h.write_bottle(image=image)
    h.write_agent()
    yield h
    h.remove()


@pytest.fixture(name="behave")
def fixture_behave(double):
    yield double
    double.misbehave()


def test_status_and_streams(home):
    r = home.start("sh", "-c", "cat; echo err >&2; exit 41", input="typed\n")
    assert (r.returncode, r.stdout) == (41, "typed\n"), r.stderr
    assert r.stderr.splitlines()[-1] == "err"


def test_statuses_that_the_tool_has_too(home):
    """Its own failures are 1; the agent's is believed, because the guest has noted it."""
    for command, status in ((("sh", "-c", "exit 1"), 1), (("sh", "-c", "kill -TERM $$"), 128 + signal.SIGTERM),
                            (("/no/such",), 127), (("/etc",), 126), (("true",), 0)):
        r = home.start(*command)
        assert r.returncode == status, (command, r.stderr)
        assert "was stopped" not in r.stderr


def test_who_the_agent_is_and_what_it_finds(home):
    script = ("id -u; id -g; echo $HOME; pwd; hostname; cat /etc/resolv.conf; ls -l /etc/passwd; "
              "head -n 1 $SSL_CERT_FILE >/dev/null && echo certificates; env; "
              "ls /.claude-bottle/run 2>&1; cat /proc/1/environ 2>&1 | head -c 9; echo $(ps | grep -c guest)")
    r = home.start("sh", "-c", script)
    lines = r.stdout.splitlines()
    assert lines[:4] == ["1000", "1000", "/home/agent", "/home/agent"], r.stdout + r.stderr
    assert "certificates" in lines and f"nameserver {smol_world.PINNED}" in lines
    assert "HTTPS_PROXY=http://10.209.0.2:8888" in lines and "FROM_IMAGE" not in r.stdout
    assert any("Permission denied" in x for x in lines)


def test_no_secret_lies_with_the_tool(home):
    """Its records hold what a Smolfile says, in plain text: neither environment nor placeholder."""
    with home.background("sleep", "600") as b:
        found = ""
        for folder, _, files in os.walk(f"{b.folder}/smol"):
            for name in files:
                with open(os.path.join(folder, name), errors="replace") as f:
                    found += f.read()
        assert "claude-bottle/agent@sha256:" in found and f"{smol_world.PINNED}/32" in found
        assert "PROXY" not in found and "DEPLOY_TOKEN" not in found
        assert os.listdir(f"{b.folder}/smol-in") == ["Smolfile"]


def test_output_comes_while_it_runs(home):
    with home.background("sh", "-c", "echo first; sleep 600") as b:
        assert b.process.stdout.readline() == b"first\n"


def test_commands_beside_it(home):
    with home.background() as b:
        r = b.exec("sh", "-c", "cat; id -u; echo $HTTPS_PROXY; exit 1", input="in\n")
        assert (r.returncode, r.stdout) == (1, "in\n1000\nhttp://10.209.0.2:8888\n"), r.stderr
        assert b.exec("/no/such").returncode == 127
        data = os.urandom(1 << 20)
        assert b.exec("cat", input=data, text=False).stdout == data
        several = [subprocess.Popen(home.argv(["exec", b.slug, "--", "sh", "-c", f"sleep 1; exit {n}"]),
                                    env=home.env(), cwd=home.cwd, stdin=subprocess.DEVNULL) for n in range(4)]
        assert [p.wait(60) for p in several] == [0, 1, 2, 3]


def test_a_terminal_and_its_size(home):
    t = Terminal(home, "start", "worker", "--", "sh", "-c",
                 "trap 'stty size; echo .' WINCH; tty; stty size; echo re${X}ady; while :; do sleep 0.1; done",
                 rows=31, columns=101)
    try:
        before = t.expect(b"ready", 60)
        assert b"/dev/" in before and b"31 101" in before, before
        t.resize(40, 90)
        t.expect(b"40 90", 20)
        t.type(b"\x03")
        assert t.wait(30) == 128 + signal.SIGINT
    finally:
        t.close()


def test_a_terminal_beside_it(home):
    with home.background() as b:
        t = Terminal(home, "exec", b.slug, "--", "sh", "-c",
                     "trap 'stty size' WINCH; stty size; echo ready; while :; do sleep 0.1; done", rows=22, columns=77)
        try:
            assert b"22 77" in t.expect(b"ready", 30)
            t.resize(50, 60)
            t.expect(b"50 60", 20)
            t.type(b"\x03")
            assert t.wait(30) == 128 + signal.SIGINT
        finally:
            t.close()


def test_signals(home):
    with home.background("sh", "-c", "trap 'echo term; exit 7' TERM; echo ready; while :; do sleep 0.1; done") as b:
        assert b.process.stdout.readline() == b"ready\n"
        beside = subprocess.Popen(
            home.argv(["exec", b.slug, "--", "sh", "-c",
                       "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.1; done"]),
            env=home.env(), cwd=home.cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert beside.stdout.readline() == b"ready\n"
        beside.send_signal(signal.SIGINT)
        assert beside.communicate(timeout=30)[0] == b"interrupted\n" and beside.returncode == 9
        assert home.run("stop", b.slug).returncode == 0
        assert b.process.stdout.readline() == b"term\n" and b.wait() == 7


def test_a_stubborn_one_is_stopped(home, double):
    with home.background("sh", "-c", "trap '' TERM HUP; echo ready; while :; do sleep 1; done") as b:
        assert b.process.stdout.readline() == b"ready\n"
        assert home.run("stop", b.slug, "--now", timeout=40).returncode == 0
        assert wait_until(lambda: double.guests() == 0, 10)
        assert b.state()["state"] == "ended"


def test_nothing_outlives_a_killed_keeper(home, double):
    with home.background() as b:
        keeper = b.state()["pid"]
        assert double.guests() == 1
        tree = bottle.descendants(keeper)
        os.kill(keeper, signal.SIGKILL)
        assert wait_until(lambda: double.guests() == 0 and
                          not any(os.path.exists(f"/proc/{p}") for p in tree if p != keeper), 10)
        assert home.run("cleanup").returncode == 0
        assert not os.path.exists(b.folder)


def test_a_guest_that_dies_is_no_status_of_its_agent(home, behave):
    behave.misbehave("dies=8")
    r = home.start("sh", "-c", "sleep 60")
    assert r.returncode != 0 and "the bottle was stopped" in r.stderr, r.stderr


@pytest.mark.parametrize("how, reason", [
    ("start-fails", "smolvm machine start: Error: boot: the processor does not do what it should"),
    ("open-wall", "canary: "),
])
def test_what_does_not_hold_is_not_started(home, behave, how, reason):
    """With the wall taken away the canary must see it."""
    if how == "open-wall":
        how += " pull-ignored"  # the registry is in the wall
    behave.misbehave(*how.split())
    r = home.start("echo", "never")
    assert r.returncode == 1 and r.stdout == "" and reason in r.stderr, r.stderr
    assert wait_until(lambda: behave.guests() == 0, 5)


def test_commands_in_containers_of_their_own(home, behave):
    behave.misbehave("apart")
    with home.background("sh", "-c", "echo ready; sleep 600") as b:
        assert b.process.stdout.readline() == b"ready\n"
        assert b.exec("sh", "-c", "exit 3").returncode == 3


def test_a_slow_machine_is_waited_for(home, behave):
    behave.misbehave("boot=3")
    assert home.start("true").returncode == 0


@pytest.mark.parametrize("version", ["0.7.9", "0.9.0", "1.0.1", "2.0.0"])
def test_an_unknown_version_is_refused(home, double, version):
    before = double.current()
    double.version(version)
    try:
        r = home.start("true")
        assert r.returncode == 1
        assert r.stderr.splitlines()[-1] == (
            f"claude-bottle: smolvm {version} is not known here: its command line is, of versions 0.8.x, and 1.0.2 "
            "and later 1.x")
    finally:
        double.version(before)


def test_what_it_cannot_have(home, image):
    home.write_bottle("shared", image=image, expose=["/usr/share"])
    home.write_agent("shared", "shared")
    r = home.run("start", "shared", "--headless", "--", "true")
    assert r.returncode == 1 and "expose cannot be had with smolmachines" in r.stderr


def test_doctor(home):
    r = home.run("doctor", "--backend", "smolmachines")
    assert "asked in a wall and a cell" in r.stdout + r.stderr


def test_the_home_goes_on(home):
    r = home.start("sh", "-c", "echo kept > note; mkdir -m 0700 deep; echo x > deep/x; chmod 0400 deep/x; exit 3")
    assert r.returncode == 3, r.stderr
    slug = home.slugs()[-1] if len(home.slugs()) == 1 else max(
        home.slugs(), key=lambda s: os.stat(f"{home.state}/{s}/bottle.json").st_mtime)
    assert not os.path.exists(f"{home.state}/{slug}/smol")
    for _ in range(2):
        r = home.run("resume", slug, "--headless", "--", "sh", "-c", "cat note deep/x; ls -ld deep; echo more >> note")
        assert r.returncode == 0 and r.stdout.startswith("kept\n"), r.stderr
        assert "drwx------" in r.stdout
    assert r.stdout.startswith("kept\nmore\nx\n")
