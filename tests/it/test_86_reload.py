"""A policy that changes under traffic: what streams goes on, what is revoked or paused is closed."""
import os
import signal
import subprocess
import threading
import time

import asking
import bottle
import pytest

API = "https://api.example.test"
DOCS = "https://docs.example.test"
TICKS = 12


@pytest.fixture
def granted(supervised):
    """(home, running, human, number): docs.example.test is granted for the bottle."""
    home, _ = supervised
    with home.background() as running:
        agent = asking.Agent(lambda script: running.exec("sh", "-c", script).stdout)
        human = asking.Human(home, running.slug)
        number = agent.call("request_egress", wait_seconds=0, host="docs.example.test", reason="r")["id"]
        human.approve(number, "--for-bottle")
        yield home, running, human, number


class Stream:
    """An event stream that a client in the bottle reads."""

    def __init__(self, home, running, url, ticks, pause_ms=100):
        self.process = subprocess.Popen(
            home.argv(["exec", running.slug, "--", "curl", "-sN", "--max-time", "30",
                       f"{url}/sse?n={ticks}&pause_ms={pause_ms}"]),
            env=home.env(), cwd=home.cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.ticks, self.ended = 0, None
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        assert bottle.wait_until(lambda: self.ticks > 0, 10), self.process.communicate()

    def read(self):
        for line in self.process.stdout:
            self.ticks += line.startswith(b"data: ")
        self.ended = time.monotonic()

    def status(self):
        self.thread.join(30)
        return self.process.wait(5)

    def assert_cut(self, since):
        """It ended at once, and not as a whole one does."""
        assert self.status() != 0 and self.ticks < TICKS
        assert self.ended - since < 2, self.ended - since


def connect(running, url):
    """How the proxy answers for it."""
    return running.exec("curl", "-s", "-o", "/dev/null", "-w", "%{http_connect}", "--max-time", "10", url).stdout


def enforcers(running):
    roles = running.roles()
    return [roles[name] for name in ("pipelock", "egress")]


def test_streams_go_on(granted):
    home, running, human, number = granted
    stream = Stream(home, running, API, TICKS)
    before = enforcers(running)
    human.run("revoke", running.slug, str(number))
    assert stream.status() == 0 and stream.ticks == TICKS
    assert enforcers(running) == before, "a role was started again"


def test_revoked_streams_end(granted):
    home, running, human, number = granted
    stream = Stream(home, running, DOCS, TICKS, pause_ms=1000)
    start = time.monotonic()
    human.run("revoke", running.slug, str(number))
    stream.assert_cut(start)
    # By whichever of the two that decide had the news first, or both.
    assert [r for r in home.records(running.slug) if r["reason"] == "host-not-allowed" and r["path"] == "/sse"
            and r["verdict"] == "block" and r["role"] in ("pipelock", "egress")]


def test_a_pause_ends_streams(granted):
    home, running, _, _ = granted
    streams = [Stream(home, running, url, TICKS, pause_ms=1000) for url in (API, DOCS)]
    start = time.monotonic()
    home.run("pause", running.slug, check=True)
    for stream in streams:
        stream.assert_cut(start)
    assert "network-paused" in running.exec("curl", "-s", "http://api.example.test:8080/json").stdout
    home.run("resume", running.slug, check=True)
    assert running.exec("curl", "-s", f"{API}/json", check=True).stdout


@pytest.mark.parametrize("victim", ["pipelock", "egress"])
def test_revoked_though_a_role_is_stopped(granted, victim):
    """Who does not answer in time is ended, and started again with what is in force."""
    home, running, human, number = granted
    stream = Stream(home, running, DOCS, TICKS, pause_ms=1000)
    stopped, = running.roles()[victim]
    os.kill(stopped, signal.SIGSTOP)
    start = time.monotonic()
    human.run("revoke", running.slug, str(number))
    assert 1.5 < time.monotonic() - start < 15, "neither waited for nor given up"
    assert stopped not in running.roles()[victim]
    assert stream.status() != 0 and stream.ticks < TICKS
    assert connect(running, f"{DOCS}/json") == "403" and connect(running, f"{API}/json") == "200"
