"""What a bottle pushed is looked at and merged without any of it being executed or shown raw."""
import json
import os
import subprocess

import bottle
import pytest
from folder_world import git, make_repository, write

SLUG = "worker-abc123"


@pytest.fixture
def repo(make_home):
    """A home whose cwd is a repository into which a bottle that is gone pushed."""
    home = make_home()
    home.write_bottle("box", workspace="mount")
    home.write_agent()
    make_repository(home.cwd)
    git(home.cwd, "config", "user.name", "H")
    git(home.cwd, "config", "user.email", "h@example.test")
    home.secrets["GIT_CONFIG_GLOBAL"] = "/dev/null"
    return home


def push(home, branch="fix", files=None, links=None, base="main", message="work", modes=None):
    """A commit of the bottle's, made aside."""
    tree = f"{home.folder}/aside-{branch.replace('/', '-')}"
    git(home.cwd, "worktree", "add", "-q", "--detach", tree, base)
    for name, text in (files or {"src.c": "int x;\n"}).items():
        write(f"{tree}/{name}", text)
    for name, target in (links or {}).items():
        os.symlink(target, f"{tree}/{name}")
    for name, mode in (modes or {}).items():
        os.chmod(f"{tree}/{name}", mode)
    git(tree, "add", "-Af")
    git(tree, "commit", "-qm", message)
    commit = git(tree, "rev-parse", "HEAD").strip()
    git(home.cwd, "update-ref", f"refs/heads/bottle/{SLUG}/{branch}", commit)
    git(home.cwd, "worktree", "remove", "--force", tree)
    return commit


def log(home):
    return git(home.cwd, "log", "--format=%s").split("\n")[:-1]


def test_diff(repo):
    push(repo, files={"src.c": "int x;\n", "README.md": "hello\nworld\n"})
    r = repo.run("diff", SLUG)
    assert r.returncode == 0, r.stderr
    assert f"branch bottle/{SLUG}/fix: 1 commit, 2 files" in r.stdout
    assert "+int x;" in r.stdout and "+world" in r.stdout and "work" in r.stdout
    assert "executes or obeys" not in r.stdout
    r = repo.run("diff", SLUG, "--stat")
    assert "src.c" in r.stdout and "+int x;" not in r.stdout


def test_diff_warns_first(repo):
    push(repo, files={".envrc": "evil\n", "sub/.vscode/tasks.json": "{}\n", ".github/workflows/x.yml": "on:\n",
                      "package.json": "{}\n"}, links={"out": "../../etc", "abs": "/etc/passwd", "in": "README.md"})
    r = repo.run("diff", SLUG)
    head = r.stdout.split("diff --git")[0]
    for name in (".envrc", "sub/.vscode/tasks.json", ".github/workflows/x.yml", "out", "abs"):
        assert f"! {name} " in head.replace("!  ", "! "), (name, head)
    assert "! in" not in head and "! package.json" not in head
    said = json.loads(repo.run("diff", SLUG, "--json").stdout)
    files = {f["path"]: f for f in said["branches"][0]["files"]}
    assert {p for p, f in files.items() if f["risky"]} == \
        {".envrc", "sub/.vscode/tasks.json", ".github/workflows/x.yml", "out", "abs"}
    assert said["branches"][0]["risky"] == 5 and files["package.json"]["why"]


def test_diff_shows_what_is_hidden(repo):
    push(repo, files={"a.c": "x\x1b[2Jy\x9bz\u202erl\u200b\r\n\ttab\n", "n\x1bame": "1\n"},
         message="mess\x1b]0;title\x07age\u202e")
    for args in ((), ("--stat",), ("--json",)):
        out = repo.run("diff", SLUG, *args).stdout
        for bad in ("\x1b", "\x07", "\u202e", "\u200b", "\x9b", "\r"):
            assert bad not in out, (args, bad)
    out = repo.run("diff", SLUG).stdout
    assert "<U+001B>[2Jy" in out and "<U+202E>" in out and "\ttab" in out


def test_nothing_of_the_repository_is_executed(repo):
    """Filters, textconv, external diffs, hooks, fsmonitor, pagers and signature programs that a repository's
    configuration names and the branch's attributes choose."""
    mark = f"{repo.folder}/mark"
    evil = f"{repo.folder}/evil"
    write(evil, f"#!/bin/sh\necho \"$0 $*\" >> {mark}\ncat\n", 0o755)
    push(repo, files={".gitattributes": "* diff=evil filter=evil merge=evil\n", "src.c": "int x;\n"})
    for key in ("diff.evil.command", "diff.evil.textconv", "diff.external", "core.fsmonitor", "core.pager",
                "pager.diff", "pager.log", "gpg.program"):
        git(repo.cwd, "config", key, evil)
    git(repo.cwd, "config", "log.showSignature", "true")
    for hook in ("pre-merge-commit", "post-merge", "prepare-commit-msg", "commit-msg", "pre-commit",
                 "post-checkout", "post-index-change", "reference-transaction"):
        write(f"{repo.cwd}/.git/hooks/{hook}", f"#!/bin/sh\necho {hook} >> {mark}\n", 0o755)
    write(f"{repo.cwd}/.git/info/attributes", "* diff=evil\n")
    for args in (("diff", SLUG), ("diff", SLUG, "--stat"), ("diff", SLUG, "--json"),
                 ("merge", SLUG, "--yes", "--allow-risky")):
        r = repo.run(*args)
        assert r.returncode == 0, r.stderr
        assert not os.path.exists(mark), (args, open(mark).read())
    # The control: the same repository, and git as it comes.
    subprocess.run(["git", "-C", repo.cwd, "diff", "HEAD~1", "HEAD"], capture_output=True, env=repo.env())
    subprocess.run(["git", "-C", repo.cwd, "commit", "-q", "--allow-empty", "-m", "x"], env=repo.env())
    said = open(mark).read()
    assert "evil" in said and "pre-commit" in said


def test_merge(repo):
    commit = push(repo)
    r = repo.run("merge", SLUG, "--yes", "--json")
    assert r.returncode == 0, r.stderr
    said = json.loads(r.stdout)
    assert said["merged"] and said["into"] == "main" and said["branch"] == "fix"
    assert git(repo.cwd, "rev-parse", "HEAD").strip() == said["commit"]
    assert git(repo.cwd, "rev-parse", "HEAD^2").strip() == commit
    assert log(repo)[0] == f"Merge branch 'bottle/{SLUG}/fix' into main"
    assert os.path.exists(f"{repo.cwd}/src.c")
    undo = [w for w in r.stderr.split("to undo it: ")[1].split()][1:]
    git(repo.cwd, *undo)
    assert log(repo) == ["first"] and not os.path.exists(f"{repo.cwd}/src.c")
    assert repo.run("merge", SLUG, "--yes").returncode == 0
    r = repo.run("merge", SLUG, "--yes")
    assert r.returncode == 0 and "has all of it" in r.stderr


def test_merge_asks(repo, terminal):
    push(repo)
    r = repo.run("merge", SLUG)
    assert r.returncode == 2 and "--yes" in r.stderr and log(repo) == ["first"]
    for answer, merged in ((b"\r", False), (b"n\r", False), (b"yes\r", True)):
        t = terminal(repo, "merge", SLUG)
        assert b"src.c" in t.expect(b"[y/N]")
        t.type(answer)
        assert t.wait() == (0 if merged else 1)
        assert (len(log(repo)) > 1) == merged


def test_merge_wants_more_than_yes_for_what_is_executed(repo):
    push(repo, files={".envrc": "evil\n"})
    r = repo.run("merge", SLUG, "--yes")
    assert r.returncode == 1 and "--allow-risky" in r.stderr and log(repo) == ["first"]
    assert not os.path.exists(f"{repo.cwd}/.envrc")
    assert repo.run("merge", SLUG, "--yes", "--allow-risky").returncode == 0
    assert os.path.exists(f"{repo.cwd}/.envrc")


def test_merge_refuses_a_dirty_tree(repo):
    push(repo)
    write(f"{repo.cwd}/README.md", "mine\n")
    r = repo.run("merge", SLUG, "--yes")
    assert r.returncode == 1 and "not committed" in r.stderr
    assert open(f"{repo.cwd}/README.md").read() == "mine\n"
    git(repo.cwd, "add", "-A")
    assert repo.run("merge", SLUG, "--yes").returncode == 1
    git(repo.cwd, "reset", "-q", "--hard")
    git(repo.cwd, "checkout", "-q", "--detach")
    r = repo.run("merge", SLUG, "--yes")
    assert r.returncode == 1 and "no branch checked out" in r.stderr


def test_merge_leaves_conflicts_to_git(repo):
    push(repo, files={"README.md": "theirs\n"})
    write(f"{repo.cwd}/README.md", "ours\n")
    git(repo.cwd, "commit", "-qam", "ours")
    r = repo.run("merge", SLUG, "--yes")
    assert r.returncode == 1 and "git merge --abort" in r.stderr and "README.md" in r.stderr
    assert "<<<<<<<" in open(f"{repo.cwd}/README.md").read()
    r = repo.run("merge", SLUG, "--yes")
    assert r.returncode == 1 and "middle of a merge" in r.stderr
    git(repo.cwd, "merge", "--abort")
    assert open(f"{repo.cwd}/README.md").read() == "ours\n"


def test_branches_are_chosen(repo):
    push(repo, "one", files={"one": "1\n"})
    push(repo, "sub/two", files={"two": "2\n"})
    r = repo.run("merge", SLUG, "--yes")
    assert r.returncode == 1 and "--branch" in r.stderr
    out = repo.run("diff", SLUG, "--branch", "sub/two").stdout
    assert "b/two" in out and "b/one" not in out
    assert repo.run("merge", SLUG, "--yes", "--branch", "sub/two").returncode == 0
    assert os.path.exists(f"{repo.cwd}/two") and not os.path.exists(f"{repo.cwd}/one")
    for verb in (("diff",), ("merge", "--yes")):
        r = repo.run(verb[0], SLUG, *verb[1:], "--branch", "none")
        assert r.returncode == 1 and "no branch" in r.stderr


@pytest.mark.parametrize("name", ["nobody-xyz", "../x", "-x", "a b", ""])
def test_nothing_there(repo, name):
    for verb in (["diff"], ["merge", "--yes"]):
        r = repo.run(*verb, name)
        assert r.returncode in (1, 2) and len(r.stderr.splitlines()) == 1 and not r.stdout


def test_a_branch_that_is_no_kin(repo):
    empty = git(repo.cwd, "commit-tree", "-m", "alien", git(repo.cwd, "hash-object", "-t", "tree", "-w",
                                                           "/dev/null").strip()).strip()
    git(repo.cwd, "update-ref", f"refs/heads/bottle/{SLUG}/alien", empty)
    r = repo.run("diff", SLUG)
    assert r.returncode == 0 and "no history in common" in r.stdout, r.stderr
    r = repo.run("merge", SLUG, "--yes")
    assert r.returncode == 1 and log(repo) == ["first"]


def test_mount_mode(repo):
    r = repo.start("sh", "-c", "echo evil >> Makefile; echo more >> README.md; echo n > new.txt")
    assert r.returncode == 0, r.stderr
    slug = repo.slugs()[-1]
    mark = f"{repo.folder}/mark"
    write(f"{repo.folder}/evil", f"#!/bin/sh\ntouch {mark}\ncat\n", 0o755)
    write(f"{repo.cwd}/.gitattributes", "* filter=evil diff=evil\n")
    git(repo.cwd, "config", "filter.evil.clean", f"{repo.folder}/evil")
    git(repo.cwd, "config", "filter.evil.process", f"{repo.folder}/evil")
    git(repo.cwd, "config", "filter.evil.required", "true")
    r = repo.run("diff", slug)
    assert r.returncode == 0, r.stderr
    assert "Makefile" in r.stdout.split("work tree")[0] and "+more" in r.stdout and "new.txt" in r.stdout
    assert not os.path.exists(mark)
    said = json.loads(repo.run("diff", slug, "--json").stdout)
    assert [c["path"] for c in said["workspace"]["changes"]] == ["Makefile"]
    # The control.
    git(repo.cwd, "diff", "HEAD", check=False)
    assert os.path.exists(mark)


def test_mount_mode_while_it_runs(repo):
    with repo.background("sh", "-c", "echo evil >> Makefile; touch done; sleep 60") as running:
        assert bottle.wait_until(lambda: os.path.exists(f"{repo.cwd}/done"), 10)
        r = repo.run("diff", running.slug)
        assert r.returncode == 0 and "Makefile" in r.stdout and ".envrc" not in r.stdout


def test_on_a_terminal_in_colours_through_a_pager(repo, terminal):
    push(repo, files={"a.c": "x\x1b[2Jy\n"})
    repo.secrets["PAGER"] = "sed s/^/PAGED:/"
    t = terminal(repo, "diff", SLUG)
    out = t.expect(b"[2Jy")
    assert b"PAGED:" in out and b"\x1b[32m+" in out and out.endswith(b"<U+001B>")
    assert t.wait() == 0
