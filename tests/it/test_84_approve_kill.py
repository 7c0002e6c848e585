"""Whatever is killed at whatever moment while a human approves: nothing that was not approved is granted, and
nothing that was approved is lost."""
import json
import os
import random
import signal
import sqlite3
import subprocess
import time

import asking
import bottle
import pytest
import standin

ROUNDS = int(os.environ.get("CB_KILL_ROUNDS", "40"))
# Who has a part in it. The keeper's death is the bottle's; the others are started again.
VICTIMS = ("cli", "keeper", "init", "supervise", "pipelock", "egress", "record")
SPAN_S = 0.12  # longer than an approval takes


@pytest.fixture
def world(make_home, upstream, authority):
    with standin.Upstream(authority, ["docs.example.test"], stem="docs") as docs:
        home = make_home()
        home.write_bottle("box", routes=[bottle.route("api.example.test")], supervise=True, ca=authority.path,
                          resolve={"api.example.test": upstream.address, "docs.example.test": docs.address})
        home.write_agent()
        yield home, docs


def curl(running):
    r = running.exec("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10",
                     "https://docs.example.test/json")
    return r.stdout.strip()


def decided(home, slug, number):
    """(state of the request, audit lines about its decision), as the store has them."""
    db = sqlite3.connect(f"file:{home.state}/{slug}/requests.db?mode=ro", uri=True)
    try:
        assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
    finally:
        db.close()
    listed = json.loads(home.run("requests", "list", slug, "--all", "--json", check=True).stdout)
    return {r["id"]: r["state"] for r in listed}[number]


def victim_of(running, name, cli):
    if name == "cli":
        return cli.pid
    return running.roles().get(name, [0])[0]


def one_round(home, docs, rng):
    running = home.background()
    try:
        agent = asking.Agent(lambda script: running.exec("sh", "-c", script).stdout)
        human = asking.Human(home, running.slug)
        number = agent.call("request_egress", host="docs.example.test", reason="round", wait_seconds=0)["id"]
        bystander = agent.call("request_egress", host="other.example.test", reason="never approved", wait_seconds=0)["id"]
        seen = human.show(number)
        name, wait = rng.choice(VICTIMS), rng.uniform(0, SPAN_S)
        victim = None if name == "cli" else victim_of(running, name, None)
        before = docs.connections
        cli = subprocess.Popen(
            home.argv(["requests", "approve", running.slug, str(number), "--hash", seen["hash"], "--for-bottle"]),
            env=home.env(), cwd=home.cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
        time.sleep(wait)
        try:
            os.kill(victim or cli.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        out, err = (text.decode() for text in cli.communicate(timeout=30))
        told = f"{name} killed after {wait * 1000:.0f} ms; status {cli.returncode}: {out}{err}"
        assert docs.connections == before, told
        is_dead = bottle.wait_until(lambda: running.process.poll() is not None, 2 if name in ("keeper", "init") else 0)
        state = decided(home, running.slug, number)
        if cli.returncode == 0:
            assert state == "granted", f"an approval was lost: {told}, {state}"
        if is_dead:
            running.process.wait(10)
            home.run("cleanup", check=False)
            return name, state, cli.returncode
        # It lives: what the store says is what holds.
        if state == "granted":
            assert bottle.wait_until(lambda: curl(running) == "200", 15), told + home.logs_of_all()
        else:
            assert curl(running) in ("403", "000"), told
        assert decided(home, running.slug, bystander) != "granted", told
        return name, state, cli.returncode
    finally:
        running.stop()


def test_killed_while_a_human_approves(world):
    home, docs = world
    seed = int(os.environ.get("CB_KILL_SEED", random.randrange(1 << 30)))
    rng, seen = random.Random(seed), []
    for _ in range(ROUNDS):
        try:
            seen.append(one_round(home, docs, rng))
        except AssertionError as e:
            raise AssertionError(f"seed {seed}, round {len(seen)}: {e}") from e
    # The moments lay on both sides of the decision.
    states = {state for _, state, _ in seen}
    assert "granted" in states, (seed, seen)
