"""init, policy and the plan of a start, through the real executable. No bottle is started here."""
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
