"""Each process that has a part in a push is killed while the push is under way. Afterwards upstream and gate
agree, nothing has moved by half, what was restarted works, and cleanup leaves nothing."""
import json
import os
import subprocess
import time

import bottle
import pytest
from git_world import HTTPS_HOST, git, https_remote, make_bare, make_workspace, refs, ssh_remote

URL = f"https://{HTTPS_HOST}/team/project.git"


@pytest.fixture(scope="module")
def repos(https_git, ssh_git):
    return make_bare(https_git.path("team/project"), commits=3), make_bare(ssh_git.path("team/tool"), commits=3)


@pytest.fixture
def world(make_world, https_git, ssh_git, repos):
    w = make_world([https_remote("project", https_git), ssh_remote("tool", ssh_git)], workspace="clone")
    make_workspace(w.home.cwd)
    yield w.start()
    https_git.slow_push_s = 0
    w.running.stop()


def slow_hook(bare, seconds):
    """The upstream's own hook takes its time: so a push can be caught in the middle."""
    hook = f"{bare}/hooks/pre-receive"
    with open(hook, "w") as f:
        f.write(f"#!/bin/sh\ntouch {bare}/under-way\nsleep {seconds}\n")
    os.chmod(hook, 0o755)


def quick(bare):
    for name in ("hooks/pre-receive", "under-way"):
        if os.path.exists(f"{bare}/{name}"):
            os.unlink(f"{bare}/{name}")


def start_push(world, url, ref):
    script = (f"set -e; cd $(mktemp -d); git clone -q {url} r; cd r; echo x > x-{ref}; git add .; "
              f"git commit -qm x; git push origin HEAD:refs/heads/{ref}")
    return subprocess.Popen(world.home.argv(["exec", world.slug, "--", "bash", "-c", script]),
                            env=world.home.env(), cwd=world.home.cwd, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def catch(world, bare, url, ref):
    """A push that the upstream has in its hands."""
    slow_hook(bare, 3)
    p = start_push(world, url, ref)
    assert bottle.wait_until(lambda: os.path.exists(f"{bare}/under-way"), 40), p.communicate()
    return p


def end(p, timeout=60):
    out, err = p.communicate(timeout=timeout)
    return p.returncode, out.decode() + err.decode()


def assert_agreement(world, bare, url, ref):
    """What the gate serves is what the upstream has, whichever way the push went."""
    time.sleep(4)  # the upstream ends what it was about
    quick(bare)
    r = world.sh(f"git ls-remote --heads {url}", timeout=60)
    served = {line.split()[1]: line.split()[0] for line in r.stdout.splitlines()}
    there = {k: v for k, v in refs(bare).items() if k.startswith("refs/heads/")}
    assert served == there
    assert git("fsck", "--connectivity-only", cwd=bare) is not None
    # And the way is free again, on the same branch.
    world.sh(f"git clone -q {url} r && cd r && (git checkout -q {ref} 2>/dev/null || git checkout -qb {ref})\n"
             f"date +%N > after\ngit add .\ngit commit -qm after\ngit push -q origin {ref}", timeout=60)
    assert f"refs/heads/{ref}" in refs(bare)


@pytest.mark.parametrize("role", ["gitgate", "egress", "keyd", "pipelock", "record"])
def test_role_dies_in_a_push_over_https(world, repos, role):
    bare, ref = repos[0], f"kill-{role}"
    p = catch(world, bare, URL, ref)
    victim = world.running.roles()[role][0]
    bottle.kill_quietly(victim)
    end(p)
    assert bottle.wait_until(lambda: set(world.running.roles().get(role, [])) - {victim}, 15), \
        f"{world.running.roles()}\n{world.home.logs_of_all()}"
    assert_agreement(world, bare, URL, ref)


@pytest.mark.parametrize("role", ["gitgate", "gitssh", "keyd", "egress"])
def test_role_dies_in_a_push_over_ssh(world, ssh_git, repos, role):
    bare, ref, url = repos[1], f"kill-{role}", ssh_git.url("team/tool")
    p = catch(world, bare, url, ref)
    victim = world.running.roles()[role][0]
    bottle.kill_quietly(victim)
    end(p)
    assert bottle.wait_until(lambda: set(world.running.roles().get(role, [])) - {victim}, 15), \
        f"{world.running.roles()}\n{world.home.logs_of_all()}"
    assert_agreement(world, bare, url, ref)


def test_command_dies_in_a_push(world, repos):
    """`claude-bottle exec` is killed: its push ends with it, or is done."""
    bare, ref = repos[0], "kill-command"
    p = catch(world, bare, URL, ref)
    p.kill()
    end(p)
    assert_agreement(world, bare, URL, ref)


def test_keeper_dies_in_a_push(world, repos):
    bare, ref, slug = repos[0], "kill-keeper", world.slug
    p = catch(world, bare, URL, ref)
    roles = world.running.roles()
    pids = [x for xs in roles.values() for x in xs]
    bottle.kill_quietly(roles["keeper"][0])
    end(p)
    assert bottle.wait_until(lambda: not any(map(bottle.is_alive, pids)), 15), \
        [(x, bottle.cmdline(x)) for x in pids if bottle.is_alive(x)]
    time.sleep(4)
    quick(bare)
    assert_nothing_left(world, slug)
    git("fsck", cwd=bare)


def test_gate_dies_in_a_push_to_the_workspace(world, repos):
    host = world.home.cwd
    url = world.sh('git -C "$CLAUDE_BOTTLE_WORKSPACE" remote get-url origin').stdout.strip()
    for i in range(4):
        p = start_push(world, url, f"ws-{i}")
        time.sleep(0.05 * (i + 1))
        for pid in world.running.roles().get("gitgate", []):
            bottle.kill_quietly(pid)
        end(p)
        time.sleep(1.5)
    assert git("fsck", cwd=host) is not None
    served = world.sh(f"git ls-remote --heads {url}", timeout=60).stdout
    assert "refs/heads/main" in served
    world.sh(f"git clone -q {url} r && cd r && echo y > y && git add . && git commit -qm y && "
             "git push -q origin HEAD:refs/heads/ws-after", timeout=60)
    assert f"refs/heads/bottle/{world.slug}/ws-after" in refs(host)
    assert not [f for _, _, files in os.walk(f"{host}/.git") for f in files if f.endswith(".lock")]


def assert_nothing_left(world, slug):
    home = world.home
    home.run("stop", "--all", "--now", timeout=30)
    r = home.run("cleanup", timeout=60)
    assert r.returncode == 0, r.stderr
    assert not os.path.exists(f"{home.state}/{slug}"), os.listdir(f"{home.state}/{slug}")
    assert slug not in bottle.mounts()
    assert bottle.cgroups_named(slug) == []
    assert bottle.processes_that_mention(slug) == []
    assert json.loads(home.run("list", "--all", "--json").stdout or "[]") == []


def test_cleanup_finds_everything(world, repos):
    """The mirrors, the private repository and the gate's folder, wherever they lie."""
    slug = world.slug
    world.sh(f"git ls-remote {URL}")
    world.running.stop()
    assert_nothing_left(world, slug)
