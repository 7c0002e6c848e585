"""What passes git-gate on its way out, and what its ref policy or the upstream itself refuses."""
import concurrent.futures
import time

import git_world
import pytest
from git_world import HTTPS_HOST, HOOK_WORDS, TOKEN, git, https_remote, make_bare, refs, ssh_remote

URL = f"https://{HTTPS_HOST}/team/project.git"


@pytest.fixture(scope="module")
def world(make_world, https_git, ssh_git):
    make_bare(https_git.path("team/project"), commits=5)
    make_bare(https_git.path("team/readonly"))
    make_bare(https_git.path("team/loose"), commits=4)
    make_bare(https_git.path("team/narrow"))
    make_bare(ssh_git.path("team/tool"), commits=3)
    for name, ref in (("project", "release/1"), ("loose", "old"), ("loose", "release/1")):
        git("update-ref", f"refs/heads/{ref}", "main", cwd=https_git.path(f"team/{name}"))
    git("tag", "v0", "main", cwd=https_git.path("team/project"))
    w = make_world([https_remote("project", https_git),
                    https_remote("readonly", https_git, branches=None, tags=None, protected=None),
                    https_remote("loose", https_git, force=True, delete=True),
                    https_remote("narrow", https_git, branches=["agent/*", "deep/**"], tags=None),
                    ssh_remote("tool", ssh_git)])
    return w.start()


@pytest.fixture
def project(https_git):
    return https_git.path("team/project")


def push(world, commands, url=URL, check=True, env=None, timeout=90):
    """Standard error of a push from a fresh clone."""
    r = world.sh(f"clone {url}\n{commands}", check=check, env=env, timeout=timeout)
    if not check:
        assert r.returncode != 0, f"it was not refused: {r.stdout}{r.stderr}"
    return r.stderr


# --- what passes ---

def test_new_branch(world, project, https_git):
    before = len(https_git.receives())
    push(world, "echo hello > hello.txt\ncommit 'say hello'\ngit push -q origin HEAD:refs/heads/hello")
    assert git("log", "-1", "--format=%s %an %ae", "hello", cwd=project) == "say hello Agent agent@example.test"
    assert git("show", "hello:hello.txt", cwd=project) == "hello"
    assert any(r.method == "POST" for r in https_git.receives()[before:])


def test_update_of_a_branch(world, project):
    push(world, "echo 1 > one\ncommit\ngit push -q origin HEAD:refs/heads/grows\n"
                "echo 2 > two\ncommit\ngit push -q origin HEAD:refs/heads/grows\n"
                "git fetch -q && git diff --exit-code origin/grows HEAD")
    assert git("show", "grows:two", cwd=project) == "2"


def test_several_refs_at_once(world, project):
    push(world, "echo 1 > many\ncommit\n"
                "git push -q origin HEAD:refs/heads/many-1 HEAD:refs/heads/many-2 HEAD~:refs/heads/many-3")
    now = refs(project)
    assert now["refs/heads/many-1"] == now["refs/heads/many-2"] != now["refs/heads/many-3"]


def test_tags(world, project):
    push(world, "git tag v1.light\ngit tag -a -m 'a release' v1.full\ngit push -q origin v1.light v1.full")
    now = refs(project)
    assert "refs/tags/v1.light" in now and git("cat-file", "-t", "v1.full", cwd=project) == "tag"


def test_over_ssh(world, ssh_git):
    bare = ssh_git.path("team/tool")
    before = len(ssh_git.receives())
    push(world, "echo x > x\ncommit 'over ssh'\ngit push -q origin HEAD:refs/heads/by-ssh",
         url=ssh_git.url("team/tool"))
    assert git("log", "-1", "--format=%s", "by-ssh", cwd=bare) == "over ssh"
    assert len(ssh_git.receives()) == before + 1


def test_large_file(world, project):
    push(world, "python3 -c \"import random; random.seed(7); "
                "open('big.bin','wb').write(random.randbytes(20 << 20))\"\n"
                "commit large\ngit push -q origin HEAD:refs/heads/large", timeout=180)
    assert git("cat-file", "-s", "large:big.bin", cwd=project) == str(20 << 20)


def test_thousand_commits(world, project):
    script = """
python3 - <<'END' | git fast-import --quiet
for i in range(1, 1001):
    text = f"line {i}\\n" * 5
    print(f"commit refs/heads/long\\ncommitter Agent <agent@example.test> {1700000000 + i} +0000\\n"
          f"data <<M\\nnumber {i}\\nM")
    if i == 1:
        print("from refs/remotes/origin/main^0")
    print(f"M 100644 inline f{i % 50}.txt\\ndata <<T\\n{text}T\\n")
END
git push -q origin long
"""
    push(world, script, timeout=300)
    assert int(git("rev-list", "--count", "main..long", cwd=project)) == 1000


def test_lfs_pointer(world, project):
    push(world, "printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:"
                "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\\nsize 12345\\n' > asset.psd\n"
                "echo '*.psd filter=lfs diff=lfs merge=lfs -text' > .gitattributes\n"
                "git -c filter.lfs.process= -c filter.lfs.clean=cat -c filter.lfs.required=false add .\n"
                "git commit -qm pointer\ngit push -q origin HEAD:refs/heads/lfs")
    assert git("show", "lfs:asset.psd", cwd=project).startswith("version https://git-lfs")


def test_odd_names(world, project):
    """Names and contents as real projects have them do not look like attacks."""
    push(world, "mkdir -p 'with space/ünïcode'\necho a > 'with space/ünïcode/文件.txt'\n"
                "echo b > '-dash'\nln -s README.md link\ncommit 'Grüße ✓'\n"
                "git push -q origin HEAD:refs/heads/feature/JIRA-123_fix.it")
    assert "文件.txt" in git("-c", "core.quotepath=off", "ls-tree", "-r", "--name-only",
                            "feature/JIRA-123_fix.it", cwd=project)


def test_partial_and_shallow_clones_can_push(world, project):
    world.sh(f"clone --depth 1 {URL}\necho s > s\ncommit\ngit push -q origin HEAD:refs/heads/from-shallow")
    world.sh(f"clone --filter=blob:none {URL}\necho p > p\ncommit\n"
             "git push -q origin HEAD:refs/heads/from-partial")
    assert {"refs/heads/from-shallow", "refs/heads/from-partial"} <= set(refs(project))


def test_old_history_is_not_looked_at_again(world, https_git, project):
    """A secret that is upstream already is none of this push's business."""
    bare = project
    blob = git("hash-object", "-w", "--stdin", cwd=bare, input=git_world.SECRET.encode())
    tree = git("mktree", cwd=bare, input=f"100644 blob {blob}\told-secret.txt\n".encode())
    commit = git("commit-tree", tree, "-m", "an old sin", cwd=bare)
    git("update-ref", "refs/heads/sinful", commit, cwd=bare)
    time.sleep(2.2)
    push(world, "git checkout -q -b next origin/sinful\necho n > n\ncommit\n"
                "git push -q origin HEAD:refs/heads/after-sin")
    assert "refs/heads/after-sin" in refs(bare)


def test_two_at_once_and_one_loses(world, project):
    def one(i):
        return world.sh(f"clone {URL}\necho {i} > race\ncommit\n"
                        "git push origin HEAD:refs/heads/race", check=False)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        done = list(pool.map(one, range(2)))
    assert sorted(r.returncode == 0 for r in done) == [False, True], [r.stderr for r in done]
    loser = next(r for r in done if r.returncode != 0)
    assert "rejected" in loser.stderr, loser.stderr
    # The loser fetches, rebases and gets in.
    r = world.sh(f"clone {URL}\ngit checkout -q race\necho again > race2\ncommit\ngit push -q origin race")
    assert r.returncode == 0


def test_somebody_else_pushed_meanwhile(world, project):
    r = world.sh(f"cd /tmp && rm -rf late && git clone -q {URL} late && cd late && echo l > late && "
                 "git add . && git commit -qm late")
    commit = git("commit-tree", "main^{tree}", "-p", "main", "-m", "a colleague", cwd=project)
    git("update-ref", "refs/heads/main-copy", commit, cwd=project)
    time.sleep(2.2)
    r = world.sh("cd /tmp/late && git push origin HEAD:refs/heads/main-copy", check=False)
    assert r.returncode != 0 and "rejected" in r.stderr
    assert refs(project)["refs/heads/main-copy"] == commit


def test_push_options_and_dry_run(world, project):
    with world.nothing_pushed(project):
        world.sh(f"clone {URL}\necho d > d\ncommit\ngit push -q --dry-run origin HEAD:refs/heads/dry")
        r = world.sh(f"clone {URL}\necho o > o\ncommit\n"
                     "git push -o ci.skip origin HEAD:refs/heads/opt", check=False)
        assert r.returncode != 0


# --- what the ref policy refuses; nothing of it reaches the upstream's push service ---

CHANGE = "echo x >> x\ncommit\n"
REFUSED = {
    "main": (CHANGE + "git push origin HEAD:refs/heads/main", "protected"),
    "protected": (CHANGE + "git push origin HEAD:refs/heads/release/1", "protected"),
    "protected-new": (CHANGE + "git push origin HEAD:refs/heads/release/9", "protected"),
    "delete": ("git push origin :refs/heads/sacrificed", "delete"),
    "tag-delete": ("git push origin :refs/tags/v0", "tag"),
    "tag-move": (CHANGE + "git push -f origin HEAD:refs/tags/v0", "tag"),
    "tag-name": ("git push origin HEAD:refs/tags/latest", "tag"),
    "notes": ("git notes add -m hi && git push origin refs/notes/commits", "refs/notes"),
    "replace": (CHANGE + "git push origin HEAD:refs/replace/$(git rev-parse HEAD)", "refs/replace"),
    "pull": ("git push origin HEAD:refs/pull/1/head", "refs/pull"),
    "meta": ("git push origin HEAD:refs/meta/config", "refs/meta"),
    "for": (CHANGE + "git push origin HEAD:refs/for/main", "refs/for"),
    "remotes": ("git push origin HEAD:refs/remotes/origin/main", "refs/remotes"),
    "stash": ("git push origin HEAD:refs/stash", "refs/stash"),
    "no-slash": ("git push origin HEAD:refs/plain", "refs/plain"),
    "looks-like-a-tag": ("git push origin HEAD:refs/heads/refs/tags/v9", None),
    "head-like": ("git push origin HEAD:refs/heads/HEAD", None),
    "object-like": ("git push origin HEAD:refs/heads/$(git rev-parse HEAD)", None),
    "bidi": (CHANGE + "git push origin \"HEAD:refs/heads/$(printf 'a\\342\\200\\256b')\"", None),
    "zero-width": (CHANGE + "git push origin \"HEAD:refs/heads/$(printf 'a\\342\\200\\213b')\"", None),
    "long": (CHANGE + "git push origin HEAD:refs/heads/$(printf 'a%.0s' $(seq 1 250))", None),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_by_the_ref_policy(world, project, name):
    if "refs/heads/sacrificed" not in refs(project):
        git("update-ref", "refs/heads/sacrificed", "main", cwd=project)
        time.sleep(2.2)
    script, word = REFUSED[name]
    with world.nothing_pushed(project):
        said = push(world, script, check=False)
    assert "rejected" in said or "refused" in said or "error" in said, said
    if word:
        assert word in said, said


def test_force_is_refused(world, project):
    push(world, "echo 1 > f\ncommit\ngit push -q origin HEAD:refs/heads/forced")
    with world.nothing_pushed(project):
        said = push(world, "echo 2 > f\ncommit other\ngit push -f origin HEAD:refs/heads/forced", check=False)
    assert "force" in said or "fast-forward" in said, said


def test_one_bad_ref_stops_the_whole_push(world, project):
    with world.nothing_pushed(project):
        push(world, CHANGE + "git push origin HEAD:refs/heads/good-one HEAD:refs/heads/release/1", check=False)


def test_read_only_remote(world, https_git):
    bare = https_git.path("team/readonly")
    with world.nothing_pushed(bare):
        said = push(world, CHANGE + "git push origin HEAD:refs/heads/x",
                    url=f"https://{HTTPS_HOST}/team/readonly.git", check=False)
    assert "403" in said or "read" in said or "push" in said, said


def test_force_and_delete_where_they_may(world, https_git):
    bare, url = https_git.path("team/loose"), f"https://{HTTPS_HOST}/team/loose.git"
    push(world, "git push -q origin :refs/heads/old", url=url)
    assert "refs/heads/old" not in refs(bare)
    push(world, "echo 1 > f\ncommit\ngit push -q origin HEAD:refs/heads/f\n"
                "git reset -q --hard HEAD~\necho 2 > f\ncommit\ngit push -qf origin HEAD:refs/heads/f", url=url)
    assert git("show", "f:f", cwd=bare) == "2"
    with world.nothing_pushed(bare):
        push(world, "git push origin :refs/heads/release/1", url=url, check=False)
        push(world, "git push -f origin HEAD~:refs/heads/main", url=url, check=False)


def test_patterns(world, https_git):
    bare, url = https_git.path("team/narrow"), f"https://{HTTPS_HOST}/team/narrow.git"
    push(world, CHANGE + "git push -q origin HEAD:refs/heads/agent/a HEAD:refs/heads/deep/a/b/c", url=url)
    for ref in ("agent", "agent/a/b", "agents/a", "other", "Agent/x"):
        with world.nothing_pushed(bare):
            push(world, f"echo {ref} > x\ncommit\ngit push origin HEAD:refs/heads/{ref}", url=url, check=False)


# --- what the upstream refuses ---

def test_upstream_hook_says_why(world, project, https_git):
    git_world.refuse_by_hook(project)
    try:
        said = push(world, CHANGE + "git push origin HEAD:refs/heads/friday", check=False)
    finally:
        git_world.refuse_by_hook(project, None)
    assert HOOK_WORDS in said, said
    assert "refs/heads/friday" not in refs(project)
    # The gate has not moved either: the branch is still a new one.
    assert "friday" not in world.sh(f"git ls-remote {URL}").stdout
    push(world, CHANGE + "git push -q origin HEAD:refs/heads/friday")


def test_upstream_hook_over_ssh(world, ssh_git):
    bare = ssh_git.path("team/tool")
    git_world.refuse_by_hook(bare)
    try:
        said = push(world, CHANGE + "git push origin HEAD:refs/heads/friday", url=ssh_git.url("team/tool"),
                    check=False)
    finally:
        git_world.refuse_by_hook(bare, None)
    assert HOOK_WORDS in said, said
    assert "friday" not in world.sh(f"git ls-remote {ssh_git.url('team/tool')}").stdout


def test_upstream_hook_words_are_made_visible(world, project):
    git_world.refuse_by_hook(project, "evil\033[2J\033]52;c;aGk=\007words")
    try:
        said = push(world, CHANGE + "git push origin HEAD:refs/heads/esc", check=False)
    finally:
        git_world.refuse_by_hook(project, None)
    assert "words" in said
    assert "\033[2J" not in said and "\033]52" not in said and "\007" not in said


def test_upstream_breaks_in_the_push(world, project, https_git):
    """It answers the first question and then no more."""
    answer = https_git.answer

    def broken(h, seen):
        if seen.method == "POST" and seen.path.endswith("/git-receive-pack"):
            h.close_connection = True
            return None
        return answer(h, seen)
    https_git.answer = broken
    try:
        said = push(world, CHANGE + "git push origin HEAD:refs/heads/broken", check=False)
    finally:
        del https_git.answer
    assert TOKEN not in said
    assert "refs/heads/broken" not in refs(project)
    assert "broken" not in world.sh(f"git ls-remote {URL}").stdout


def test_records_of_pushes(world):
    said = [str(r) for r in world.records()]
    assert any("receive-pack" in s or "push" in s for s in said), said[-5:]
    assert not any(TOKEN in s for s in said)
