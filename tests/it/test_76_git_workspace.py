"""The host's own repository: what is tracked is served, what the agent pushes lands under a branch of the
bottle's own, and nothing else of it changes in a single bit."""
import json
import os
import time

import git_world
import pytest
from git_world import SECRET, SECRET_RULE, fingerprint, git, make_workspace, refs


@pytest.fixture(scope="module")
def world(make_world):
    w = make_world([], workspace="clone")
    make_workspace(w.home.cwd)
    return w.start()


@pytest.fixture
def host(world):
    return world.home.cwd


@pytest.fixture
def untouched(world, host):
    """Whatever the test does, the host's repository has only new branches of the bottle after it."""
    before, others = fingerprint(host), foreign_refs(host)
    yield
    after = fingerprint(host)
    assert {k: v for k, v in after.items() if before.get(k) != v} == {}, "something was changed"
    assert set(before) <= set(after), set(before) - set(after)
    assert foreign_refs(host) == others
    for name in ("hook-ran", "fsmonitor-ran"):
        assert not os.path.exists(f"{host}.{name}")


def foreign_refs(repo):
    return {k: v for k, v in refs(repo).items() if not k.startswith("refs/heads/bottle/")}


# The agent has a clone from the start; each test makes one of its own.
CLONE = 'clone "$(git -C "$CLAUDE_BOTTLE_WORKSPACE" remote get-url origin)"\n'


def sh(world, script, **more):
    return world.sh(CLONE + script, env={"SECRET": SECRET}, **more)


def test_clone_has_what_is_tracked(world, host, untouched):
    r = sh(world, "git log --format=%s\nls -A\ncat src/a.c\ngit branch -r\ngit tag")
    lines = r.stdout.splitlines()
    assert lines[0] == "first"
    # Neither what is untracked, ignored, staged or changed, nor what is stashed.
    for word in (".env", "notes.txt", "staged.c", "unstaged", "int work"):
        assert word not in r.stdout, word
    assert "origin/feature" in r.stdout and "v1" in r.stdout
    everything = sh(world, "git rev-list --objects --all | cut -d' ' -f1 | git cat-file --batch | tr -cd ' -~\\n'\n"
                           "git ls-remote origin")
    assert "unstaged" not in everything.stdout and SECRET not in everything.stdout
    assert "refs/stash" not in everything.stdout


def test_files_of_the_host_are_not_there(world, host, untouched):
    r = world.sh(f"cat {host}/.env {host}/notes.txt {host}/staged.c", check=False)
    assert r.returncode != 0 and SECRET not in r.stdout and "private" not in r.stdout


def test_push_lands_under_the_bottles_name(world, host, untouched):
    sh(world, "echo new > new.txt\ncommit 'from the bottle'\ngit push -q origin HEAD:refs/heads/work")
    ref = f"refs/heads/bottle/{world.slug}/work"
    assert ref in refs(host), refs(host)
    assert git("log", "-1", "--format=%s", ref, cwd=host) == "from the bottle"
    assert git("show", f"{ref}:new.txt", cwd=host) == "new"
    assert git("fsck", "--connectivity-only", cwd=host, check=False).find("missing") < 0
    # And the human may read and merge it as any branch.
    assert "new.txt" in git("diff", "--name-only", "main", ref, cwd=host)


def test_objects_are_the_users(world, host):
    for top, folders, files in os.walk(f"{host}/.git"):
        for name in folders + files:
            st = os.lstat(os.path.join(top, name))
            assert st.st_uid == os.stat(host).st_uid, (top, name)


def test_moves_forward_and_main_is_its_own(world, host, untouched):
    main = refs(host)["refs/heads/main"]
    sh(world, "echo 1 > one\ncommit one\ngit push -q origin HEAD:refs/heads/main\n"
              "echo 2 > two\ncommit two\ngit push -q origin HEAD:refs/heads/main")
    assert refs(host)["refs/heads/main"] == main
    assert git("show", f"bottle/{world.slug}/main:two", cwd=host) == "2"


def test_sees_what_the_human_commits_meanwhile(world, host):
    tree = git("rev-parse", "main^{tree}", cwd=host)
    commit = git("commit-tree", tree, "-p", "main", "-m", "by hand", cwd=host)
    git("update-ref", "refs/heads/by-hand", commit, cwd=host)
    time.sleep(2.2)
    r = sh(world, "git rev-parse origin/by-hand")
    assert r.stdout.strip() == commit


HOSTILE = {
    "head": "git push origin HEAD:HEAD",
    "other-bottle": "git push origin HEAD:refs/heads/bottle/other-1234/x",
    "tag": "git tag x && git push origin x",
    "notes": "git notes add -m n && git push origin refs/notes/commits",
    "stash": "git push origin HEAD:refs/stash",
    "dots": "git send-pack origin HEAD:refs/heads/../../x",
    "worktrees": "git push origin HEAD:refs/worktree/x",
    "bisect": "git push origin HEAD:refs/bisect/bad",
    "delete": "git push origin :refs/heads/feature",
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_nothing_but_branches(world, host, untouched, name):
    before = refs(host)
    r = sh(world, "echo x > x\ncommit\n" + HOSTILE[name], check=False)
    if name == "other-bottle" and r.returncode == 0:
        # Allowed, then as a branch below its own.
        assert f"refs/heads/bottle/{world.slug}/bottle/other-1234/x" in refs(host)
        assert "refs/heads/bottle/other-1234/x" not in refs(host)
    else:
        assert r.returncode != 0
        assert refs(host) == before


def test_secret_is_refused_here_too(world, host, untouched):
    before = refs(host)
    r = sh(world, 'echo "$SECRET" > k.txt\ncommit\ngit push origin HEAD:refs/heads/leak', check=False)
    assert r.returncode != 0 and SECRET_RULE in r.stderr and "k.txt" in r.stderr, r.stderr
    assert refs(host) == before


def test_hooks_and_configuration_in_the_tree(world, host, untouched):
    """They are content and nothing else: whether pushed or refused, nothing runs on the host."""
    sh(world, f"""
mkdir -p .githooks hooks objects refs
printf '#!/bin/sh\\ntouch {host}.hook-ran\\n' > hooks/post-update; chmod +x hooks/post-update
echo '[core] fsmonitor = "touch {host}.fsmonitor-ran"' > config
echo 'ref: refs/heads/main' > HEAD; touch objects/x refs/x
echo '*.c filter=evil' > .gitattributes
commit 'a repository in a repository'
git push origin HEAD:refs/heads/planted
""", check=False)


def test_packed_refs_stay(world, host):
    git("pack-refs", "--all", "--no-prune", cwd=host)
    before = open(f"{host}/.git/packed-refs").read()
    sh(world, "echo p > p\ncommit\ngit push -q origin HEAD:refs/heads/packed")
    assert open(f"{host}/.git/packed-refs").read() == before


def test_list_and_branches_after_the_end(make_world):
    """The branches outlive the bottle; cleanup leaves nothing else."""
    w = make_world([], workspace="clone")
    host = make_workspace(w.home.cwd)
    before = fingerprint(host)
    w.start()
    sh(w, "echo x > x\ncommit\ngit push -q origin HEAD:refs/heads/lasting")
    slug = w.slug
    w.running.stop()
    assert w.home.run("cleanup").returncode == 0
    assert f"refs/heads/bottle/{slug}/lasting" in refs(host)
    assert fingerprint(host) == before
    assert json.loads(w.home.run("list", "--all", "--json").stdout or "[]") == []
    left = [p for p in os.listdir(w.home.state)] if os.path.isdir(w.home.state) else []
    assert slug not in left


def test_not_in_a_repository(make_world):
    w = make_world([], workspace="clone")
    r = w.home.start("true")
    assert r.returncode != 0 and "repository" in r.stderr, r.stderr


def test_worktree_of_another(make_world):
    """`git worktree`: .git is a file there."""
    w = make_world([], workspace="clone")
    top = make_workspace(f"{w.home.folder}/top")
    os.rmdir(w.home.cwd)
    git("worktree", "add", "-q", w.home.cwd, "-b", "wt", cwd=top)
    w.home.own()
    w.start()
    sh(w, "echo x > x\ncommit\ngit push -q origin HEAD:refs/heads/from-wt")
    assert f"refs/heads/bottle/{w.slug}/from-wt" in refs(top)
    assert not git_world.git("status", "--porcelain", cwd=w.home.cwd, check=False)
