"""The terminal client against a keeper that this file plays: streams, signals, terminal, status."""
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import termios
import threading
import time

import bottle
import pytest
import session

SLUG = "worker-played"


class Keeper:
    """One bottle whose keeper is us: holds the lock, listens, speaks as backend/keeper.h says."""

    def __init__(self, home):
        self.home = home
        self.folder = f"{home.state}/{SLUG}"
        for part in (f"{home.folder}/.local", f"{home.folder}/.local/state",
                     f"{home.folder}/.local/state/claude-bottle", home.state, self.folder):
            os.makedirs(part, mode=0o700, exist_ok=True)
        self.lock = open(f"{self.folder}/lock", "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        with open(f"{self.folder}/bottle.json", "w") as f:
            json.dump({"slug": SLUG, "agent": "worker", "state": "running", "pid": 0}, f)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(f"{self.folder}/control.sock")
        self.listener.listen(4)
        self.listener.settimeout(10)
        self.peer = None

    def accept(self):
        self.peer, _ = self.listener.accept()
        self.peer.settimeout(10)
        return self.take()

    def take(self, *but):
        """The next message as (type, body); types named in but are passed over."""
        while True:
            m = self.peer.recv(65536)
            if not m:
                return "", b""
            kind = chr(m[0])
            if kind not in but:
                return kind, (m[1:] if kind == "i" else json.loads(m[1:]))

    def say(self, kind, body=b""):
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        self.peer.sendall(kind.encode() + body)

    def end(self, status):
        self.say("x", {"status": status})

    def close(self):
        for s in (self.peer, self.listener):
            if s:
                s.close()
        self.lock.close()


@pytest.fixture
def keeper(make_home):
    k = Keeper(make_home())
    yield k
    k.close()


def spawn(keeper, *args, **more):
    more.setdefault("stdin", subprocess.PIPE)
    return subprocess.Popen([bottle.executable(), *args], env=keeper.home.env(),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def finish(process, input=None):
    out, err = process.communicate(input, timeout=15)
    return process.returncode, out, err


def wait_relaying(keeper, process):
    """Output that has come through shows that the signal handlers are in place."""
    keeper.say("o", b".")
    assert os.read(process.stdout.fileno(), 1) == b"."


def test_exec_relays_three_streams_and_the_status(keeper):
    p = spawn(keeper, "exec", SLUG, "cat", "--all", "a b", "ü")
    kind, body = keeper.accept()
    assert kind == "E"
    assert body["argv"] == ["cat", "--all", "a b", "ü"] and body["tty"] is False
    p.stdin.write(b"typed\0\xff")
    p.stdin.flush()
    assert keeper.take() == ("i", b"typed\0\xff")
    keeper.say("o", b"out\0\xff")
    keeper.say("e", b"err\n")
    p.stdin.close()
    p.stdin = None
    assert keeper.take() == ("i", b""), "end of input is an empty message"
    keeper.end(41)
    assert finish(p) == (41, b"out\0\xff", b"err\n")


@pytest.mark.parametrize("status", [0, 1, 2, 137, 143])
def test_status_is_kept(keeper, status):
    p = spawn(keeper, "exec", SLUG, "--", "true", stdin=subprocess.DEVNULL)
    keeper.accept()
    keeper.end(status)
    assert finish(p)[0] == status


def test_large_streams_both_ways_without_a_reader_in_between(keeper):
    data = os.urandom(3 << 20)
    p = spawn(keeper, "exec", SLUG, "cat")
    keeper.accept()
    got = []

    def echo():
        while True:
            kind, body = keeper.take()
            if kind != "i":
                return
            got.append(body)
            if not body:
                keeper.end(0)
                return
            keeper.say("o", body)

    t = threading.Thread(target=echo)
    t.start()
    status, out, err = finish(p, data)
    t.join(10)
    assert status == 0 and out == data and b"".join(got) == data and err == b""


def test_a_refusal_is_one_line(keeper):
    p = spawn(keeper, "exec", SLUG, "--", "nothing", stdin=subprocess.DEVNULL)
    keeper.accept()
    keeper.say("f", {"text": "nothing: not\x1b[2J found"})
    status, out, err = finish(p)
    assert status == 1 and out == b""
    assert err == f"claude-bottle: {SLUG}: nothing: not\\x1b[2J found\n".encode()


def test_a_keeper_that_dies_is_said(keeper):
    p = spawn(keeper, "exec", SLUG, "--", "sleep", "9", stdin=subprocess.DEVNULL)
    keeper.accept()
    keeper.peer.close()
    status, _, err = finish(p)
    assert status == 1 and b"is gone" in err and err.count(b"\n") == 1


def test_nonsense_from_the_keeper_is_survived(keeper):
    p = spawn(keeper, "exec", SLUG, "--", "true", stdin=subprocess.DEVNULL)
    keeper.accept()
    keeper.say("Z", b"what")
    keeper.say("!", b"{")
    keeper.say("o")
    keeper.say("x", b"not json")
    assert finish(p)[0] == 1


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_exec_forwards_signals_and_the_third_ends_it(keeper, sig):
    p = spawn(keeper, "exec", SLUG, "--", "sleep", "9")
    keeper.accept()
    wait_relaying(keeper, p)
    for _ in range(2):
        p.send_signal(sig)
        assert keeper.take() == ("s", {"signal": int(sig)})
    assert p.poll() is None
    p.send_signal(sig)
    status, _, _ = finish(p)
    assert status == 128 + sig


def test_nohup_is_respected(keeper):
    p = spawn(keeper, "exec", SLUG, "--", "sleep", "9",
              preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    keeper.accept()
    wait_relaying(keeper, p)
    p.send_signal(signal.SIGHUP)
    p.send_signal(signal.SIGTERM)
    assert keeper.take() == ("s", {"signal": int(signal.SIGTERM)})
    keeper.end(0)
    assert finish(p)[0] == 0


def test_a_reader_that_goes_away_ends_it(keeper):
    p = spawn(keeper, "exec", SLUG, "--", "yes", stdin=subprocess.DEVNULL)
    keeper.accept()
    p.stdout.close()
    p.stdout = None
    keeper.say("o", b"y\n")
    assert p.wait(10) == 128 + signal.SIGPIPE
    assert keeper.take("i") == ("", b"")


def test_attach_without_a_terminal_only_watches(keeper):
    p = spawn(keeper, "attach", SLUG)
    kind, body = keeper.accept()
    assert kind == "A" and body["tty"] is False and body["own"] is False
    keeper.say("o", b"hello\n")
    assert p.stdout.readline() == b"hello\n"
    p.send_signal(signal.SIGTERM)
    assert finish(p)[0] == 128 + signal.SIGTERM
    assert keeper.take() == ("", b""), "no input, no signal for the agent"


# --- with a terminal ---

class Terminal(session.Terminal):
    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def wait_raw(self):
        assert bottle.wait_until(self.is_raw, 10), self.read(0)

    def read(self, seconds=0.3):
        while select.select([self.master], [], [], seconds)[0]:
            self.seen += os.read(self.master, 65536)
        return self.seen


@pytest.fixture
def terminal(keeper):
    made = []

    def make(*args):
        t = Terminal(keeper.home, *args, rows=30, columns=100)
        made.append(t)
        return t

    yield make
    for t in made:
        t.close()


def test_terminal_is_raw_relayed_and_restored(keeper, terminal):
    t = terminal("exec", SLUG, "sh")
    kind, body = keeper.accept()
    assert kind == "E" and (body["tty"], body["rows"], body["columns"]) == (True, 30, 100)
    t.wait_raw()
    t.type(b"\x03\x1a\x04\r\x1c")  # all of them the agent's, the client sends no signal itself
    got = b""
    while len(got) < 5:
        kind, body = keeper.take("w")
        assert kind == "i"
        got += body
    assert got == b"\x03\x1a\x04\r\x1c"
    keeper.say("o", b"\x1b[?1049h\x1b[?25l\x1b[?1000hhello")
    keeper.end(7)
    assert t.wait(10) == 7
    assert t.read() == (b"\x1b[?1049h\x1b[?25l\x1b[?1000hhello"
                        b"\x18\x1b[0m\x1b[?25h\x1b[?1000l\x1b[?1049l")


def test_terminal_size_is_followed(keeper, terminal):
    t = terminal("exec", SLUG, "sh")
    keeper.accept()
    t.wait_raw()
    t.set_size(44, 123)
    kind, body = keeper.take()
    assert (kind, body) == ("w", {"rows": 44, "columns": 123})
    keeper.end(0)
    t.wait(10)


def test_detach_keys(keeper, terminal):
    t = terminal("attach", SLUG)
    kind, body = keeper.accept()
    assert kind == "A" and body == {"tty": True, "rows": 30, "columns": 100, "own": False}
    t.wait_raw()
    # Who comes later wants the program drawn again: the size changes and comes back.
    assert keeper.take() == ("w", {"rows": 29, "columns": 100})
    assert keeper.take() == ("w", {"rows": 30, "columns": 100})
    t.type(b"ab\x1c\x1c")
    assert keeper.take() == ("i", b"ab\x1c")
    t.type(b"cd\x1cdef")
    assert keeper.take() == ("i", b"cd")
    assert t.wait(10) == 0
    assert b"detached from " + SLUG.encode() in t.read()
    assert keeper.take() == ("", b"")


@pytest.mark.parametrize("how", ["term", "hup", "keeper", "hangup-keeper-refuses"])
def test_terminal_is_restored_however_it_ends(keeper, terminal, how):
    t = terminal("attach", SLUG)
    keeper.accept()
    t.wait_raw()
    keeper.say("o", b"\x1b[?1049h")
    time.sleep(0.1)
    if how == "keeper":
        keeper.peer.close()
        expected = 1
    elif how == "hangup-keeper-refuses":
        keeper.say("f", {"text": "no"})
        expected = 1
    else:
        sig = {"term": signal.SIGTERM, "hup": signal.SIGHUP}[how]
        t.process.send_signal(sig)
        expected = 128 + sig
    assert t.wait(10) == expected
    assert b"\x1b[?1049l" in t.read()


def test_abort_restores_too(keeper, terminal):
    t = terminal("attach", SLUG)
    keeper.accept()
    t.wait_raw()
    t.process.send_signal(signal.SIGABRT)
    assert t.wait(10) == -signal.SIGABRT


def test_answers_to_late_questions_do_not_reach_the_shell(keeper, terminal):
    t = terminal("exec", SLUG, "sh")
    keeper.accept()
    t.wait_raw()
    os.kill(t.process.pid, signal.SIGSTOP)
    keeper.say("o", b"\x1b[c")
    keeper.end(0)
    t.type(b"\x1b[?62cecho planted\r")  # what a terminal would answer
    os.kill(t.process.pid, signal.SIGCONT)
    t.wait(10)
    got, _, _ = select.select([t.slave], [], [], 0.2)
    assert got == []


def test_a_gone_terminal_ends_the_client(keeper, terminal):
    t = terminal("attach", SLUG)
    keeper.accept()
    t.wait_raw()
    t.hang_up()
    assert t.process.wait(10) == 128 + signal.SIGHUP
