"""git over ssh through the bundle: keyd, egress and gitssh for real, sshd and git for real. What a
server may be, do and say is tried at the same place."""
import hashlib
import os
import shutil
import socket
import struct
import subprocess
import threading
import time

import pytest

from gitssh_world import (HOST, RECEIVE, UPLOAD, Server, Sshd, World, cut_after, fingerprint, keygen,
                          public, remote)

pytestmark = pytest.mark.skipif(
    not shutil.which("sshd", path="/usr/sbin:/usr/local/sbin"), reason="no sshd: openssh-server")


def commit(folder, name, data):
    with open(f"{folder}/{name}", "wb") as f:
        f.write(data)
    for args in (["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", name]):
        subprocess.run(["git", "-C", folder, *args], check=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Keys, and a repository with a few megabytes that do not compress."""
    d = str(tmp_path_factory.mktemp("gitssh"))
    for name in ("host", "host2", "user", "other"):
        keygen(f"{d}/{name}")
    for kind, bits in (("ecdsa", "256"), ("rsa", "2048")):
        keygen(f"{d}/host-{kind}", kind, "-b", bits)
        keygen(f"{d}/user-{kind}", kind, "-b", bits)
    subprocess.run(["git", "init", "-q", "-b", "main", f"{d}/work"], check=True)
    for n in range(3):
        commit(f"{d}/work", f"f{n}", os.urandom(2 << 20))
    subprocess.run(["git", "clone", "-q", "--bare", f"{d}/work", f"{d}/up.git"], check=True)
    return d


@pytest.fixture(scope="module")
def sshd(place):
    s = Sshd(f"{place}/sshd", [f"{place}/host", f"{place}/host-ecdsa", f"{place}/host-rsa"],
             [public(f"{place}/{k}") for k in ("user", "user-ecdsa", "user-rsa")],
             # Keys are exchanged anew many times in a transfer.
             ["RekeyLimit 1M"])
    who = subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()
    r = subprocess.run(["ssh", "-F", "none", "-p", str(s.port), "-i", f"{place}/user", "-oBatchMode=yes",
                        "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null",
                        f"{who}@127.0.0.1", "true"], capture_output=True, text=True, timeout=30)
    if r.returncode != 0:
        s.close()
        pytest.skip(f"sshd does not let {who} in here: a locked account, or no shell")
    yield s
    s.close()


@pytest.fixture
def world(place, sshd):
    made = []

    def make(remotes, keys=None, **more):
        made.append(World(remotes, keys or [f"{place}/user"], **more))
        return made[-1]

    yield make
    for w in made:
        w.close()


def one(place, sshd, **more):
    args = {"name": "origin", "port": sshd.port, "path": f"{place}/up.git", "credential": 0,
            "host_key": public(f"{place}/host"), **more}
    return remote(**args)


def heads(path):
    return subprocess.run(["git", "-C", path, "for-each-ref"], capture_output=True, text=True,
                          check=True).stdout


@pytest.mark.parametrize("kind", ["", "-ecdsa", "-rsa"])
def test_clone_and_push(place, sshd, world, tmp_path, kind):
    """With every kind of key, on both sides; nothing of the transfer is different at the end."""
    w = world([one(place, sshd, host_key=public(f"{place}/host{kind}"))], [f"{place}/user{kind}"])
    w.git("clone", "-q", f"ssh://{HOST}/x", str(tmp_path / "c"))
    assert heads(f"{place}/work").split()[0] in heads(str(tmp_path / "c"))
    subprocess.run(["git", "-C", str(tmp_path / "c"), "fsck", "--strict"], check=True)
    commit(str(tmp_path / "c"), "new", os.urandom(3 << 20))
    branch = f"refs/heads/it{kind}"
    w.git("push", "-q", f"ssh://{HOST}/x", f"HEAD:{branch}", cwd=str(tmp_path / "c"))
    assert branch in heads(f"{place}/up.git")
    # Three good connections, and nothing to be told about them.
    w.record.settimeout(0.5)
    with pytest.raises(TimeoutError):
        w.recorded()


def test_many_at_once(place, sshd, world, tmp_path):
    """More than there may be children: the rest waits, and nobody gets another's answers."""
    w = world([one(place, sshd)])
    results = []

    def clone(n):
        results.append(w.git("clone", "-q", f"ssh://{HOST}/x", str(tmp_path / f"c{n}"), check=False))

    threads = [threading.Thread(target=clone, args=(n,)) for n in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [r.returncode for r in results] == [0] * 12, [r.stderr for r in results]


def test_refs_answer_is_raw(place, sshd, world):
    """The protocol as it is, to the last byte, and an end that is an end."""
    w = world([one(place, sshd)])
    stream, why = w.ask()
    with stream:
        stream.sendall(b"0000")
        data = b""
        while True:
            piece = stream.recv(65536)
            if not piece:
                break
            data += piece
    assert w.why(why) == ""
    want = subprocess.run(["git", "upload-pack", f"{place}/up.git"], input=b"0000",
                          capture_output=True).stdout
    assert data == want


def test_wrong_host_key(place, sshd, world):
    w = world([one(place, sshd, host_key=public(f"{place}/host2"))])
    why = w.failure()
    assert "the host key is not the pinned one" in why
    assert fingerprint(f"{place}/host") in why and fingerprint(f"{place}/host2") in why
    assert w.recorded() == {"role": "gitssh", "reason": "ssh-host-key", "rule": "origin"}
    log = open(sshd.log).read()
    assert "Failed publickey" not in log[log.rfind("Connection from"):]


def test_host_key_of_another_kind(place, world, tmp_path):
    s = Sshd(str(tmp_path / "s"), [f"{place}/host-ecdsa"], [public(f"{place}/user")])
    try:
        why = world([one(place, s)]).failure()
        assert "host key" in why and "ssh-ed25519" in why
    finally:
        s.close()


def test_wrong_user_key(place, sshd, world):
    w = world([one(place, sshd)], [f"{place}/other"])
    assert "does not let" in w.failure() and HOST in w.failure()
    assert w.recorded()["reason"] == "ssh-auth-refused"


def test_each_remote_has_its_own_key(place, sshd, world, tmp_path):
    os.symlink("up.git", f"{place}/up2.git")
    w = world([one(place, sshd, name="a", credential=1), one(place, sshd, name="b", credential=0,
                                                             path=f"{place}/up2.git")],
              [f"{place}/user", f"{place}/other"])
    assert "does not let" in w.failure(0)
    w.git("clone", "-q", f"ssh://{HOST}/x", str(tmp_path / "c"), place=1)


def test_no_such_repository(place, sshd, world):
    w = world([one(place, sshd, path=f"{place}/nothing.git")])
    why = w.failure()
    assert "status 128" in why and "does not appear to be a git repository" in why


def test_nobody_listens(place, world):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        w = world([one(place, type("S", (), {"port": s.getsockname()[1]}))])
        assert "connect-failed" in w.failure()
    reasons = {w.recorded()["reason"], w.recorded()["reason"]}
    assert reasons == {"connect-failed", "ssh-failed"}


def test_inside_address_is_not_dialled(place, sshd, world):
    """The name leads to loopback, and no operator has said that it may."""
    w = world([one(place, sshd, host="localtest.example")],
              resolve=[{"host": "else.example.test", "address": "127.0.0.1"}])
    assert "dns-" in w.failure()


@pytest.mark.parametrize("n_bytes", [0, 1, 20, 41, 300, 1100, 1500, 2200, 3000, 4000, 100000, 2000000])
def test_server_goes_away(place, sshd, world, tmp_path, n_bytes):
    """At whatever moment: an end with a reason, never a hang, never half a repository."""
    between = cut_after(sshd.port, n_bytes)
    try:
        w = world([one(place, between)])
        r = w.git("clone", "-q", f"ssh://{HOST}/x", str(tmp_path / "c"), check=False)
        assert r.returncode != 0 and not os.path.exists(tmp_path / "c")
    finally:
        between.close()


def forced(place, tmp_path, script):
    """A server on which any command is this one."""
    path = tmp_path / "command"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return Sshd(str(tmp_path / "s"), [f"{place}/host"], [public(f"{place}/user")],
                [f"ForceCommand {path}"])


def test_git_on_the_server_fails(place, sshd, world, tmp_path):
    """Its words are a stranger's, however many they are."""
    s = forced(place, tmp_path, "head -c 3000000 /dev/zero | tr '\\0' 'x' >&2; exit 3\n")
    try:
        why = world([one(place, s)]).failure()
        assert "status 3: xxx" in why and 400 < len(why) <= 512
    finally:
        s.close()


def test_words_are_made_visible(place, sshd, world, tmp_path):
    s = forced(place, tmp_path, "printf '\\033[2J\\033]0;x\\007 two\\nlines \\377' >&2; exit 1\n")
    try:
        why = world([one(place, s)]).failure()
        assert why.isprintable() and "two\\nlines" in why and "\\xff" in why.lower()
    finally:
        s.close()


def test_output_and_then_an_error(place, sshd, world, tmp_path):
    """What was said before the error arrives whole, and then the reason."""
    s = forced(place, tmp_path, "head -c 1000000 /dev/zero; echo sorry >&2; kill -9 $$\n")
    try:
        w = world([one(place, s)])
        stream, why = w.ask()
        n = 0
        while data := stream.recv(65536):
            n += len(data)
        assert n == 1000000
        assert "ended by a signal" in w.why(why)
    finally:
        s.close()


def test_git_gate_gives_up_on_a_silent_server(place, sshd, world, tmp_path):
    s = forced(place, tmp_path, "exec sleep 1000\n")
    try:
        w = world([one(place, s)])
        stream, why = w.ask()
        time.sleep(2)
        stream.close()
        assert w.why(why, 5) == ""
    finally:
        s.close()


GARBAGE = {
    "nothing but the end": b"",
    "http": b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n",
    "old": b"SSH-1.5-old\r\n",
    "binary": bytes(range(256)) * 64,
    "one long line": b"A" * 100000,
    "many lines": b"hello\r\n" * 10000,
    "a banner and binary": b"SSH-2.0-x\r\n" + bytes(range(256)) * 64,
    "a banner and a huge packet": b"SSH-2.0-x\r\n" + b"\x7f\xff\xff\xff" + b"\x14" * 40000,
    "a banner and zeroes": b"SSH-2.0-x\r\n" + bytes(40000),
    "escapes": b"SSH-2.0-\x1b[2J\x1b]0;owned\x07\r\n" + b"\x00\x00\x00\x0c\x04\x14" + bytes(60),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage(place, world, what):
    s = Server(lambda c: c.sendall(GARBAGE[what]))
    try:
        w = world([one(place, s)])
        why = w.failure()
        assert why and why.isprintable(), why
        assert w.recorded()["reason"] == "ssh-failed"
        assert w.roles["gitssh"].poll() is None
    finally:
        s.close()


def test_server_never_answers(place, world):
    """Ten seconds, not a quarter of an hour."""
    s = Server(lambda c: time.sleep(60))
    try:
        w = world([one(place, s)])
        before = time.monotonic()
        assert "imeout" in w.failure()
        assert 8 < time.monotonic() - before < 20
    finally:
        s.close()


def test_server_drips(place, world):
    """A byte now and then is no progress."""

    def drip(c):
        while True:
            c.sendall(b"x")
            time.sleep(0.5)

    s = Server(drip)
    try:
        w = world([one(place, s)])
        before = time.monotonic()
        assert w.failure()
        assert time.monotonic() - before < 70
    finally:
        s.close()


def test_malformed_requests_cost_themselves(place, sshd, world, tmp_path):
    w = world([one(place, sshd)])
    for raw in (struct.pack("HHI", 1, UPLOAD, 0), struct.pack("HHI", 0, 0, 0),
                struct.pack("HHI", 0, 3, 0), struct.pack("HHI", 0, UPLOAD, 1), b"x", b"x" * 100):
        stream, why = w.ask(raw=raw)
        assert stream.recv(1) == b"" and w.why(why) == ""
    w.stream[0].send(struct.pack("HHI", 0, UPLOAD, 0))
    w.git("clone", "-q", f"ssh://{HOST}/x", str(tmp_path / "c"))


def test_git_gate_goes_away(place, sshd, world):
    """Its end closed in the middle: the child ends, and the next one is served."""
    w = world([one(place, sshd)])
    pid = w.roles["gitssh"].pid
    for _ in range(10):
        stream, why = w.ask()
        assert stream.recv(100)
        stream.close()
        assert w.why(why) == ""
    deadline = time.monotonic() + 10
    children = lambda: open(f"/proc/{pid}/task/{pid}/children").read().split()  # noqa: E731
    while children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children() == []


def test_slow_reader(place, sshd, world):
    """git-gate does not read: what is kept for it is bounded."""
    w = world([one(place, sshd)])
    stream, why = w.ask()
    with stream:
        refs = b""
        while not refs.endswith(b"0000"):
            refs += stream.recv(65536)
        tip = refs[4:44]
        want = b"want " + tip + b"\n"
        stream.sendall(b"%04x%b0000%04xdone\n" % (len(want) + 4, want, 9))
        time.sleep(1)
        pid = w.roles["gitssh"].pid
        child = open(f"/proc/{pid}/task/{pid}/children").read().split()[0]
        rss = int([line for line in open(f"/proc/{child}/status") if "VmRSS" in line][0].split()[1])
        assert rss < 24 << 10
        # And it waits without spinning.
        before = sum(map(int, open(f"/proc/{child}/stat").read().split()[13:15]))
        time.sleep(2)
        after = sum(map(int, open(f"/proc/{child}/stat").read().split()[13:15]))
        assert after - before < 20
        digest, total = hashlib.sha1(), 0
        while True:
            data = stream.recv(65536)
            if not data:
                break
            total += len(data)
        assert total > 6 << 20
    assert w.why(why) == ""


def test_nothing_of_the_host_is_looked_at(place, sshd, world, tmp_path):
    """No file is opened by gitssh after it is ready, and none of the user's before."""
    if not shutil.which("strace"):
        pytest.skip("no strace")
    w = world([one(place, sshd)])
    trace = f"{place}/trace"
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-e", "trace=%file,socket,execve", "-o", trace,
                               "-p", str(w.roles["gitssh"].pid)], stderr=subprocess.PIPE)
    time.sleep(1)
    if tracer.poll() is not None:
        pytest.skip("a role cannot be traced here")
    w.git("clone", "-q", f"ssh://{HOST}/x", str(tmp_path / "c"))
    tracer.terminate()
    tracer.wait(10)
    calls = [line for line in open(trace) if "(" in line and "+++" not in line]
    assert [c for c in calls if "= -1 EACCES" not in c] == []


def test_keys_that_cannot_be_used(place, sshd, tmp_path):
    """The bundle does not start, and says what to do."""
    encrypted = str(tmp_path / "k")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", encrypted], check=True)
    with pytest.raises(RuntimeError, match="keyd does not start"):
        World([one(place, sshd)], [encrypted])


def test_dead_keyd_is_a_login_that_fails(place, sshd, world):
    w = world([one(place, sshd)])
    w.roles["keyd"].kill()
    w.roles["keyd"].wait(10)
    before = time.monotonic()
    assert "keyd gave no signature" in w.failure(service=RECEIVE)
    assert time.monotonic() - before < 30
    assert w.roles["gitssh"].poll() is None
