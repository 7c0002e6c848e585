"""What a refusal names is what can be asked for: a route, a held request, a push. And what is held goes on exactly
as a human has decided, or not at all."""
import json
import threading

import asking
import bottle
import git_world
import pytest
import standin
from git_world import HTTPS_HOST, SECRET, git, https_remote, make_bare, refs

# Of a shape that the scan knows, and nobody's.
BODY = '{"key": "' + SECRET + '", "more": 1}'
WORKFLOW = ".github/workflows/ci.yml"


@pytest.fixture
def world(make_home, upstream, authority):
    with standin.Upstream(authority, ["held.example.test", "docs.example.test"], stem="held") as held:
        home = make_home()
        home.write_bottle("box", routes=[bottle.route("held.example.test", dlp={"on_match": "supervise"})],
                          supervise=True, ca=authority.path,
                          resolve={"held.example.test": held.address, "docs.example.test": held.address})
        home.write_agent()
        running = home.background()
        try:
            yield (home, running, held, asking.Agent(lambda script: running.exec("sh", "-c", script).stdout),
                   asking.Human(home, running.slug))
        finally:
            running.stop()


def curl(running, *argv):
    """(status, body)"""
    r = running.exec("curl", "-s", "-w", "\n%{http_code}", "--max-time", "60", *argv, timeout=90)
    body, _, status = r.stdout.rpartition("\n")
    return int(status), body


def test_what_a_refusal_names_is_granted(world):
    _, running, held, agent, human = world
    # A refused CONNECT has words that curl does not show.
    assert curl(running, "https://docs.example.test/json")[0] in (0, 403)
    refused = agent.call("recent_refusals", limit=1)["refusals"][0]
    assert refused["host"] == "docs.example.test"
    ask = refused["ask"]
    number = agent.call(ask["tool"], **ask["arguments"], reason="the docs", wait_seconds=0)["id"]
    human.approve(number, "--for-bottle")
    assert bottle.wait_until(lambda: curl(running, "https://docs.example.test/json")[0] == 200, 10)
    # Inside of what is granted another method is refused, with the tool and what it has to be given.
    status, body = curl(running, "-X", "DELETE", "https://docs.example.test/a/b?c=d")
    ask = json.loads(body)["ask"]
    assert status == 403 and ask == {"tool": "request_egress", "arguments": {
        "host": "docs.example.test", "ports": [443], "methods": ["DELETE"], "paths": ["/a/b"]}}
    number = agent.call(ask["tool"], **ask["arguments"], reason="just that", wait_seconds=0)["id"]
    human.approve(number, "--for-bottle")
    assert bottle.wait_until(lambda: curl(running, "-X", "DELETE", "https://docs.example.test/a/b?c=d")[0] != 403, 10)
    assert curl(running, "-X", "DELETE", "https://docs.example.test/a/c")[0] == 403
    # By its record alone: the same.
    record = json.loads(curl(running, "-X", "DELETE", "https://docs.example.test/a/c")[1])["record"]
    number = agent.call("request_egress", record=record, reason="that too", wait_seconds=0)["id"]
    assert human.show(number)["change"]["paths"] == ["/a/c"]


def post(running, results):
    results.append(curl(running, "-d", BODY, "https://held.example.test/upload"))


def held_request(human, running):
    """Sends the body from the bottle; the thread, where its answer comes to, and what the human is asked."""
    results = []
    thread = threading.Thread(target=post, args=(running, results))
    thread.start()
    assert bottle.wait_until(lambda: any(r["kind"] == "release" for r in human.pending()), 20), results
    return thread, results, next(r for r in human.pending() if r["kind"] == "release")


@pytest.mark.parametrize("how", ["pass", "redact", "refuse"])
def test_held(world, how):
    _, running, held, _, human = world
    thread, results, asked = held_request(human, running)
    assert held.connections == 0
    seen = json.dumps(human.show(asked["id"]))
    assert SECRET not in seen and "********" in seen and "body, byte 9 of" in seen
    if how == "refuse":
        human.refuse(asked["id"], "not that key")
    else:
        human.approve(asked["id"], *(["--redact"] if how == "redact" else []))
    thread.join(30)
    status, body = results[0]
    if how == "refuse":
        assert status == 403 and held.connections == 0
        assert json.loads(body)["reason"] == "held-refused" and json.loads(body)["hint"] == "not that key"
        return
    assert status == 200, body
    assert held.saw(SECRET) == (how == "pass")
    assert held.saw('", "more": 1}')
    # Once: what was granted is used up.
    thread, results, asked = held_request(human, running)
    human.refuse(asked["id"])
    thread.join(30)
    assert results[0][0] == 403


def test_push(make_world, https_git):
    bare = make_bare(https_git.path("team/approved"))
    w = make_world([https_remote("approved", https_git)], supervise=True).start()
    agent = asking.Agent(lambda script: w.running.exec("sh", "-c", script).stdout)
    human = asking.Human(w.home, w.slug)
    url = f"https://{HTTPS_HOST}/team/approved.git"
    said = w.sh(f"mkdir /tmp/kept && cd /tmp/kept && clone {url} && mkdir -p .github/workflows && echo x > {WORKFLOW}\n"
                "commit\ngit push origin HEAD:refs/heads/ci || true").stderr
    assert "refs/heads/ci" not in refs(bare)
    line = next(line for line in said.splitlines() if "git-gate: ask: " in line)
    ask = json.loads(line.partition("ask: ")[2])
    assert ask["tool"] == "request_push"
    number = agent.call(ask["tool"], **ask["arguments"], reason="CI", wait_seconds=0)["id"]
    assert WORKFLOW in json.dumps(human.show(number))
    again = "cd /tmp/kept/repo && git push origin HEAD:refs/heads/ci"
    assert w.sh(again, check=False).returncode != 0
    human.approve(number)
    w.sh(again)
    assert git("show", f"ci:{WORKFLOW}", cwd=bare) == "x"
    # Another commit is another push.
    r = w.sh(f"cd /tmp/kept/repo && echo y > {WORKFLOW} && commit && git push origin HEAD:refs/heads/ci", check=False)
    assert r.returncode != 0 and "git-gate: ask: " in r.stderr
