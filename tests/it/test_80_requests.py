"""The human's side by command: requests, pause, resume and stop --now, against a bottle that runs."""
import json
import sqlite3
import time

import asking
import bottle
import pytest

DOCS = "https://docs.example.test/json"
API = "https://api.example.test/json"


@pytest.fixture
def asked(supervised):
    """(running, agent, human): a bottle with its two sides."""
    home, _ = supervised
    with home.background() as running:
        agent = asking.Agent(lambda script: running.exec("sh", "-c", script).stdout)
        yield running, agent, asking.Human(home, running.slug)


def test_asked_approved_revoked(asked):
    running, agent, human = asked
    assert running.status(DOCS) in ("403", "000")
    told = agent.call("request_egress", wait_seconds=0, host="docs.example.test", reason="the manual")
    assert told["state"] == "pending"
    assert [r["id"] for r in human.pending()] == [told["id"]]
    seen = human.show(told["id"])
    assert seen["reason"] == "the manual" and "docs.example.test" in seen["summary"]
    start = time.monotonic()
    human.approve(told["id"], "--for-bottle", "--reason", "read it")
    took = time.monotonic() - start
    print(f"show and approve, in force: {took * 1000:.0f} ms")
    assert running.status(DOCS) == "200"
    told = agent.call("request_status", id=told["id"])
    assert (told["state"], told["scope"]) == ("granted", "bottle"), told
    grants = json.loads(human.run("grants", running.slug, "--json").stdout)
    assert [g["state"] for g in grants] == ["active"]
    human.run("revoke", running.slug, str(told["id"]))
    assert running.status(DOCS) in ("403", "000")
    told = agent.call("request_status", id=told["id"])
    assert told["state"] == "refused" and "taken back" in told["reason"], told
    lines = human.run("audit", running.slug).stdout
    assert "granted-bottle" in lines and "revoked" in lines and "command" in lines and "uid " in lines


def test_told(asked):
    running, agent, human = asked
    assert "told nothing" in human.run("told", running.slug).stderr
    assert agent.call("tell_human", message="stuck \u202e\x1b[2J\nat it")["state"] == "taken"
    said = human.run("told", running.slug).stdout
    assert "stuck" in said and "at it" in said and said.count("\n") == 1, said
    assert not set(said) & {"\u202e", "\x1b"}, said
    assert len(json.loads(human.run("told", running.slug, "--json").stdout)) == 1


def test_taken_back_between_two_lives(supervised):
    home, docs = supervised
    with home.background() as running:
        agent = asking.Agent(lambda script: running.exec("sh", "-c", script).stdout)
        human, slug = asking.Human(home, running.slug), running.slug
        kept = agent.call("request_egress", wait_seconds=0, host="docs.example.test", paths=["/json"], reason="r")["id"]
        gone = agent.call("request_egress", wait_seconds=0, host="docs.example.test", paths=["/echo"], reason="r")["id"]
        for number in (kept, gone):
            human.approve(number, "--for-bottle")
    assert "resume" in human.run("revoke", slug, str(gone)).stderr
    r = human.run("revoke", slug, str(gone), check=False)
    assert r.returncode == 1 and "no grant" in r.stderr
    before = docs.connections
    script = "for p in json echo; do curl -s -o /dev/null -w '%{http_code} ' https://docs.example.test/$p; done"
    r = home.run("resume", slug, "--", "sh", "-c", script)
    assert r.stdout.split() == ["200", "403"], r.stdout + r.stderr
    assert docs.connections == before + 1


def test_only_what_was_seen(asked):
    running, agent, human = asked
    number = agent.call("request_egress", wait_seconds=0, host="docs.example.test", reason="r")["id"]
    where = (running.slug, str(number))
    r = human.run("approve", *where, check=False)
    assert r.returncode == 2 and f"requests show {running.slug} {number}" in r.stderr
    r = human.run("approve", *where, "--hash", "00" * 32, check=False)
    assert r.returncode == 1 and "look again" in r.stderr
    r = human.run("approve", *where, "--hash", human.show(number)["hash"], "--always", check=False)
    assert r.returncode == 2 and "--manifest" in r.stderr
    assert running.status(DOCS) in ("403", "000")
    human.approve(number, "--once")
    assert human.approve(number, check=False).returncode == 1, "decided twice"
    assert running.status(DOCS) == "200"
    assert running.status(DOCS) in ("403", "000"), "used twice"
    told = agent.call("request_status", id=number)
    assert told["state"] == "expired" and "used up" in told["reason"], told


def test_the_human_is_told_what_waits_and_what_holds(asked):
    running, agent, human = asked
    home, slug = human.home, running.slug
    assert "waits for you" not in home.run("list", check=True).stderr
    ids = [agent.call("request_egress", wait_seconds=0, host="docs.example.test", paths=[path], reason="r")["id"]
           for path in ("/a", "/json")]
    assert f"{slug}: 2 requests wait for you (claude-bottle supervise {slug})" in home.run("list", check=True).stderr
    assert [b["pending"] for b in json.loads(home.run("list", "--json", check=True).stdout)] == [2]
    human.approve(ids[1], "--for-bottle")
    assert "granted: request 2" in home.run("policy", "show", slug, check=True).stdout
    assert running.status(DOCS) == "200"
    record = next(r["id"] for r in home.records(slug) if r["verdict"] == "allow")
    assert "granted: request 2 (docs.example.test)" in home.run("policy", "why", record).stdout
    home.run("stop", slug, "--now", check=True)
    r = home.run("attach", slug)
    assert r.returncode == 1 and f"claude-bottle resume {slug}" in r.stderr
    r = home.run("resume", slug, "--detach", "--", "sleep", "600", check=True)
    assert f"is in force again: 1 (claude-bottle requests grants {slug})" in r.stderr
    assert f"claude-bottle supervise {slug}" in r.stderr


def test_what_nobody_decided_is_told_at_the_end(supervised, terminal):
    home, _ = supervised
    t = terminal(home, "start", "worker", "--", "sh", "-c", "echo ready; read x")
    t.expect(b"\nready")
    slug, = home.slugs()
    agent = asking.Agent(lambda script: home.run("exec", slug, "--", "sh", "-c", script).stdout)
    agent.call("request_egress", wait_seconds=0, host="docs.example.test", reason="r")
    t.type(b"\n")
    t.expect(f"1 request waited for you, and nobody decided (claude-bottle requests list --all {slug})".encode())
    assert t.wait() == 0


def test_who_cannot_ask(closed):
    with closed.background() as running:
        for words in (["list", running.slug], ["grants", running.slug], ["audit", running.slug]):
            assert "is not supervised" in closed.run("requests", *words, check=True).stderr


def test_refused_with_a_reason(asked):
    running, agent, human = asked
    number = agent.call("request_egress", wait_seconds=0, host="docs.example.test", reason="r")["id"]
    human.refuse(number, "use the mirror \u202e")
    told = agent.call("request_status", id=number)
    assert told["state"] == "refused" and "use the mirror" in told["reason"]
    assert "\u202e" not in told["reason"]
    never = agent.call("request_egress", wait_seconds=0, host="metadata.google.internal", reason="r")
    assert never["state"] == "never", never
    listed = json.loads(human.run("list", running.slug, "--all", "--json").stdout)
    number = next(r["id"] for r in listed if r["state"] == "never")
    assert human.approve(number, check=False).returncode == 1
    assert human.pending() == []
    agent.call("request_capability", wait_seconds=0, what="a \x1b[2J tool", reason="r")
    shown = human.run("list", running.slug).stdout
    assert "\\x1b" in shown and "\\\\x1b" not in shown, shown


def test_always_writes_what_was_shown(asked):
    running, agent, human = asked
    path = f"{human.home.folder}/.claude-bottle/bottles/box.md"
    before = open(path).read()
    number = agent.call("request_egress", wait_seconds=0, host="docs.example.test", reason="r")["id"]
    seen = json.loads(human.run("show", running.slug, str(number), "--always", "--json").stdout)
    assert "+" in seen["manifest"]["diff"] and "docs.example.test" in seen["manifest"]["diff"]
    words = ("approve", running.slug, str(number), "--always", "--hash", seen["hash"], "--manifest")
    assert human.run(*words, "11" * 32, check=False).returncode == 1
    assert open(path).read() == before and running.status(DOCS) in ("403", "000")
    human.run(*words, seen["manifest"]["hash"])
    assert "docs.example.test" in open(path).read().replace(before.split("resolve")[1], "")
    assert running.status(DOCS) == "200"


def test_audit_that_was_changed(asked):
    running, agent, human = asked
    human.approve(agent.call("request_egress", wait_seconds=0, host="docs.example.test", reason="r")["id"])
    assert "uid 4711" not in human.run("audit", running.slug).stdout
    db = sqlite3.connect(f"{running.folder}/requests.db")
    db.executescript("drop trigger audit_no_update; update audit set who='uid 4711 (eve)'")
    db.close()
    for more in ((), ("--json",)):
        r = human.run("audit", running.slug, *more, check=False)
        assert r.returncode == 1 and "uid 4711" in r.stdout and "was changed" in r.stderr, r


def test_pause_and_resume(asked):
    running, agent, human = asked
    home = human.home
    assert running.status(API) == "200"
    assert "paused" in home.run("pause", running.slug, check=True).stderr
    assert running.status(API) in ("403", "000")
    home.run("resume", running.slug, check=True)
    assert running.status(API) == "200"
    # Whoever ends a paused bottle gets a paused one again.
    home.run("pause", running.slug, check=True)
    home.run("stop", running.slug, "--now", check=True)
    r = home.run("resume", running.slug, "--detach", "--", "sleep", "600", check=True)
    assert "paused" in r.stderr
    assert running.status(API) in ("403", "000")
    home.run("resume", running.slug, check=True)
    assert running.status(API) == "200"


def test_stop_now_is_now(asked):
    running, _, human = asked
    pids = [pid for of_role in running.roles().values() for pid in of_role]
    start = time.monotonic()
    human.home.run("stop", running.slug, "--now", check=True)
    assert time.monotonic() - start < 10
    assert not [pid for pid in pids if bottle.is_alive(pid)]
