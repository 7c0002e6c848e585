"""What an agent reads through git-gate: clones, fetches, shallow and partial ones, submodules, every
spelling of a remote; and what it is told while the upstream is down."""
import time

import git_world
import pytest
from git_world import HTTPS_HOST, SSH_HOST, TOKEN, git, https_remote, make_bare, ssh_remote


@pytest.fixture(scope="module")
def world(make_world, https_git, ssh_git):
    make_bare(https_git.path("team/project"), commits=30)
    make_bare(https_git.path("team/module"), {"module.txt": "a module\n"})
    make_bare(https_git.path("team/secret"), {"s.txt": "not declared\n"})
    make_bare(https_git.path("team/lasting"), commits=3)
    make_bare(ssh_git.path("team/tool"), commits=12)
    big = make_bare(https_git.path("team/big"), {"a.txt": "x" * 300000, "b/c.txt": "y" * 200000})
    # A superproject that names its module as people do: by its real URL.
    top = make_bare(https_git.path("team/top"), {
        ".gitmodules": f'[submodule "module"]\n\tpath = module\n\turl = https://{HTTPS_HOST}/team/module.git\n'})
    add_gitlink(top, "module", git_world.refs(https_git.path("team/module"))["refs/heads/main"])
    assert big
    w = make_world([https_remote("project", https_git), https_remote("module", https_git),
                    https_remote("top", https_git), https_remote("big", https_git),
                    https_remote("lasting", https_git, stale="serve"),
                    ssh_remote("tool", ssh_git)])
    return w.start()


def add_gitlink(bare, path, oid):
    """A commit on main with a submodule's entry, made without a work tree."""
    tree = git("ls-tree", "main", cwd=bare) + f"\n160000 commit {oid}\t{path}\n"
    new = git("mktree", "--missing", cwd=bare, input=tree.encode())
    commit = git("commit-tree", new, "-p", "main", "-m", "add a module", cwd=bare)
    git("update-ref", "refs/heads/main", commit, cwd=bare)


@pytest.fixture
def upstream_down(https_git, ssh_git):
    """down(mode): from then on the upstream does that; healed at the end."""
    yield lambda mode: setattr(https_git, "mode", mode)
    https_git.mode = None


SPELLINGS = [f"https://{HTTPS_HOST}/team/project.git", f"https://{HTTPS_HOST}/team/project",
             f"ssh://git@{HTTPS_HOST}/team/project.git", f"git@{HTTPS_HOST}:team/project.git"]


@pytest.mark.parametrize("url", SPELLINGS)
def test_clone_by_any_spelling(world, url):
    r = world.sh(f"clone {url}\ngit log --oneline | wc -l\ngit remote get-url origin\ncat README.md")
    lines = r.stdout.splitlines()
    assert lines[0].strip() == "30" and "a project" in r.stdout
    # It goes to git-gate, whatever the agent wrote.
    assert ":9418/" in lines[1], r.stdout


def test_clone_over_ssh(world, ssh_git):
    before = len(ssh_git.asked())
    r = world.sh(f"clone {ssh_git.url('team/tool')}\ngit log --oneline | wc -l\ngit rev-parse HEAD")
    assert r.stdout.split() == ["12", git_world.refs(ssh_git.path("team/tool"))["refs/heads/main"]]
    asked = ssh_git.asked()[before:]
    assert asked and all(c.startswith("git-upload-pack ") for c in asked), asked
    r = world.sh(f"clone ssh://{ssh_git.user}@{SSH_HOST}/team/tool\ngit log --oneline | wc -l")
    assert r.stdout.split() == ["12"]


def test_fetch_sees_what_is_new_upstream(world, https_git):
    bare = https_git.path("team/project")
    world.sh(f"cd /tmp && rm -rf kept && git clone -q https://{HTTPS_HOST}/team/project.git kept")
    commit = git("commit-tree", "main^{tree}", "-p", "main", "-m", "meanwhile", cwd=bare)
    git("update-ref", "refs/heads/meanwhile", commit, cwd=bare)
    git("tag", "v-meanwhile", "main", cwd=bare)
    time.sleep(2.2)  # past the time that a refresh is good for
    r = world.sh("cd /tmp/kept && git fetch -q --tags && git rev-parse origin/meanwhile v-meanwhile")
    assert r.stdout.split() == [commit, git("rev-parse", "main", cwd=bare)]
    git("update-ref", "-d", "refs/heads/meanwhile", cwd=bare)
    time.sleep(2.2)
    r = world.sh("cd /tmp/kept && git fetch -q --prune && git branch -r")
    assert "meanwhile" not in r.stdout


def test_only_heads_and_tags_are_served(world, https_git):
    bare = https_git.path("team/project")
    git("update-ref", "refs/pull/7/head", "main", cwd=bare)
    git("update-ref", "refs/notes/commits", "main", cwd=bare)
    time.sleep(2.2)
    r = world.sh(f"git ls-remote https://{HTTPS_HOST}/team/project.git")
    assert "refs/heads/main" in r.stdout
    assert "refs/pull" not in r.stdout and "refs/notes" not in r.stdout


def test_shallow(world):
    r = world.sh(f"""
clone --depth 3 https://{HTTPS_HOST}/team/project.git
git rev-list --count HEAD
git fetch -q --deepen 4 && git rev-list --count HEAD
git fetch -q --unshallow && git rev-list --count HEAD
cd .. && rm -rf repo
git clone -q --shallow-since=2001-01-01 https://{HTTPS_HOST}/team/project.git repo && cd repo
git rev-list --count HEAD
""")
    assert r.stdout.split() == ["3", "7", "30", "30"]


def test_partial(world):
    r = world.sh(f"""
git clone -q --filter=blob:none --no-checkout https://{HTTPS_HOST}/team/big.git repo && cd repo
git rev-list --objects --all --missing=print | grep -c '^?'
git checkout -q main
wc -c < a.txt
""")
    assert r.stdout.split() == ["2", "300000"]


def test_protocol_versions(world):
    for version in ("0", "1", "2"):
        r = world.sh(f"git -c protocol.version={version} clone -q "
                     f"https://{HTTPS_HOST}/team/project.git repo\ngit -C repo rev-list --count HEAD")
        assert r.stdout.split() == ["30"], version


def test_submodule_by_its_real_url(world):
    r = world.sh(f"git clone -q --recurse-submodules https://{HTTPS_HOST}/team/top.git repo\n"
                 "cat repo/module/module.txt")
    assert r.stdout == "a module\n"


def test_what_is_not_declared(world, https_git):
    before = len(https_git.requests)
    r = world.sh(f"git clone https://{HTTPS_HOST}/team/secret.git repo", check=False)
    assert r.returncode != 0
    # Not even asked about: not by git-gate, and pipelock has no route.
    assert len(https_git.requests) == before


def test_token_is_nowhere_in_the_bottle(world, ssh_git):
    with open(f"{ssh_git.folder}/key") as f:
        key = f.read().splitlines()[2]
    r = world.sh(f"""
clone https://{HTTPS_HOST}/team/project.git
env; cat .git/config ~/.gitconfig /etc/gitconfig 2>/dev/null || true
git config --list --show-origin
printf 'protocol=https\\nhost={HTTPS_HOST}\\n\\n' | git credential fill || true
printf 'protocol=http\\nhost=%s\\n\\n' "$(git remote get-url origin | cut -d/ -f3)" | git credential fill || true
GIT_CURL_VERBOSE=1 GIT_TRACE_CURL_NO_DATA=0 git ls-remote origin 2>&1
cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'
""")
    seen = r.stdout + r.stderr
    assert TOKEN not in seen and key not in seen
    assert "cbph-" not in "".join(line for line in seen.splitlines() if "git" in line.lower()), \
        "the placeholder is for egress alone"


# --- the upstream is down ---

DOWN = [("500", "500"), pytest.param("hang", "", marks=pytest.mark.one_backend), ("echo", "403")]


@pytest.mark.parametrize("mode,word", DOWN)
def test_upstream_down(world, upstream_down, mode, word):
    upstream_down(mode)
    time.sleep(2.2)
    start = time.monotonic()
    r = world.sh(f"git clone https://{HTTPS_HOST}/team/project.git repo", check=False, timeout=120)
    took = time.monotonic() - start
    assert r.returncode != 0
    # The agent is told who failed, and not with the upstream's secrets.
    assert HTTPS_HOST in r.stderr or "upstream" in r.stderr, r.stderr
    assert word in r.stderr, r.stderr
    assert TOKEN not in r.stderr + r.stdout
    assert took < 60, took


def test_stale_is_served_where_it_may_be(world, upstream_down):
    world.sh(f"git ls-remote https://{HTTPS_HOST}/team/lasting.git")
    upstream_down("500")
    time.sleep(2.2)
    r = world.sh(f"clone https://{HTTPS_HOST}/team/lasting.git\ngit rev-list --count HEAD")
    assert r.stdout.split() == ["3"]
    assert "what you get is as of" in r.stderr, r.stderr
    # A push needs to know what is there: it is refused.
    r = world.sh(f"clone https://{HTTPS_HOST}/team/lasting.git\necho x > x\ncommit\n"
                 "git push origin HEAD:refs/heads/on-stale", check=False)
    assert r.returncode != 0


def test_wrong_token(world, https_git):
    right, https_git.token = https_git.token, "another"
    try:
        time.sleep(2.2)
        r = world.sh(f"git clone https://{HTTPS_HOST}/team/project.git repo", check=False)
    finally:
        https_git.token = right
    assert r.returncode != 0 and "401" in r.stderr + r.stdout or "credential" in r.stderr, r.stderr
    assert TOKEN not in r.stderr


def test_ssh_says_why(world, ssh_git):
    ssh_git.fail("this machine is being mended")
    try:
        time.sleep(2.2)
        r = world.sh(f"git clone {ssh_git.url('team/tool')} repo", check=False)
    finally:
        ssh_git.fail(None)
    assert r.returncode != 0 and "this machine is being mended" in r.stderr, r.stderr


def test_ssh_host_key_is_pinned(make_world, ssh_git):
    make_bare(ssh_git.path("team/pinned"))
    with open(f"{ssh_git.folder}/other_key.pub") as f:
        other = " ".join(f.read().split()[:2])
    w = make_world([ssh_remote("pinned", ssh_git, known_host_key=other)]).start()
    before = ssh_git.asked()
    r = w.sh(f"git clone {ssh_git.url('team/pinned')} repo", check=False)
    assert r.returncode != 0 and "host key" in r.stderr, r.stderr
    assert ssh_git.asked() == before


def test_ssh_wrong_key(make_world, ssh_git):
    make_bare(ssh_git.path("team/keyed"))
    w = make_world([ssh_remote("keyed", ssh_git, key=f"file:{ssh_git.folder}/other_key")]).start()
    r = w.sh(f"git clone {ssh_git.url('team/keyed')} repo", check=False)
    assert r.returncode != 0
    assert "key" in r.stderr or "denied" in r.stderr, r.stderr
