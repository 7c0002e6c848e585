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
    w.running.stop()
    for bare in repos:
        quick(bare)


def slow_hook(bare):
    """The upstream's own hook takes its time, until it may go on: so a push can be caught in the middle."""
    hook = f"{bare}/hooks/pre-receive"
    with open(hook, "w") as f:
        f.write(f"#!/bin/sh\ntouch {bare}/under-way\nn=0\n"
                f"while [ ! -e {bare}/go ] && [ $n -lt 600 ]; do n=$((n + 1)); sleep 0.05; done\n")
    os.chmod(hook, 0o755)


def go(bare):
    """The upstream ends what it was about."""
    open(f"{bare}/go", "w").close()


def quick(bare):
    for name in ("hooks/pre-receive", "under-way", "go"):
        if os.path.exists(f"{bare}/{name}"):
            os.unlink(f"{bare}/{name}")


def at_work(repo):
    """The processes that work in a repository: git goes there, and so does what it starts."""
    found = []
    for pid in bottle.all_processes():
        try:
            if os.readlink(f"/proc/{pid}/cwd").startswith(repo):
                found.append(pid)
        except OSError:
            continue
    return found


def start_push(world, url, ref):
    script = (f"set -e; cd $(mktemp -d); git clone -q {url} r; cd r; echo x > x-{ref}; git add .; "
              f"git commit -qm x; git push origin HEAD:refs/heads/{ref}")
    return subprocess.Popen(world.home.argv(["exec", world.slug, "--", "bash", "-c", script]),
                            env=world.home.env(), cwd=world.home.cwd, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def catch(world, bare, url, ref):
    """A push that the upstream has in its hands."""
    slow_hook(bare)
    p = start_push(world, url, ref)
    assert bottle.wait_until(lambda: os.path.exists(f"{bare}/under-way"), 40), p.communicate()
    assert at_work(bare)
    return p


def kill(world, role):
    """And waits for the one that takes its place."""
    victim = world.running.roles()[role][0]
    bottle.kill_quietly(victim)
    assert bottle.wait_until(lambda: set(world.running.roles().get(role, [])) - {victim}, 15), \
        f"{world.running.roles()}\n{world.home.logs_of_all()}"


def end(p, timeout=60):
    out, err = p.communicate(timeout=timeout)
    return p.returncode, out.decode() + err.decode()


def assert_agreement(world, bare, url, ref):
    """What the gate serves is what the upstream has, whichever way the push went."""
    assert bottle.wait_until(lambda: not at_work(bare), 15), at_work(bare)
    quick(bare)
    there = {k: v for k, v in refs(bare).items() if k.startswith("refs/heads/")}

    def served():
        r = world.sh(f"git ls-remote --heads {url}", timeout=60)
        return {line.split()[1]: line.split()[0] for line in r.stdout.splitlines()}
    # What was fetched a moment ago is served for two seconds.
    assert bottle.wait_until(lambda: served() == there, 5), (served(), there)
    assert git("fsck", "--connectivity-only", cwd=bare) is not None
    # And the way is free again, on the same branch.
    world.sh(f"git clone -q {url} r && cd r && (git checkout -q {ref} 2>/dev/null || git checkout -qb {ref})\n"
             f"date +%N > after\ngit add .\ngit commit -qm after\ngit push -q origin {ref}", timeout=60)
    assert f"refs/heads/{ref}" in refs(bare)


@pytest.mark.parametrize("role", ["gitgate", "egress", "keyd", "pipelock", "record"])
def test_role_dies_in_a_push_over_https(world, repos, role):
    bare, ref = repos[0], f"kill-{role}"
    p = catch(world, bare, URL, ref)
    kill(world, role)
    go(bare)
    end(p)
    assert_agreement(world, bare, URL, ref)


@pytest.mark.parametrize("role", ["gitgate", "gitssh", "keyd", "egress"])
def test_role_dies_in_a_push_over_ssh(world, ssh_git, repos, role):
    bare, ref, url = repos[1], f"kill-{role}", ssh_git.url("team/tool")
    p = catch(world, bare, url, ref)
    kill(world, role)
    go(bare)
    end(p)
    assert_agreement(world, bare, url, ref)


def test_command_dies_in_a_push(world, repos):
    """`claude-bottle exec` is killed: its push ends with it, or is done."""
    bare, ref = repos[0], "kill-command"
    p = catch(world, bare, URL, ref)
    p.kill()
    end(p)
    go(bare)
    assert_agreement(world, bare, URL, ref)


@pytest.mark.parametrize("victim", ["keeper", "init"])
def test_bottle_dies_in_a_push(make_world, https_git, world, repos, victim):
    """With its keeper, or with the first process of its bundle. The push has arrived or it has not, the client
    was told of a failure at most wrongly, and the next bottle's gate shows what there is."""
    bare, ref, slug = repos[0], f"kill-{victim}", world.slug
    before = refs(bare)
    p = catch(world, bare, URL, ref)
    roles = world.running.roles()
    pids = [x for xs in roles.values() for x in xs]
    bottle.kill_quietly(roles[victim][0])
    status, said = end(p)
    assert status != 0, said
    assert bottle.wait_until(lambda: not any(map(bottle.is_alive, pids)), 15), \
        [(x, bottle.cmdline(x)) for x in pids if bottle.is_alive(x)]
    go(bare)
    assert bottle.wait_until(lambda: not at_work(bare), 15), at_work(bare)
    after = refs(bare)
    pushed = after.pop(f"refs/heads/{ref}", None)
    assert after == before, "another ref has moved"
    assert git("fsck", cwd=bare) is not None
    assert pushed is None or git("show", f"{ref}:x-{ref}", cwd=bare) == "x"
    assert_nothing_left(world, slug)
    quick(bare)
    other = make_world([https_remote("project", https_git)]).start()
    assert_agreement(other, bare, URL, ref)
    other.running.stop()


def test_gate_dies_in_a_push_to_the_workspace(world, repos):
    host = world.home.cwd
    url = world.sh('git -C "$CLAUDE_BOTTLE_WORKSPACE" remote get-url origin').stdout.strip()
    for i in range(4):
        p = start_push(world, url, f"ws-{i}")
        time.sleep(0.05 * (i + 1))
        killed = world.running.roles().get("gitgate", [])
        for pid in killed:
            bottle.kill_quietly(pid)
        end(p)
        assert bottle.wait_until(lambda: set(world.running.roles().get("gitgate", [])) - set(killed), 15)
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
    assert [f"{top}/{n}" for top, folders, files in os.walk(home.folder) for n in folders + files if slug in n] == []
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
