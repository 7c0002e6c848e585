"""`workspace: mount`: the agent works in the host's folder, and nothing of what the host obeys there is
its to write."""
import json
import os
import signal
import stat
import subprocess
import tempfile

import bottle
import pytest
from folder_world import git, make_repository, write


@pytest.fixture(params=["root", "user", "docker"])
def kind(request):
    """Started by root and by an ordinary user natively; by root on the docker backend in a folder that is
    an ordinary user's."""
    if request.param != "user" and os.geteuid() != 0:
        pytest.skip("needs root")
    return request.param


@pytest.fixture
def backend(kind):
    return "docker" if kind == "docker" else "native"


@pytest.fixture
def box(request, kind, make_home, scratch):
    """A home whose cwd is a repository, and the workspace."""
    if kind == "user":
        uid, folder = request.getfixturevalue("ordinary")
        home = make_home(uid if os.geteuid() == 0 else None)
        home.program = f"{folder}/build/claude-bottle"
    else:
        home = make_home()
    if kind == "docker":
        home.cwd = tempfile.mkdtemp(prefix="w", dir=scratch)
    home.write_bottle("box", workspace="mount")
    home.write_agent()
    make_repository(home.cwd)
    write(f"{home.cwd}/.vscode/tasks.json", "{}\n")
    write(f"{home.cwd}/src/deep/lib/.git/config", "[core]\n")
    write(f"{home.cwd}/src/deep/lib/.git/HEAD", "ref: refs/heads/main\n")
    write(f"{home.cwd}/sub/.envrc", "ok\n")
    own(home)
    return home


def own(home):
    home.own()
    if home.docker_host:
        uid = bottle.ordinary_uid()
        subprocess.run(["chown", "-R", f"{uid}:{uid}", home.cwd], check=True)


def owner(path):
    st = os.lstat(path)
    return st.st_uid, st.st_gid


def report(home, slug=None):
    slug = slug or home.slugs()[-1]
    with open(f"{home.state}/{slug}/workspace/report.json") as f:
        return {(c["change"], c["path"]): c for c in json.load(f)["changes"]}


def sh(home, script, **more):
    return home.start("sh", "-c", script, **more)


def test_the_agent_works_in_the_folder(box):
    r = sh(box, "pwd; cat README.md; echo new > new.txt; mkdir -p a/b; echo x > a/b/c; echo more >> README.md;"
           "chmod 755 new.txt; mv new.txt newer.txt; ls -ld newer.txt | cut -c1-10; id -u")
    assert r.returncode == 0, r.stderr + box.logs_of_all()
    uid = owner(box.cwd)[0] if box.docker_host else 1000
    assert r.stdout.split() == [box.cwd, "hello", "-rwxr-xr-x", str(uid)]
    assert open(f"{box.cwd}/README.md").read() == "hello\nmore\n"
    for path in ("newer.txt", "a", "a/b", "a/b/c", "README.md"):
        assert owner(f"{box.cwd}/{path}") == owner(box.cwd), path
    assert open(f"{box.cwd}/a/b/c").read() == "x\n"


def test_nothing_is_left_of_what_was_mounted(box):
    before = sorted(os.listdir(box.cwd))
    with box.background("sleep", "60") as running:
        # In nobody's way: git shows no empty folder.
        during = set(os.listdir(box.cwd)) - set(before)
        assert ".envrc" in during and ".claude" in during
        assert git(box.cwd, "status", "--porcelain") == "?? .vscode/\n?? sub/\n"
        journal = json.load(open(f"{running.folder}/workspace/journal.json"))
        assert {m["path"] for m in journal["made"]} == during
    assert sorted(os.listdir(box.cwd)) == before


ATTACKS = {
    "write": "echo evil > {p}",
    "append": "echo evil >> {p}",
    "remove": "rm -rf {p}; mkdir -p $(dirname {p}); echo evil > {p}",
    "rename it": "mv {top} {top}.old; mkdir -p $(dirname {p}); echo evil > {p}",
    "rename over it": "echo evil > t; mv -T t {p}",
    "link over it": "ln -sfn /tmp {p}; ln -sfT /tmp {top}",
    "hard link to it": "ln {p} hard && echo evil > hard",
    "exchange": "mkdir -p x; perl -e 'syscall(316, -100, \"x\", -100, \"{top}\", 2)'; echo evil > {p}",
    "chmod": "chmod -R 777 {top}; echo evil > {p}",
    "mount": "umount {p}; umount {top}; mount -o remount,rw {top}; echo evil > {p}",
}


@pytest.mark.parametrize("attack", sorted(ATTACKS))
@pytest.mark.parametrize("path", [".vscode/tasks.json", ".envrc", "src/deep/lib/.git/config", "sub/.envrc"])
def test_protected(box, attack, path):
    top = path.split("/")[0]
    if "exchange" in attack and box.docker_host:
        pytest.skip("the image has no perl")
    full = f"{box.cwd}/{path}"
    before = open(full).read() if os.path.exists(full) else None
    r = sh(box, f"({ATTACKS[attack].format(p=path, top=top)}) 2>&1; true")
    assert r.returncode == 0, r.stderr + box.logs_of_all()
    after = open(full).read() if os.path.isfile(full) else None
    assert after == before, r.stdout
    assert not os.path.lexists(full) or before is not None
    assert not os.path.islink(full) and not os.path.islink(f"{box.cwd}/{top}")
    assert not os.path.lexists(f"{box.cwd}/{top}.old")


@pytest.mark.parametrize("attack", sorted(set(ATTACKS) - {"mount"}))
def test_control_the_same_attacks_change_what_is_not_protected(box, attack):
    """What stands read-only above is lost where it is not listed: the attacks work."""
    write(f"{box.cwd}/plain/tasks.json", "{}\n")
    own(box)
    if "exchange" in attack and box.docker_host:
        pytest.skip("the image has no perl")
    r = sh(box, f"({ATTACKS[attack].format(p='plain/tasks.json', top='plain')}) 2>&1; true")
    assert r.returncode == 0
    path = f"{box.cwd}/plain/tasks.json"
    if attack == "link over it":
        assert os.path.islink(path) or os.path.islink(f"{box.cwd}/plain"), r.stdout
    else:
        assert "evil" in open(path).read(), r.stdout


def test_the_repository_is_the_agents_own(box):
    head = git(box.cwd, "rev-parse", "HEAD")
    config = open(f"{box.cwd}/.git/config").read()
    git(box.cwd, "config", "http.extraHeader", "Authorization: secret")
    own(box)
    r = sh(box, "set -e; git log --oneline | wc -l; git status --porcelain; git config user.name A;"
           "git config user.email a@example.test; echo x > n; git add -A; git commit -qm second;"
           "git log --format=%s; git config core.fsmonitor 'touch /tmp/x'; echo 'echo hi' > .git/hooks/pre-commit;"
           "git checkout -qb other; git gc -q; git fsck; cat .git/config")
    assert r.returncode == 0, r.stderr + box.logs_of_all()
    lines = r.stdout.split("\n")
    assert lines[0] == "1" and "second" in lines and "secret" not in r.stdout
    assert git(box.cwd, "rev-parse", "HEAD") == head
    assert git(box.cwd, "branch", "--list", "other") == ""
    after = open(f"{box.cwd}/.git/config").read()
    assert "fsmonitor" not in after and after.startswith(config.split("[http]")[0])
    assert not os.path.exists(f"{box.cwd}/.git/hooks/pre-commit")
    assert git(box.cwd, "status", "--porcelain", "n") == "?? n\n"


def test_no_repository_at_all(box):
    subprocess.run(["rm", "-rf", f"{box.cwd}/.git"], check=True)
    r = sh(box, "set -e; git init -q .; git config core.fsmonitor evil; echo evil > .git/hooks/post-checkout;"
           "git add README.md; echo ok")
    assert r.returncode == 0 and r.stdout == "ok\n", r.stderr + box.logs_of_all()
    assert not os.path.lexists(f"{box.cwd}/.git")


def test_a_linked_work_tree(box):
    tree = f"{os.path.dirname(box.cwd)}/linked-{os.path.basename(box.folder)}"
    git(box.cwd, "worktree", "add", "-q", "-b", "side", tree)
    own(box)
    box.cwd = tree
    own(box)
    r = sh(box, "set -e; git branch --show-current; git log --format=%s; git status --porcelain;"
           "git -c user.name=A -c user.email=a@b.c commit -q --allow-empty -m mine; git log -1 --format=%s;"
           "(echo evil > .git) 2>/dev/null || echo kept")
    assert r.returncode == 0, r.stderr + box.logs_of_all()
    assert r.stdout.split() == ["side", "first", "mine", "kept"]
    assert open(f"{tree}/.git").read().startswith("gitdir: ")
    assert git(tree, "log", "-1", "--format=%s") == "first\n"


def test_report(box):
    write(f"{box.cwd}/.github/workflows/ci.yml", "on: push\n")
    os.symlink("/etc/hostname", f"{box.cwd}/old-link")
    own(box)
    r = sh(box, "ln -s /etc/passwd out; ln -s ../../.. up; ln -s README.md in; mkdir sub; ln -s deep/.. sub/dot;"
           "git init -q nested; printf 'x' > nested/.git/hooks/post-checkout; chmod 755 nested/.git/hooks/post-checkout;"
           "git init -q --bare bare; echo evil >> Makefile; rm .github/workflows/ci.yml; mkfifo pipe;"
           "printf 'x' > \"$(printf 'a\\033[2Jb\\nc')\"; printf x > \"$(printf 'r\\342\\200\\256l')\";"
           "mkdir -p .VSCODE deep/.vscode; echo 1 > .VSCODE/tasks.json; echo 1 > deep/.vscode/tasks.json; cp /bin/true s")
    assert r.returncode == 0, r.stderr + box.logs_of_all()
    found = report(box)
    kinds = {key[1]: (key[0], c["kind"]) for key, c in found.items()}
    assert kinds["out"] == ("created", "link") and kinds["up"] == ("created", "link")
    assert kinds["nested/.git"] == ("created", "repository")
    assert kinds["bare/HEAD"] == ("created", "repository")
    assert kinds["Makefile"] == ("changed", "risky")
    assert kinds[".github/workflows/ci.yml"] == ("deleted", "risky")
    assert kinds["pipe"] == ("created", "special")
    assert kinds["a\x1b[2Jb\nc"] == ("created", "name") and kinds["r\u202el"] == ("created", "name")
    assert kinds[".VSCODE/tasks.json"][0] == "created" and kinds["deep/.vscode/tasks.json"][0] == "created"
    assert found["created", "nested/.git/hooks/post-checkout"]["executable"]
    assert not {"in", "sub/dot", "old-link", "s", "README.md", ".envrc", ".claude", ".git"} & set(kinds)
    # Shown, and nothing of it moves the terminal.
    assert "\x1b" not in r.stderr and "\u202e" not in r.stderr
    assert "nested/.git" in r.stderr and "\\x1b[2Jb" in r.stderr


def test_report_names_what_is_shared_with_a_file_elsewhere(box):
    store = tempfile.mkdtemp(dir=os.path.dirname(box.cwd))
    for name in ("changed.js", "left.js"):
        write(f"{box.cwd}/node_modules/p/{name}", "good\n")
        os.link(f"{box.cwd}/node_modules/p/{name}", f"{store}/{name}")
    own(box)
    r = sh(box, "echo evil > node_modules/p/changed.js; echo x > a; ln a b")
    assert r.returncode == 0, r.stderr
    assert open(f"{store}/changed.js").read() == "evil\n"  # what the report is for
    found = report(box)
    assert found["changed", "node_modules/p/changed.js"]["kind"] == "shared"
    assert not {"node_modules/p/left.js", "a", "b"} & {path for _, path in found}


def test_report_is_capped(box):
    r = sh(box, "for i in $(seq 60); do mkdir d$i; echo > d$i/Makefile; done")
    assert r.returncode == 0
    lines = [line for line in r.stderr.splitlines() if "Makefile" in line]
    assert len(lines) == 20 and "and 40 more; see claude-bottle diff" in r.stderr


def test_set_id_bits_cannot_be_set(box):
    r = sh(box, "cp /bin/true s; chmod 4755 s; chmod 2755 s; chmod u+s s; install -m 4755 /bin/true t;"
           "python3 -c 'import os; os.open(\"u\", os.O_CREAT|os.O_WRONLY, 0o4755)';"
           "python3 -c 'import os; f=os.open(\".\", os.O_TMPFILE|os.O_WRONLY, 0o4755);"
           "os.link(f\"/proc/self/fd/{f}\", \"v\", src_dir_fd=0, follow_symlinks=True)'; chmod 755 s; true")
    assert r.returncode == 0
    for name in os.listdir(box.cwd):
        assert not os.lstat(f"{box.cwd}/{name}").st_mode & (stat.S_ISUID | stat.S_ISGID), name
    assert os.stat(f"{box.cwd}/s").st_mode & 0o777 == 0o755


def test_kill_and_cleanup(box):
    before = sorted(os.listdir(box.cwd))
    with box.background("sh", "-c", "echo evil > package.json; ln -s / out; echo ready; sleep 60") as running:
        assert bottle.wait_until(lambda: os.path.lexists(f"{box.cwd}/out"), 10)
        bottle.kill_quietly(running.state()["pid"])
        running.wait()
    r = box.run("cleanup")
    assert r.returncode == 0, r.stderr
    assert "package.json" in r.stderr and " out" in r.stderr
    assert sorted(set(os.listdir(box.cwd)) - {"package.json", "out"}) == before


def test_what_the_host_put_there_stays(box):
    with box.background("sleep", "60"):
        os.rmdir(f"{box.cwd}/.mcp.json")
        write(f"{box.cwd}/.mcp.json", "{}")
        write(f"{box.cwd}/.claude/settings.json", "{}")
    assert open(f"{box.cwd}/.mcp.json").read() == "{}"
    assert open(f"{box.cwd}/.claude/settings.json").read() == "{}"


def test_a_link_in_the_way_is_refused(box):
    secret = f"{box.folder}/secret"
    write(f"{secret}/key", "secret\n")
    os.symlink(secret, f"{box.cwd}/.claude")
    own(box)
    r = sh(box, "cat .claude/key")
    assert r.returncode == 1 and "secret" not in r.stdout and "symbolic link" in r.stderr
    assert not os.path.lexists(f"{box.cwd}/.envrc")


def test_one_bottle_at_a_time(box):
    inner = f"{box.cwd}/inner"
    os.makedirs(inner)
    own(box)
    with box.background("sleep", "60") as running:
        r = sh(box, "true")
        assert r.returncode == 1 and running.slug in r.stderr
        top, box.cwd = box.cwd, inner
        r = sh(box, "true")
        box.cwd = top
        assert r.returncode == 1 and running.slug in r.stderr
        # What refused it did not take away what the other one has.
        assert os.path.isdir(f"{box.cwd}/.envrc")
    assert sh(box, "true").returncode == 0


@pytest.mark.parametrize("where", ["home", "/", "/tmp", "state", "manifests", "/usr/share"])
def test_folders_that_are_never_a_workspace(box, where):
    box.cwd = {"home": box.folder, "state": os.path.dirname(box.state),
               "manifests": f"{box.folder}/.claude-bottle/agents"}.get(where, where)
    if box.docker_host and where != "/":
        pytest.skip("the same code")
    if where == "state":
        os.makedirs(box.cwd, mode=0o700, exist_ok=True)
        own(box)
    r = sh(box, "true")
    assert r.returncode == 1 and len(r.stderr.splitlines()) <= 3
    assert "cannot be a bottle's workspace" in r.stderr or "workspace cannot be mounted" in r.stderr


def test_resume(box):
    r = sh(box, "git -c user.name=A -c user.email=a@b.c commit -q --allow-empty -m mine; echo 1 > one")
    assert r.returncode == 0, r.stderr
    slug = box.slugs()[-1]
    cwd, box.cwd = box.cwd, "/"
    r = box.run("resume", slug, "--headless", "--", "sh", "-c", "pwd; git log -1 --format=%s; cat one; rm one")
    box.cwd = cwd
    assert r.returncode == 0, r.stderr + box.logs_of_all()
    assert r.stdout.split() == [cwd, "mine", "1"]
    assert not os.path.exists(f"{cwd}/one") and not os.path.lexists(f"{cwd}/.envrc")


def test_exec_stands_in_the_folder(box):
    with box.background("sleep", "60") as running:
        assert running.exec("pwd").stdout.strip() == box.cwd
        r = running.exec("sh", "-c", "echo evil > .envrc; echo evil > .vscode/tasks.json")
        assert r.returncode != 0
    assert open(f"{box.cwd}/.vscode/tasks.json").read() == "{}\n"


@pytest.mark.parametrize("how", ["rename over", "remove", "move away", "new folder"])
def test_what_loses_its_protection_ends_the_bottle(box, how):
    """A mount is gone when the host replaces what it lies on; nothing can keep Linux from that."""
    with box.background("sh", "-c", "touch up; sleep 60") as running:
        assert bottle.wait_until(lambda: os.path.exists(f"{box.cwd}/up"), 10)
        # The control: what is not protected may come and go.
        write(f"{box.cwd}/t", "mine\n")
        os.rename(f"{box.cwd}/t", f"{box.cwd}/README.md")
        write(f"{box.cwd}/.vscode/t", "mine\n")
        os.rename(f"{box.cwd}/.vscode/t", f"{box.cwd}/.vscode/tasks.json")
        assert running.exec("cat", ".vscode/tasks.json").stdout == "mine\n"
        assert running.process.poll() is None
        if how == "rename over":
            write(f"{box.cwd}/t", "mine\n")
            os.rename(f"{box.cwd}/t", f"{box.cwd}/sub/.envrc")
        elif how == "remove":
            os.unlink(f"{box.cwd}/sub/.envrc")
        elif how == "move away":
            os.rename(f"{box.cwd}/src", f"{box.cwd}/elsewhere")
        else:
            os.rmdir(f"{box.cwd}/.envrc")
            os.mkdir(f"{box.cwd}/.envrc")
        assert running.process.wait(20) == 1
        err = running.process.stderr.read().decode()
        assert "protected no longer" in err and "resume" in err, err
