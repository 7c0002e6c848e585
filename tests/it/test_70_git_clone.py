"""`workspace: clone`: the agent begins in a clone of the host's repository; what it pushes lands there as
bottle/SLUG/BRANCH, and the CLI says so."""
import json
import os
import re
import subprocess

import bottle
import pytest
import session


@pytest.fixture(params=["native", "docker"])
def backend(request):
    return request.param


def git(folder, *args, check=True):
    r = subprocess.run(["git", "-c", "user.name=H", "-c", "user.email=h@example.test", "-c",
                        "init.defaultBranch=main", "-C", folder, *args], capture_output=True, text=True)
    assert not check or r.returncode == 0, r.stderr
    return r.stdout.strip()


def make_repository(folder):
    os.makedirs(folder, exist_ok=True)
    git(folder, "init", "-q")
    with open(f"{folder}/file.txt", "w") as f:
        f.write("one\n")
    git(folder, "add", "file.txt")
    git(folder, "commit", "-qm", "first")
    with open(f"{folder}/.env", "w") as f:
        f.write("TOKEN=untracked\n")


@pytest.fixture
def box(make_home):
    home = make_home()
    home.cwd = f"{home.folder}/My project.git+x"
    make_repository(home.cwd)
    home.write_bottle("box", workspace="clone")
    home.write_agent()
    return home


NAME = "My-project.git-x"  # nothing that a shell or an option parser would take otherwise
COMMIT = ("echo more >> file.txt && git -c user.name=b -c user.email=b@example.test commit -qam more && ")


def ended(home, r):
    assert r.returncode == 0, r.stderr + home.logs_of_all()
    slug, = home.slugs()
    return slug


def test_it_begins_in_a_clone(box):
    r = box.start("sh", "-c", "pwd; echo $CLAUDE_BOTTLE_WORKSPACE; ls -A; cat file.txt; "
                              "git symbolic-ref --short HEAD; git log --format=%s; git remote get-url origin")
    slug = ended(box, r)
    lines = r.stdout.split("\n")
    assert lines[:2] == [f"/home/agent/{NAME}"] * 2
    assert lines[2:-1] == [".git", "file.txt", "one", slug, "first", lines[-2]]
    assert re.fullmatch(r"http://[0-9.]+:9418/workspace", lines[-2])
    # Headless: not a word about it.
    assert "clon" not in r.stderr
    # Nothing of the host's was changed.
    assert git(box.cwd, "for-each-ref", "--format=%(refname)") == "refs/heads/main"
    assert not os.path.exists(f"{box.cwd}/.git/refs/heads/bottle")


def test_what_it_pushes_lands_and_is_told(box):
    r = box.start("sh", "-c", COMMIT + "git push -q && git push -q origin HEAD:refs/heads/deep/er")
    slug = ended(box, r)
    refs = git(box.cwd, "for-each-ref", "--format=%(refname)").split()
    assert refs == [f"refs/heads/bottle/{slug}/deep/er", f"refs/heads/bottle/{slug}/{slug}",
                    "refs/heads/main"]
    assert git(box.cwd, "show", f"bottle/{slug}/{slug}:file.txt") == "one\nmore"
    assert git(box.cwd, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert git(box.cwd, "status", "--porcelain") == "?? .env"
    told = [f"claude-bottle: bottle/{slug}/{name}: 1 commit; see: claude-bottle diff {slug}"
            for name in ("deep/er", slug)]
    assert r.stderr.splitlines()[-2:] == told
    listed = box.run("list", "--all")
    assert listed.stderr.splitlines() == told
    assert json.loads(box.run("list", "--all", "--json").stdout)[0]["slug"] == slug
    # What is merged is nothing to look at any more.
    git(box.cwd, "merge", "-q", f"bottle/{slug}/{slug}")
    assert box.run("list", "--all").stderr == ""


def test_nothing_of_the_hosts_repository_runs(box):
    """Neither for git-gate nor for what the CLI says at the end: what an agent could plant there."""
    marker = f"{box.folder}/ran"
    script = f"#!/bin/sh\necho $0 $* >> '{marker}'\n"
    for name in ("pre-receive", "update", "post-receive", "post-update", "reference-transaction",
                 "proc-receive", "push-to-checkout", "post-index-change"):
        with open(f"{box.cwd}/.git/hooks/{name}", "w") as f:
            f.write(script)
        os.chmod(f"{box.cwd}/.git/hooks/{name}", 0o755)
    planted = f"{box.folder}/planted"
    with open(planted, "w") as f:
        f.write(script)
    os.chmod(planted, 0o755)
    with open(f"{box.cwd}/.git/config", "a") as f:
        f.write("".join(f'[{section}]\n\t{key} = "{planted}"\n' for section, key in (
            ("core", "fsmonitor"), ("core", "alternateRefsCommand"), ("core", "sshCommand"),
            ("core", "pager"), ("uploadpack", "packObjectsHook"), ("diff", "external"),
            ("gpg", "program"))))
    r = box.start("sh", "-c", COMMIT + "git push -q && git fetch -q")
    slug = ended(box, r)
    assert f"bottle/{slug}/{slug}: 1 commit" in r.stderr
    assert "1 commit" in box.run("list", "--all").stderr
    assert not os.path.exists(marker), open(marker).read()
    # They work: the human's own git obeys them.
    git(box.cwd, "update-ref", "refs/heads/x", "HEAD")
    assert os.path.exists(marker)


def test_another_process_begins_there_too(box):
    with box.background() as b:
        where = f"/home/agent/{NAME}"
        # At once: it waits for the clone.
        assert b.exec("pwd").stdout.strip() == where
        r = b.exec("sh", "-c", COMMIT + "git push -q", check=True)
        stopped = box.run("stop", b.slug)
        assert stopped.stderr.splitlines()[-1] == \
            f"claude-bottle: bottle/{b.slug}/{b.slug}: 1 commit; see: claude-bottle diff {b.slug}", r.stderr


def test_resume_keeps_the_clone(box):
    r = box.start("sh", "-c", "echo mine > new.txt; echo dirty >> file.txt; git checkout -qb other")
    slug = ended(box, r)
    r = box.run("resume", slug, "--headless", "--", "sh", "-c",
                "pwd; cat new.txt; tail -n1 file.txt; git symbolic-ref --short HEAD; git fetch -q && echo ok")
    assert r.returncode == 0, r.stderr + box.logs_of_all()
    assert r.stdout.split() == [f"/home/agent/{NAME}", "mine", "dirty", "other", "ok"]


def test_a_terminal_is_told(box, terminal):
    t = terminal(box, "start", "worker", "--", "sh", "-c", "echo be''gun")
    seen = t.expect(b"begun")
    assert b"claude-bottle: cloning the workspace" in seen
    assert t.wait() == 0


def test_a_failing_clone_is_told(box):
    """The repository goes away while the bottle starts: git's own words, one line, a status."""
    head = f"{box.cwd}/.git/HEAD"
    with open(head) as f:
        text = f.read()
    with open(head, "w") as f:
        f.write("ref: refs/heads/main\n")
    objects = f"{box.cwd}/.git/objects"
    os.rename(objects, objects + ".away")
    os.makedirs(objects)
    r = box.start("echo", "begun")
    assert r.returncode == 125 and "begun" not in r.stdout, r.stderr
    last = [x for x in r.stderr.splitlines() if x.startswith("claude-bottle: the workspace")][-1]
    assert re.fullmatch(r"claude-bottle: the workspace was not cloned: git ended with status \d+", last)
    assert box.folder not in r.stderr.replace(f"{box.state}", "")
    with open(head, "w") as f:
        f.write(text)


@pytest.mark.parametrize("spoil, word", [
    (("branch", "bottle"), "rename it"),
    (("config", "extensions.objectFormat", "sha256"), "SHA-256"),
])
def test_what_cannot_be_is_said_at_the_start(box, spoil, word):
    git(box.cwd, *spoil)
    if spoil[0] == "config":
        git(box.cwd, "config", "core.repositoryFormatVersion", "1", check=False)
    r = box.start("true")
    assert r.returncode == 1 and word in r.stderr, r.stderr
    assert "begun" not in r.stdout


def test_nothing_is_left(box):
    with box.background() as b:
        assert bottle.wait_until(lambda: b.exec("true").returncode == 0, 20)
        slug, folder = b.slug, b.folder
        keeper = b.state()["pid"]
        bottle.kill_quietly(keeper)
        session.wait_for(lambda: not bottle.is_alive(keeper))
    r = box.run("cleanup")
    assert r.returncode == 0, r.stderr
    assert not os.path.exists(folder)
    assert not os.path.exists(f"/var/lib/claude-bottle/git/{slug}")
    assert not os.path.exists(f"/var/lib/claude-bottle/git/{slug}.of")
    assert session.wait_for(lambda: not bottle.processes_that_mention(slug)) is None
