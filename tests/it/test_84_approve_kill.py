"""Whatever is killed at whatever moment while a human approves: nothing that was not approved is granted, and
nothing that was approved is lost.

The moments of each victim are spread over the time that an approval takes, so that a few rounds have some on
either side of the decision. A bottle serves several rounds, also after its death: it is resumed then."""
import collections
import json
import os
import random
import signal
import sqlite3
import subprocess
import time

import asking
import bottle
import mcp_client

ROUNDS = int(os.environ.get("CB_KILL_ROUNDS", "35"))
# Who has a part in it. The keeper's and init's death is the bottle's; the others are started again.
VICTIMS = ("cli", "keeper", "init", "supervise", "pipelock", "egress", "record")
DEADLY = ("keeper", "init")
SERVES = 14  # rounds of one bottle: a role that dies more often in a minute ends it
HOST, API = "docs.example.test", "https://api.example.test/json"
SHUT = ("403", "000")
# What a command says that does not know, or that says itself that the decision stands.
UNSURE = ("look again", "written down")
NEVER = "/json/never"


def moment(offset, i):
    """Of round i, in parts of an approval's time: the rounds of each victim lie evenly from before it to behind it."""
    nth, victim = divmod(i, len(VICTIMS))
    return 1.4 * (nth + (offset + victim / len(VICTIMS)) % 1) / max(1, ROUNDS // len(VICTIMS))


class Subject:
    """A bottle for several rounds, and what became of each request in it."""

    def __init__(self, home):
        self.home, self.running = home, home.background()
        self.human = asking.Human(home, self.running.slug)
        self.granted, self.refused = {}, {}  # path by number
        self.meet()
        self.ask(NEVER)

    def meet(self):
        """The agent begins anew, of the supervise that runs now."""
        self.agent = asking.Agent(lambda script: self.running.exec("sh", "-c", script).stdout)

    def ask(self, path):
        """The number of the new request; None when no more may be asked by now."""
        def once():
            try:
                return self.agent.call("request_egress", host=HOST, paths=[path], reason="round",
                                       wait_seconds=0)
            except (mcp_client.McpError, ValueError):
                self.meet()
                return None
        told = bottle.wait_until(once, 15)
        assert told and told["state"] in ("pending", "limited"), told
        return told["id"] if told["state"] == "pending" else None

    def pid_of(self, role):
        return bottle.wait_until(lambda: self.running.roles().get(role, [None])[0], 10)

    def state_of(self, number):
        """As the store has it, which nothing may damage."""
        db = sqlite3.connect(f"file:{self.running.folder}/requests.db?mode=ro", uri=True)
        try:
            assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
        finally:
            db.close()
        listed = json.loads(self.human.run("list", self.running.slug, "--all", "--json").stdout)
        return {r["id"]: r["state"] for r in listed}[number]

    def resume(self):
        self.running.resume()
        self.meet()

    def settle(self):
        """Whoever was killed is there again, and the keeper has done what came before."""
        assert bottle.wait_until(lambda: self.running.status(API) == "200", 15), self.home.logs_of_all()

    def check(self):
        """What the store says is what holds; and never was there more of it."""
        paths = [*self.granted.values(), *self.refused.values(), NEVER]

        def is_all_open():
            got = dict(zip(paths, self.running.statuses([f"https://{HOST}{path}" for path in paths]), strict=True))
            passed = {path for path in paths if got[path] not in SHUT}
            assert passed <= set(self.granted.values()), f"granted by nobody: {got}"
            return passed == set(self.granted.values())
        assert bottle.wait_until(is_all_open, 15), f"lost of {self.granted}: {is_all_open()}\n{self.home.logs_of_all()}"

    def close(self):
        self.running.stop()
        self.home.run("cleanup", check=True)


class Killing:
    """A round: a request, its approval by command, and a death in between."""

    def __init__(self, subject, number, path):
        self.subject, self.number, self.path = subject, number, path
        self.hash = subject.human.show(number)["hash"]

    def approve(self, victim, wait_s):
        """(status, what it said) of the command. victim None: nobody dies."""
        s = self.subject
        pid = s.pid_of(victim) if victim not in (None, "cli") else None
        assert pid or victim in (None, "cli"), f"no {victim} runs"
        cli = subprocess.Popen(s.home.argv(["requests", "approve", s.running.slug, str(self.number), "--hash",
                                            self.hash, "--for-bottle"]), env=s.home.env(), cwd=s.home.cwd,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if victim:
            time.sleep(wait_s)
            bottle.kill_quietly(pid or cli.pid)
        said = cli.communicate(timeout=40)[0].strip()
        return cli.returncode, said

    def judge(self, victim, status, said):
        """The request's state, which is what the command's status and the wall say too."""
        s = self.subject
        if victim in DEADLY:
            s.resume()
        s.settle()
        state = s.state_of(self.number)
        if status == 0:
            assert state == "granted", f"an approval was lost: {state}"
        elif status > 0 and not any(words in said for words in UNSURE):
            assert state != "granted", "it was granted, and the human was told that it was not"
        (s.granted if state == "granted" else s.refused)[self.number] = self.path
        s.check()
        return state


def undisturbed(subject, path):
    """How long an approval takes here and now."""
    killing = Killing(subject, subject.ask(path), path)
    start = time.monotonic()
    status, said = killing.approve(None, 0)
    took = time.monotonic() - start
    assert killing.judge(None, status, said) == "granted"
    return took


def test_killed_while_a_human_approves(supervised):
    home, _ = supervised
    seed = int(os.environ.get("CB_KILL_SEED", random.randrange(1 << 30)))
    offset = random.Random(seed).random()
    seen = collections.Counter()
    subject = Subject(home)
    try:
        span_s = min(undisturbed(subject, f"/json/first/{i}") for i in range(3))
        for i in range(ROUNDS):
            victim = VICTIMS[i % len(VICTIMS)]
            wait_s = moment(offset, i) * span_s
            path = f"/json/{i}"
            number = subject.ask(path) if len(subject.granted) + len(subject.refused) < SERVES else None
            if number is None:
                subject.close()
                subject = Subject(home)
                number = subject.ask(path)
            killing = Killing(subject, number, path)
            status, said = killing.approve(victim, wait_s)
            told = (f"seed {seed}, round {i}: {victim} killed after {wait_s * 1000:.0f} of {span_s * 1000:.0f} ms; "
                    f"status {status}: {said}")
            try:
                seen[victim, killing.judge(victim, status, said), status] += 1
            except AssertionError as e:
                raise AssertionError(f"{told}: {e}") from e
    finally:
        subject.close()
    print(f"seed {seed}, {ROUNDS} rounds, an approval takes {span_s * 1000:.0f} ms")
    for (victim, state, status), n in sorted(seen.items()):
        print(f"{victim:10} {state:8} status {status:3} {n:4}")
    # The moments lay on both sides of the decision.
    if ROUNDS >= 3 * len(VICTIMS):
        assert {state == "granted" for _, state, _ in seen} == {True, False}, seen
