"""init, policy and the plan of a start, through the real executable. No bottle is started here."""
import base64
import json
import os
import re
import stat
import subprocess

import pytest

import bottle

AUTH = {"scheme": "bearer", "env": "API_TOKEN", "token_ref": "env:CB_TOKEN"}


@pytest.fixture
def home(make_home):
    h = make_home()
    h.write_bottle("box", routes=[bottle.route("api.example.test", methods=["GET", "POST"],
                                               paths=["/v1/**"], auth=AUTH),
                                  bottle.route("*.docs.example.test", methods=["GET"])])
    h.write_agent("worker", "box")
    return h


def state_of(home, slug, records):
    """A bottle that has run, as its keeper leaves it."""
    folder = f"{home.state}/{slug}"
    os.makedirs(folder, mode=0o700)
    for part in (home.state, os.path.dirname(home.state)):
        os.chmod(part, 0o700)
    policy = home.run("policy", "show", "worker", "--json", check=True).stdout
    with open(f"{folder}/policy.json", "w") as f:
        f.write(policy)
    with open(f"{folder}/records.jsonl", "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in records)


def test_init_examples_parse_and_are_never_overwritten(make_home):
    home = make_home()
    r = home.run("init", "--json", check=True)
    files = json.loads(r.stdout)["files"]
    assert len(files) == 4 and all(f["written"] for f in files)
    for f in files:
        assert stat.S_IMODE(os.stat(f["path"]).st_mode) == 0o600
        name = os.path.basename(f["path"])[:-3]
        if "/agents/" in f["path"]:
            assert home.run("start", name, "--dry-run", "--headless").returncode == 0
    path = files[0]["path"]
    with open(path, "w") as f:
        f.write("mine")
    os.remove(files[1]["path"])
    os.symlink("/tmp/cb-init-nowhere", files[1]["path"])
    assert not any(f["written"] for f in json.loads(home.run("init", "--json").stdout)["files"])
    assert open(path).read() == "mine"
    assert not os.path.exists("/tmp/cb-init-nowhere")


@pytest.mark.parametrize("url, method, reason", [
    ("https://api.example.test/v1/x?q=1", "POST", None),
    ("api.example.test/v1/", "GET", None),
    ("https://API.example.test./v1/x", "GET", None),
    ("https://a.b.docs.example.test/%2f;x", "GET", None),
    ("https://docs.example.test/", "GET", "host-not-allowed"),
    ("https://api.example.test.evil.test/v1/x", "GET", "host-not-allowed"),
    ("https://evil@api.example.test/v1/x", "GET", "host-syntax"),
    ("https://api.example.test:444/v1/x", "GET", "port-not-allowed"),
    ("http://api.example.test/v1/x", "GET", "port-not-allowed"),
    ("https://api.example.test/v1/x", "DELETE", "method-not-allowed"),
    ("https://api.example.test/v2", "GET", "path-not-allowed"),
    ("https://api.example.test/v1/%2e%2e/v2", "GET", "path-syntax"),
    ("https://api.example.test/v1//x", "GET", "path-syntax"),
    ("https://127.1/", "GET", "ip-literal"),
    ("https://[::1]/", "GET", "ip-literal"),
])
def test_policy_check(home, url, method, reason):
    r = home.run("policy", "check", "--agent", "worker", "--json", url, method)
    answer = json.loads(r.stdout)
    assert r.returncode == (0 if reason is None else 1), r.stdout
    assert answer["allowed"] == (reason is None)
    assert answer["reason"] == (reason or "ok")
    assert "?" not in answer["path"]
    text = home.run("policy", "check", "--bottle", "box", url, method)
    assert text.returncode == r.returncode
    assert text.stdout.startswith("allowed: " if reason is None else "refused: ")
    if answer["route"]:
        assert f'{answer["route"]["file"]}:{answer["route"]["line"]}' in text.stdout


def test_policy_check_wrong_use(home):
    for args in (["check"], ["check", "https://a.example/", "TRACE"], ["check", "ftp://a.example/"],
                 ["chekc", "x"], ["why", "xyz"], ["why", "zzzzzz"], ["show"]):
        r = home.run("policy", *args)
        assert r.returncode == 2 and r.stdout == "" and r.stderr.count("\n") == 1, args
    home.write_agent("second", "box")
    assert home.run("policy", "check", "https://a.example/").returncode == 2
    r = home.run("policy", "check", "--agent", "wroker", "https://a.example/")
    assert r.returncode == 1 and 'did you mean "worker"' in r.stderr


def test_error_has_a_place(home):
    path = home.write_bottle("box", routes=[{"host": "a.example.test", "port": 443}])
    r = home.run("start", "worker", "--dry-run", "--headless")
    assert r.returncode == 1 and r.stdout == ""
    assert re.fullmatch(rf'claude-bottle: {re.escape(path)}:\d+:\d+: unknown key "port" in a route; '
                        r'did you mean "ports"\?\n', r.stderr), r.stderr


def test_empty_allowlist_is_said(home):
    home.write_bottle("box")
    r = home.run("start", "worker", "--dry-run", "--headless", check=True)
    assert "May reach: nothing" in r.stdout and "allowlist is empty" in r.stdout
    assert home.run("policy", "check", "--agent", "worker", "https://a.example/").returncode == 1


def test_plan_holds_no_secret(home):
    home.secrets["CB_TOKEN"] = "the-real-token-0123456789"
    for args in ([], ["--json"]):
        r = home.run("start", "worker", "--dry-run", "--headless", *args, check=True)
        assert "env:CB_TOKEN" in r.stdout and "the-real-token" not in r.stdout
    plan = json.loads(r.stdout)
    auth = plan["policy"]["routes"][0]["auth"]
    assert plan["env"]["API_TOKEN"] == auth["placeholder"]
    assert re.fullmatch(r"cbph-[a-z2-7]{32}", auth["placeholder"])


def test_repository_cannot_bring_a_bottle(home):
    folder = f"{home.cwd}/.claude-bottle"
    os.makedirs(f"{folder}/agents")
    os.makedirs(f"{folder}/bottles")
    with open(f"{folder}/bottles/wide.md", "w") as f:
        f.write("---\negress: {routes: [{host: evil.example.test}]}\n---\n")
    with open(f"{folder}/agents/theirs.md", "w") as f:
        f.write("---\nbottle: wide\n---\nhello\n")
    with open(f"{folder}/agents/worker.md", "w") as f:
        f.write("---\nbottle: wide\n---\nhello\n")
    home.own()
    r = home.run("start", "theirs", "--dry-run", "--headless")
    assert r.returncode == 1 and 'no bottle "wide"' in r.stderr
    r = home.run("start", "worker", "--dry-run", "--headless", check=True)
    assert "the one of the current folder is not used" in r.stdout


def git(*argv):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *argv], check=True,
                   capture_output=True, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent",
                                             "GIT_CONFIG_NOSYSTEM": "1"})


def plan_of(home, *args, cwd=None):
    before, home.cwd = home.cwd, cwd or home.cwd
    try:
        r = home.run("start", "worker", "--dry-run", "--headless", "--json", *args, check=True)
    finally:
        home.cwd = before
    return json.loads(r.stdout)


def test_workspace_is_the_repository(home):
    repo = f"{home.cwd}/repo"
    assert plan_of(home)["workspace"] == "none"
    os.makedirs(f"{repo}/deep/er")
    git("init", "-q", "-b", "main", repo)
    assert plan_of(home, cwd=repo)["workspace"] == "none"
    git("-C", repo, "commit", "-q", "--allow-empty", "-m", "first")
    for folder in (repo, f"{repo}/deep/er"):
        plan = plan_of(home, cwd=folder)
        assert (plan["workspace"], plan["workspace_path"]) == ("clone", repo)
        assert [r["name"] for r in plan["git"]["remotes"]] == ["workspace"]
    assert plan_of(home, "--workspace", "none", cwd=repo)["git"]["remotes"] == []
    # As git leaves it after gc, with a worktree, with a detached head.
    git("-C", repo, "gc", "-q")
    git("-C", repo, "worktree", "add", "-q", "-b", "other", f"{home.cwd}/tree")
    assert plan_of(home, cwd=repo)["workspace_path"] == repo
    assert plan_of(home, cwd=f"{home.cwd}/tree")["workspace_path"] == f"{home.cwd}/tree"
    git("-C", repo, "checkout", "-q", "--detach")
    assert plan_of(home, cwd=repo)["workspace"] == "clone"
    r = home.run("start", "worker", "--dry-run", "--headless", "--workspace", "clone")
    assert r.returncode == 1 and "is no git repository" in r.stderr
    r = home.run("start", "worker", "--dry-run", "--headless", "--workspace", "copy")
    assert r.returncode == 2 and "clone, mount or none" in r.stderr


HOST_KEY = "ssh-ed25519 " + base64.b64encode(
    b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(range(32))).decode()


@pytest.fixture
def git_home(make_home):
    """A bottle with an https remote, an ssh one on a port of its own, and one that is fetched from only."""
    h = make_home()
    h.write_bottle("box", git={"remotes": [
        {"name": "origin", "upstream": "https://github.com/me/x.git", "token_ref": "env:CB_GIT",
         "branches": ["agent/**"], "protected": ["agent/main"], "tags": ["v*"]},
        {"name": "deploy", "upstream": "ssh://git@git.example.test:2222/me/deploy.git", "key": "file:/dev/null",
         "known_host_key": HOST_KEY, "branches": ["**"], "protect_head": False},
        {"name": "library", "upstream": "https://github.com/me/x-library"}]})
    h.write_agent("worker", "box")
    return h


@pytest.mark.parametrize("words, remote, reason", [
    (["https://github.com/me/x.git", "fetch"], "origin", None),
    (["https://github.com/me/x", "fetch"], "origin", None),
    (["git@github.com:me/x.git"], "origin", None),
    (["ssh://git@github.com/me/x"], "origin", None),
    (["ssh://github.com:22/me/x.git/"], "origin", None),
    (["origin", "push"], "origin", None),
    (["http://10.209.0.2:9418/github.com/me/x", "push", "agent/a"], "origin", None),
    (["https://github.com/me/x", "push", "agent/a/b"], "origin", None),
    (["https://github.com/me/x", "push", "refs/heads/agent/a"], "origin", None),
    (["https://github.com/me/x", "push", "refs/tags/v1"], "origin", None),
    (["https://github.com/me/x", "push", "agent/a", "--path", "src/main.c"], "origin", None),
    (["https://github.com/me/x", "push", "main"], "origin", "branch-not-allowed"),
    (["https://github.com/me/x", "push", "agent/main"], "origin", "branch-protected"),
    (["https://github.com/me/x", "push", "refs/tags/w1"], "origin", "tag-not-allowed"),
    (["https://github.com/me/x", "push", "refs/notes/a"], "origin", "ref-namespace"),
    (["https://github.com/me/x", "push", "agent/a..b"], "origin", "ref-name"),
    (["https://github.com/me/x", "push", "heads/agent"], "origin", "ref-ambiguous"),
    (["origin", "push", "agent/a", "--path", ".github/workflows/x.yml"], "origin", "push-needs-approval"),
    (["origin", "push", "main", "--path", ".github/workflows/x.yml"], "origin", "branch-not-allowed"),
    (["ssh://git@git.example.test:2222/me/deploy", "push", "main"], "deploy", None),
    (["https://git.example.test/me/deploy", "fetch"], "deploy", None),
    (["git@git.example.test:me/deploy"], None, "git-not-declared"),  # that is port 22
    (["https://github.com/me/x-library", "fetch"], "library", None),
    (["https://github.com/me/x-library", "push", "main"], "library", "git-read-only"),
    (["https://github.com/me/x-other", "fetch"], None, "git-not-declared"),
    (["https://github.com/me/x/info/refs", "fetch"], None, "git-not-declared"),
    (["git@evil.example.test:me/x.git", "push", "main"], None, "git-not-declared"),
])
def test_policy_check_git(git_home, words, remote, reason):
    r = git_home.run("policy", "check", "--agent", "worker", "--json", *words)
    answer = json.loads(r.stdout)
    assert r.returncode == (0 if reason is None else 1), r.stdout
    assert (answer["allowed"], answer["reason"]) == (reason is None, reason or "ok")
    assert (answer["remote"] or {}).get("name") == remote
    text = git_home.run("policy", "check", "--bottle", "box", *words)
    assert text.returncode == r.returncode
    assert text.stdout.startswith("allowed: " if reason is None else f"refused: {answer['method']} ")
    assert (f"reason {reason}" in text.stdout) == (reason is not None)
    assert "hint" in answer or reason is None
    if remote:
        assert f'from {answer["remote"]["file"]}:{answer["remote"]["line"]}' in text.stdout


def test_policy_check_git_of_a_workspace(home):
    repo = f"{home.cwd}/repo"
    git("init", "-q", "-b", "main", repo)
    git("-C", repo, "commit", "-q", "--allow-empty", "-m", "first")
    home.cwd = repo
    for url in ("workspace", "http://10.209.0.2:9418/workspace"):
        # Nothing runs here before a human has looked.
        r = home.run("policy", "check", url, "push", "x", "--path", ".github/workflows/x.yml", check=True)
        assert re.search(r"your repository, as bottle/worker-[a-z0-9]+/", r.stdout), r.stdout
    assert home.run("policy", "check", "workspace", "push", "refs/tags/v1").returncode == 1


def test_policy_check_git_wrong_use(git_home):
    for words in (["origin", "fetch", "main"], ["origin", "fetch", "--path", "x"], ["origin", "pull"],
                  ["https://a.example/", "GET", "main"], ["https://a.example/", "--path", "x"],
                  ["origin", "push", "x" * 300]):
        r = git_home.run("policy", "check", "--agent", "worker", *words)
        assert r.returncode == 2 and r.stdout == "" and r.stderr.count("\n") == 1, (words, r)
    # Asked as a request, a remote's URL is refused; it is said that git has another way.
    r = git_home.run("policy", "check", "--agent", "worker", "https://github.com/me/x.git")
    assert r.returncode == 1 and "host-not-allowed" in r.stdout and "git remote" in r.stdout
    assert "git remote" not in git_home.run("policy", "check", "--agent", "worker", "https://github.com/").stdout
    r = git_home.run("policy", "check", "--agent", "worker", "a\x1b[2J@b:c\u202e")
    assert r.returncode == 1 and "\x1b" not in r.stdout and "\u202e" not in r.stdout


def test_why_of_git(git_home):
    at = {"role": "gitgate", "host": "github.com", "port": 443, "path": "/me/x.git"}
    state_of(git_home, "worker-abc234", [
        {"seq": 1, "id": "a1112233445566aa", "verdict": "block", "reason": "branch-not-allowed", "method": "push",
         "detail": "refs/heads/main", **at},
        {"seq": 2, "id": "a2112233445566aa", "verdict": "block", "reason": "push-secret", "rule": "github-token",
         "method": "push", "detail": "1 finding; first: blob 1234567890 README.md", **at},
        {"seq": 3, "id": "a3112233445566aa", "verdict": "allow", "reason": "ok", "method": "POST",
         "detail": "fetch", **at},
        {"seq": 4, "id": "a4112233445566aa", "verdict": "block", "reason": "git-not-declared", "method": "GET",
         "role": "gitgate"}])
    policy = json.loads(git_home.run("policy", "show", "worker", "--json", check=True).stdout)
    with open(f"{git_home.state}/worker-abc234/policy.json", "w") as f:
        json.dump({k: v for k, v in policy.items() if k != "git"}, f)
    with open(f"{git_home.state}/worker-abc234/git.json", "w") as f:
        json.dump(policy["git"], f)

    def why(id):
        return (git_home.run("policy", "why", id, check=True).stdout,
                json.loads(git_home.run("policy", "why", id, "--json", check=True).stdout)["policy"])

    text, answer = why("a111")
    assert "git      push refs/heads/main\n" in text and "add the branch" in text
    assert f'{answer["remote"]["file"]}:{answer["remote"]["line"]} (origin)' in text
    assert (answer["allowed"], answer["reason"], answer["ref"]) == \
        (False, "branch-not-allowed", "refs/heads/main")
    text, answer = why("a211")
    assert "must leave every commit" in text and answer["allowed"], text  # the push was, its content not
    text, answer = why("a311")
    assert "git      fetch\n" in text and "hint" not in text and answer["remote"]["name"] == "origin"
    text, answer = why("a411")
    assert "add it to git.remotes" in text and answer is None


def test_git_remotes_are_shown(home):
    path = f"{home.folder}/.claude-bottle/bottles/box.md"
    text = open(path).read()
    remote = ("git:\n  remotes:\n    - {name: origin, upstream: 'https://github.com/me/x.git', "
              "token_ref: 'env:CB_GIT', branches: ['agent/**']}\n")
    with open(path, "w") as f:
        f.write(text.replace("---\n", "---\n" + remote, 1))
    shown = home.run("policy", "show", "worker", check=True).stdout
    assert "origin  https://github.com/me/x.git" in shown
    assert "push branches agent/**" in shown and "env:CB_GIT" in shown
    both = json.loads(home.run("policy", "show", "worker", "--json", check=True).stdout)
    assert both["git"]["remotes"][0]["path"] == "/me/x.git"
    with open(path, "w") as f:
        f.write(text.replace("---\n", "---\n" + remote.replace("token_ref", "key"), 1))
    r = home.run("policy", "show", "worker")
    assert r.returncode == 1 and "box.md:4:" in r.stderr and "key belongs to ssh" in r.stderr


def test_show_and_why(home):
    records = [
        {"seq": 1, "time": "2026-01-02T03:04:05.678Z", "id": "00112233445566aa", "role": "pipelock",
         "verdict": "block", "reason": "path-not-allowed", "method": "GET",
         "host": "api.example.test", "port": 443, "path": "/v2"},
        {"seq": 2, "time": "2026-01-02T03:04:06.678Z", "id": "00112233445566bb", "role": "pipelock",
         "verdict": "block", "reason": "secret-in-body", "rule": "x-token", "scanner": "body",
         "method": "POST", "host": "api.example.test", "port": 443, "path": "/v1/x",
         "detail": "\x1b[2Jhello\u202e"},
        {"seq": 3, "time": "2026-01-02T03:04:07.678Z", "id": "99112233445566cc", "role": "init",
         "verdict": "note", "reason": "restarted"},
    ]
    state_of(home, "worker-abc234", records)
    shown = home.run("policy", "show", "worker-abc234", check=True).stdout
    assert "api.example.test:443" in shown and "/v1/**" in shown
    r = home.run("policy", "why", "00112233445566aa", check=True)
    assert "path-not-allowed" in r.stdout and "bottles/box.md:" in r.stdout
    assert "add the path" in r.stdout
    r = home.run("policy", "why", "00112233445566bb", check=True)
    assert "x-token" in r.stdout and "\x1b" not in r.stdout and "\u202e" not in r.stdout
    assert json.loads(home.run("policy", "why", "99", "--json").stdout or "{}") == {}  # too short
    answer = json.loads(home.run("policy", "why", "9911", "--json", check=True).stdout)
    assert answer["bottle"] == "worker-abc234" and answer["record"]["seq"] == 3
    assert answer["policy"] is None
    r = home.run("policy", "why", "0011")
    assert r.returncode == 1 and "more than one record" in r.stderr
    r = home.run("policy", "why", "abcdef")
    assert r.returncode == 1 and "no bottle has a record" in r.stderr
