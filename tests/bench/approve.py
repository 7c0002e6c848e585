"""How long a human's yes takes: from the key, or the command, that approves to the end of the request that the
agent had waited for. The peer is squid, with a list of hosts in a file, which is changed and read anew (SIGHUP): from
there to the first request that passes. And the faces before 10,000 pending requests."""
import fcntl
import json
import os
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import tempfile
import time

import asking
import bottle
import peers
import tmux
from figures import LOAD, QUICK, emit, mib, note, wanted

ROUNDS = 3 if QUICK else 5  # each asks twice; an agent may ask ten new things at once
PENDING = 10_000
SETTLED_S = 0.6  # a request must have been on the screen for 500 ms before a key approves it

# The agent asks and waits; once it is granted, it calls, and says when the answer was there.
CALL = r"""
ask() { curl -sS -D /tmp/head -H 'Content-Type: application/json' -H 'Accept: application/json' "$@" \
        "$CLAUDE_BOTTLE_SUPERVISE_URL"; }
ask -d '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}' >/dev/null
session=$(sed -n 's/^[Mm]cp-[Ss]ession-[Ii]d: *\([0-9a-f]*\).*/\1/p' /tmp/head)
ask -H "Mcp-Session-Id: $session" -H 'MCP-Protocol-Version: 2025-11-25' \
    -d '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"request_egress","arguments":{"host":"HOST","ports":[443],"methods":["GET"],"paths":["PATH"],"reason":"bench","wait_seconds":50}}}' >/tmp/said
curl -sS -o /dev/null -w '%{http_code} ' --max-time 10 https://HOST:443PATH
date +%s%N
"""


class Asked:
    """A bottle whose agent waits for an answer."""

    def __init__(self, world):
        self.home = bottle.Home(f"{world.folder}/approve")
        self.home.write_bottle("box", supervise=True, ca=world.authority.path,
                               resolve={peers.NAME: f"127.0.0.1:{world.nginx.port}"})
        self.home.write_agent()
        self.running = self.home.background()
        self.human, self.n = asking.Human(self.home, self.running.slug), 0

    def ask(self):
        """Another path each time, so that each is a request of its own."""
        self.n += 1
        script = CALL.replace("HOST", peers.NAME).replace("PATH", f"/1k/{self.n}")
        self.call = subprocess.Popen(
            self.home.argv(["exec", self.running.slug, "--", "sh", "-c", script]), env=self.home.env(),
            cwd=self.home.cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert bottle.wait_until(lambda: len(self.human.pending()) == 1, 10), self.call.communicate()
        return self.human.show(self.human.pending()[0]["id"])

    def took_ms(self, began_ns):
        out, err = self.call.communicate(timeout=60)
        status, _, stamp = out.partition(" ")
        if status not in ("200", "404"):  # nginx has no such file; it was asked for it
            raise RuntimeError(f"the agent got {status}: {err}")
        return (int(stamp) - began_ns) / 1e6

    def stop(self):
        self.running.stop()
        self.home.remove()


def by_command(asked):
    seen = asked.ask()
    began_ns = time.time_ns()
    asked.human.run("approve", asked.running.slug, str(seen["id"]), "--hash", seen["hash"], "--for-bottle")
    return asked.took_ms(began_ns)


def by_key(asked, screen):
    asked.ask()
    screen.expect("1 pending")
    screen.keys("Down", "Enter")
    screen.expect("hash ")
    time.sleep(SETTLED_S)
    began_ns = time.time_ns()
    screen.keys("b")
    took = asked.took_ms(began_ns)
    screen.expect("0 pending")
    return took


class ListingSquid(peers.Squid):
    """Lets pass what a file names."""

    def __init__(self, folder, authority, upstream_port):
        super().__init__(folder, authority, upstream_port)
        self.upstream_port, self.granted = upstream_port, f"{self.folder}/granted"
        self.write("nobody.test")
        with open(f"{self.folder}/squid.conf") as f:
            text = f.read()
        with open(f"{self.folder}/squid.conf", "w") as f:
            f.write(text.replace("http_access allow all",
                                 f'acl granted dstdomain "{self.granted}"\nhttp_access allow granted\nhttp_access deny all'))

    def write(self, host):
        with open(self.granted, "w") as f:
            f.write(host + "\n")

    def passes(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as s:
                s.sendall(f"CONNECT {peers.NAME}:{self.upstream_port} HTTP/1.1\r\nHost: {peers.NAME}\r\n\r\n".encode())
                if b" 200 " not in s.recv(4096).split(b"\r\n")[0]:
                    return False
                context = ssl.create_default_context(cafile=self.ca)
                with context.wrap_socket(s, server_hostname=peers.NAME) as t:
                    t.sendall(f"GET /1k HTTP/1.1\r\nHost: {peers.NAME}:{self.upstream_port}\r\nConnection: close\r\n\r\n".encode())
                    return t.recv(4096).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def approve_ms(self):
        self.write("nobody.test")
        os.kill(self.process.pid, signal.SIGHUP)
        assert bottle.wait_until(lambda: not self.passes(), 30)
        time.sleep(0.5)
        began = time.monotonic()
        self.write(peers.NAME)
        os.kill(self.process.pid, signal.SIGHUP)
        while not self.passes():
            if time.monotonic() - began > 60:
                raise RuntimeError("squid does not let it pass")
            time.sleep(0.002)
        return (time.monotonic() - began) * 1000


def measure_approving(world):
    note("approving")
    asked, ours, keys = Asked(world), [], []
    screen_folder = tempfile.mkdtemp(prefix="s", dir=world.folder)
    squid = ListingSquid(world.folder, world.authority, world.nginx.port).start() if shutil.which("squid") else None
    theirs = []
    try:
        command = " ".join(asked.home.argv(["supervise", asked.running.slug]))
        screen = tmux.Screen(screen_folder, command, asked.home.env()) if shutil.which("tmux") else None
        try:
            for _ in range(ROUNDS):
                ours.append(by_command(asked))
                if screen:
                    keys.append(by_key(asked, screen))
                if squid:
                    theirs.append(squid.approve_ms())
            if screen:
                emit("memory_face_terminal", mib(peers.pss_kib([screen.pid_of("supervise")])), "MiB")
        finally:
            if screen:
                screen.close()
        pids = asked.running.roles()
        emit("memory_supervise", mib(peers.pss_kib(pids["supervise"])), "MiB")
    finally:
        asked.stop()
        if squid:
            squid.stop()
    peer = dict(peer="squid, list and SIGHUP", peer_value=statistics.median(theirs),
                is_lower_better=True) if theirs else {}
    if keys:
        emit("approve_key", statistics.median(keys), "ms", **peer)
    emit("approve_command", statistics.median(ours), "ms", **peer)


class Flooded:
    """The state folder of a bottle that lives, as its files say, with this many pending requests."""

    def __init__(self, world):
        self.home = bottle.Home(f"{world.folder}/flooded")
        self.slug, self.folder = "bench-1", f"{self.home.state}/bench-1"
        os.makedirs(self.folder, mode=0o700)
        for d in (self.home.state, os.path.dirname(self.home.state)):
            os.chmod(d, 0o700)
        self.lock = open(f"{self.folder}/lock", "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        with open(f"{self.folder}/bottle.json", "w") as f:
            json.dump({"slug": self.slug, "agent": "bench", "bottle": "bench", "backend": "native", "pid": os.getpid(),
                       "state": "running", "supervised": True, "paused": False, "started": "2026-01-01T00:00:00Z"}, f)
        program = os.path.join(os.path.dirname(LOAD), "bench_requests")
        r = subprocess.run([program, self.folder, str(PENDING)], capture_output=True, text=True, check=True,
                           stdin=subprocess.DEVNULL, timeout=600)
        self.figures = [json.loads(line) for line in r.stdout.splitlines()]

    def close(self):
        self.lock.close()
        shutil.rmtree(self.home.folder)


def key_ms(screen, key):
    """Until the screen is another one, colours included: the selection is one."""
    before, began = screen.text("-e"), time.monotonic()
    screen.keys(key)
    while screen.text("-e") == before:
        if time.monotonic() - began > 10:
            raise RuntimeError(f"{key} changes nothing")
    return (time.monotonic() - began) * 1000


def measure_flood(world):
    note(f"{PENDING} pending requests")
    flooded = Flooded(world)
    try:
        for line in flooded.figures:
            print(json.dumps(line), flush=True)
        times = []
        for _ in range(3):
            began = time.monotonic()
            r = flooded.home.run("requests", "list", flooded.slug, "--json", check=True)
            times.append((time.monotonic() - began) * 1000)
        shown = len(json.loads(r.stdout))
        assert shown >= PENDING, f"{shown} of {PENDING} are listed"
        emit("requests_list_command", statistics.median(times), "ms")
        if not shutil.which("tmux"):
            return
        folder = tempfile.mkdtemp(prefix="s", dir=world.folder)
        began = time.monotonic()
        screen = tmux.Screen(folder, " ".join(flooded.home.argv(["supervise"])), flooded.home.env())
        try:
            screen.expect(f"{PENDING} pending")
            emit("face_terminal_start_10k", (time.monotonic() - began) * 1000, "ms")
            keys = [key_ms(screen, "Down") for _ in range(20)]
            # What the terminal multiplexer itself takes, of a key that a shell echoes, is in it.
            emit("face_terminal_key_10k", statistics.median(keys), "ms")
            emit("memory_face_terminal_10k", mib(peers.pss_kib([screen.pid_of("supervise")])), "MiB")
        finally:
            screen.close()
    finally:
        flooded.close()


def measure(world):
    if wanted("approve", "memory_supervise"):
        measure_approving(world)
    if wanted("requests", "face", "memory_face"):
        measure_flood(world)
