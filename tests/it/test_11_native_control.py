"""The keeper's control socket, spoken to directly: order, caps, nonsense."""
import json
import os
import socket
import subprocess
import sys
import time

import bottle
import pytest

from test_10_native_keeper import box, detached, state_of, tree  # noqa: F401


class Control:
    def __init__(self, home, slug):
        folder = os.open(f"{home.state}/{slug}", os.O_RDONLY)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(10)
        self.sock.connect(f"/proc/self/fd/{folder}/control.sock")
        os.close(folder)

    def send(self, kind, body=b""):
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        self.sock.send(kind.encode() + body)

    def recv(self):
        data = self.sock.recv(1 << 17)
        return (data[:1].decode(), data[1:]) if data else None

    def until(self, kind):
        got = b""
        while True:
            m = self.recv()
            assert m is not None, got
            if m[0] == kind:
                return got, json.loads(m[1]) if m[1][:1] == b"{" else m[1]
            got += m[1]


@pytest.fixture
def running(box):
    slug, state = detached(box, "sh", "-c", "while read l; do echo got-$l; done")
    yield box, slug
    box.run("stop", slug, "--now")
    assert state_of(box, slug)["state"] == "ended"


def test_status(running):
    home, slug = running
    c = Control(home, slug)
    c.send("?")
    _, state = c.until("!")
    assert state == state_of(home, slug)
    assert (state["state"], state["backend"], state["tty"]) == ("running", "native", True)
    assert state["exit_status"] is None and state["limits"]


@pytest.mark.parametrize("message", [
    ("A", b""), ("A", b"{"), ("A", b"[]"), ("A", b'{"own":true,"own":false}'), ("Z", b"{}"),
    ("E", b"{}"), ("E", b'{"argv":[]}'), ("E", b'{"argv":[1]}'), ("E", b'{"argv":[""]}'),
    ("E", b'{"argv":["a\\u0000b"]}'), ("\0", b""),
    ("E", json.dumps({"argv": ["x"] * 300}).encode()), ("E", b"[" * 60000)])
def test_nonsense_is_refused(running, message):
    home, slug = running
    c = Control(home, slug)
    c.send(*message)
    _, why = c.until("f")
    assert why["text"]
    assert c.recv() is None
    Control(home, slug).send("?")
    assert state_of(home, slug)["state"] == "running"


def test_too_long(running):
    home, slug = running
    c = Control(home, slug)
    c.send("i", b"x" * 70000)
    assert "too long" in c.until("f")[1]["text"]


def test_harmless_before_attach(running):
    home, slug = running
    c = Control(home, slug)
    for kind, body in (("i", b"ignored\n"), ("w", {"rows": 5}), ("s", {"signal": 9}),
                       ("s", {"signal": -1}), ("w", {"rows": 10**9, "columns": "x"})):
        c.send(kind, body)
    c.send("?")
    assert c.until("!")[1]["state"] == "running"


def test_several_clients(running):
    home, slug = running
    a, b = Control(home, slug), Control(home, slug)
    a.send("A", {"tty": True, "rows": 20, "columns": 70, "own": False})
    b.send("A", {"tty": True, "rows": 20, "columns": 70, "own": False})
    a.send("i", b"one\n")

    def expect(c, what):
        got = b""
        while what not in got:
            got += c.recv()[1]

    expect(a, b"got-one")
    expect(b, b"got-one")
    late = Control(home, slug)
    late.send("A", {})
    expect(late, b"got-one")
    # one connection, one thing
    late.send("E", {"argv": ["true"]})
    assert "in use" in late.until("f")[1]["text"]
    b.send("k", {"grace_ms": 0})
    assert a.until("x")[1]["status"] == 137
    assert b.until("x")[1]["status"] == 137
    assert a.recv() is None


def test_slow_reader_loses_nothing(running):
    home, slug = running
    c = Control(home, slug)
    c.send("E", {"argv": ["head", "-c", "4000000", "/dev/zero"]})
    time.sleep(1)
    got, end = c.until("x")
    assert len(got) == 4000000 and end["status"] == 0


def test_client_cap(running):
    home, slug = running
    many = [Control(home, slug) for _ in range(32)]
    many[-1].send("?")
    many[-1].until("!")
    with pytest.raises(OSError):
        c = Control(home, slug)
        c.send("?")
        assert c.recv() is None
        raise OSError("refused")
    many.pop().sock.close()
    assert bottle.wait_until(lambda: works(home, slug), 10)


def works(home, slug):
    c = Control(home, slug)
    try:
        c.send("?")
        return c.recv() is not None
    except OSError:
        return False


def test_exec_cap(running):
    home, slug = running
    many = [Control(home, slug) for _ in range(17)]
    for c in many:
        c.send("E", {"argv": ["sleep", "100"]})
    assert "too many" in many[-1].until("f")[1]["text"]
    many[0].send("s", {"signal": 15})
    assert many[0].until("x")[1]["status"] == 143
    # whoever goes away takes its command along
    for c in many[1:-1]:
        c.sock.close()
    c = Control(home, slug)
    assert bottle.wait_until(lambda: try_exec(home, slug), 10)


def try_exec(home, slug):
    c = Control(home, slug)
    c.send("E", {"argv": ["true"]})
    kind, body = c.recv()
    return kind == "x"


def test_owner(running):
    home, slug = running
    c = Control(home, slug)
    c.send("A", {"own": True})
    c.send("A", {"own": False})  # detach: it goes on
    c.sock.close()
    time.sleep(0.2)
    c = Control(home, slug)
    c.send("A", {"own": True})
    c.send("?")
    c.until("!")
    c.sock.close()
    assert bottle.wait_until(lambda: state_of(home, slug)["state"] == "ended", 10)


def test_other_users_are_refused(running, scratch):
    """Root may, other users may not, even if the folder lets them in."""
    home, slug = running
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    code = ("import socket,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET)\n"
            "s.settimeout(5)\ns.connect(sys.argv[1])\n"
            "try:\n s.send(b'?'); print(len(s.recv(65536)))\nexcept OSError: print(0)\n")
    folder = f"{home.state}/{slug}"
    parts = [folder[:i] for i in range(len(folder) + 1) if folder[i:i + 1] in ("/", "")][1:]
    modes = {part: os.stat(part).st_mode & 0o7777 for part in parts if part != "/tmp"}
    for part in modes:
        os.chmod(part, 0o755)
    os.chmod(f"{folder}/control.sock", 0o666)
    r = subprocess.run(["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "/usr/bin/python3", "-c",
                        code, f"{folder}/control.sock"], capture_output=True, text=True)
    assert r.stdout == "0\n", r.stdout + r.stderr
    r = subprocess.run([sys.executable, "-c", code, f"{folder}/control.sock"], capture_output=True,
                       text=True)
    assert int(r.stdout) > 10
    # The command refuses a state folder that others may enter, to stop a bottle too.
    for part, mode in modes.items():
        os.chmod(part, mode)
