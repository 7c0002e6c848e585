"""A bottle that has ended begins again: its home, its chain of records, and what it may do by now."""
import json
import os
import re
import signal

import pytest

import bottle
from session import detach, states, wait_for


@pytest.fixture(params=["as root", "as an ordinary user"])
def home(request, make_home, ordinary, upstream, authority):
    """A home with one allowed host; the second time for a user without powers."""
    uid, folder = ordinary
    if request.param == "as root" and os.geteuid() != 0:
        pytest.skip("not root")
    if request.param == "as root":
        h = make_home()
    else:
        h = make_home(uid if os.geteuid() == 0 else None)
        h.program = f"{folder}/build/claude-bottle"
    h.allow = lambda *names, **more: h.write_bottle(
        "box", routes=[bottle.route(n, paths=["/**"]) for n in names],
        resolve={n: upstream.address for n in names}, ca=authority.path, **more)
    h.allow("api.example.test")
    h.write_agent("worker", "box")
    return h


ASK = "curl -sS -o /dev/null -w '%{http_code}\\n' "


def ended(home, script="true", options=()):
    """The slug of a bottle that has run script and ended."""
    before = set(home.slugs())
    r = home.start("bash", "-c", script, options=options)
    assert r.returncode == 0, r.stderr + home.logs_of_all()
    slug, = set(home.slugs()) - before
    return slug


def resume(home, slug, *command, options=()):
    return home.run("resume", slug, "--headless", *options, *(["--", *command] if command else []))


def one_line(stderr):
    assert stderr.startswith("claude-bottle: ") and stderr.count("\n") == 1, stderr
    return stderr[len("claude-bottle: "):-1]


def test_home_canary_state_and_policy(home, upstream):
    slug = ended(home, "echo kept > ~/note; mkdir -m 0700 ~/deep; echo x > ~/deep/x; chmod 0 ~; "
                       + ASK + "https://api.example.test/json")
    before = states(home)[slug]
    home.allow("other.example.test")
    r = resume(home, slug, "bash", "-c", "cat ~/note ~/deep/x; stat -c %a ~; "
               "grep -c dpl_ ~/.config/deploy/credentials; "
               + ASK + "https://other.example.test/json; " + ASK + "https://api.example.test/json; exit 7")
    assert r.returncode == 7, r.stderr + home.logs_of_all()
    assert r.stdout.split() == ["kept", "x", "700", "1", "200", "000"]
    lines = r.stderr.splitlines()
    assert lines[0] == "claude-bottle: backend native: the bottle's own"
    assert lines[1] == "claude-bottle: the policy has changed since: + other.example.test " \
        "GET,HEAD,POST /**; - api.example.test GET,HEAD,POST /**; egress.resolve differs"
    after = states(home)[slug]
    assert after["state"] == "ended" and after["exit_status"] == 7
    assert after["started"] > before["started"] and after["agent"] == "worker"
    assert [x.path for x in upstream.requests] == ["/json", "/json"]
    # Once more, and nothing has changed.
    r = resume(home, slug, "cat", "/home/agent/note")
    assert r.returncode == 0 and r.stdout == "kept\n" and "changed" not in r.stderr


def test_git_that_has_changed_is_told(home):
    def remote(name, **more):
        return {"name": name, "upstream": f"https://git.example.test/{name}.git", **more}

    home.allow("api.example.test", git={"remotes": [remote("a", branches=["x"]), remote("b")]})
    slug = ended(home)
    assert "changed" not in resume(home, slug, "true").stderr
    home.allow("api.example.test", git={"remotes": [remote("a", branches=["x", "y"], force=True), remote("c")]})
    r = resume(home, slug, "true")
    assert r.returncode == 0, r.stderr
    a = "git a https git.example.test/a.git push x"
    assert r.stderr.splitlines()[1] == \
        f"claude-bottle: the policy has changed since: + {a} y (force); - {a}; " \
        "+ git c https git.example.test/c.git fetch only; - git b https git.example.test/b.git fetch only"


def test_the_canary_is_another_one_and_works(home):
    show = "cat ~/.config/deploy/credentials"
    r = home.start("sh", "-c", show)
    slug, = home.slugs()
    again = resume(home, slug, "bash", "-c", show + "; " + ASK +
                   "-d \"x=$(grep -o 'dpl_.*' ~/.config/deploy/credentials)\" https://api.example.test/upload")
    tokens = [re.search(r"dpl_\w+", x.stdout).group(0) for x in (r, again)]
    assert tokens[0] != tokens[1]
    assert again.stdout.endswith("403\n"), "the new one is known"


def test_one_chain_over_all_runs(home):
    ask = ASK + "https://api.example.test/json"
    slug = ended(home, ask)
    n = len(home.records(slug))
    for i in range(2):
        assert resume(home, slug, "bash", "-c", ask).stdout == "200\n"
        assert len(home.records(slug)) > n
        n = len(home.records(slug))
        r = home.run("logs", slug, "--verify")
        assert r.returncode == 0 and f"{n} records, unbroken" in r.stdout, r.stderr
    records = home.records(slug)
    assert [x["seq"] for x in records] == list(range(1, n + 1))
    keys = [x["detail"] for x in records if x["reason"] == "signing-key"]
    assert len(keys) == len(set(keys)) == 3, "each run signs with a key of its own"
    assert sum(x["reason"] == "checkpoint" for x in records) >= 3
    ends = [json.loads(x)["after"] for x in open(f"{home.state}/{slug}/runs.jsonl")]
    assert len(ends) == 2 and 0 < ends[0] < ends[1] < n
    # What the first run asked for is judged by today's policy, and that is said.
    r = home.run("policy", "why", next(x["id"] for x in records if x.get("path") == "/json"))
    assert r.returncode == 0 and "was resumed since" in r.stderr


def test_broken_records_are_not_added_to(home):
    slug = ended(home, ASK + "https://api.example.test/json")
    path = f"{home.state}/{slug}/records.jsonl"
    whole = open(path).read()
    with open(path, "r+") as f:
        f.write(whole.replace("/json", "/jsoN"))
    r = resume(home, slug, "true")
    assert r.returncode == 1
    assert f"{slug} cannot be resumed: nothing can be added to its records: the chain breaks after" \
        in r.stderr
    assert not states(home)[slug]["alive"]
    with open(path, "r+") as f:
        f.write(whole)
    assert resume(home, slug, "true").returncode == 0


def test_killed_ones_too(home):
    slug = detach(home, "bash", "-c", "echo before > ~/note; while :; do "
                  "curl -s -o /dev/null https://api.example.test/json; sleep 0.05; done")
    wait_for(lambda: len(home.records(slug)) > 8)
    os.kill(states(home)[slug]["pid"], signal.SIGKILL)
    wait_for(lambda: not states(home)[slug]["alive"])
    assert states(home)[slug]["state"] == "killed"
    with open(f"{home.state}/{slug}/records.jsonl", "a") as f:
        f.write('{"seq":')  # what a full disk or a power cut leaves
    r = resume(home, slug, "bash", "-c", "cat ~/note; " + ASK + "https://api.example.test/json")
    assert r.returncode == 0 and r.stdout == "before\n200\n", r.stderr + home.logs_of_all()
    r = home.run("logs", slug, "--verify")
    assert r.returncode == 0, r.stderr
    assert states(home)[slug]["state"] == "ended"
    assert home.run("cleanup").returncode == 0 and home.slugs() == []


def test_running_ones_are_refused(home):
    slug = detach(home)
    r = resume(home, slug, "true")
    assert r.returncode == 1
    assert one_line(r.stderr) == f"{slug} is running: claude-bottle attach {slug}"
    home.run("stop", slug, "--now", check=True)
    r = home.run("resume", slug, "--detach", "--", "sleep", "600")
    assert r.returncode == 0 and r.stdout == slug + "\n", r.stderr
    assert states(home)[slug]["state"] == "running"
    assert home.run("exec", slug, "true").returncode == 0
    assert "is running" in one_line(resume(home, slug).stderr)


def test_without_a_command_the_agents_own(home):
    home.allow("api.example.test", provider="shell")
    home.write_agent("worker", "box", text="say it")
    slug = ended(home)
    home.write_agent("worker", "box", text="say it otherwise")
    r = home.run("resume", slug, "--headless", input="echo $CLAUDE_BOTTLE_PROMPT\n")
    assert r.returncode == 0 and r.stdout == "say it otherwise\n", r.stderr
    r = home.run("resume", slug, "--headless", "--prompt", "now this", input="echo $CLAUDE_BOTTLE_PROMPT\n")
    assert r.stdout == "now this\n"


def test_same_bottle_uid_and_no_agent(home):
    home.write_bottle("other")
    slug = ended(home, options=["--bottle", "other", "--as-root"])
    r = resume(home, slug, "id", "-u")
    assert r.stdout == "0\n" and "changed" not in r.stderr, r.stderr
    assert states(home)[slug]["bottle"] == "other"
    r = home.run("start", "--bottle", "other", "--headless", "--", "true")
    slug, = [s for s, b in states(home).items() if b["agent"] == "other"]
    assert resume(home, slug, "true").returncode == 0


def test_the_backend_stays(home):
    """Neither the variable nor the manifest moves it, and one that cannot be had is an error."""
    slug = ended(home)
    home.write_bottle("box", backend="smolmachines")
    home.secrets = {"CLAUDE_BOTTLE_BACKEND": "smolmachines", "CLAUDE_BOTTLE_SMOLVM": f"{home.folder}/no-smolvm"}
    r = resume(home, slug, "true")
    assert r.returncode == 0 and "backend native: the bottle's own" in r.stderr
    folder = f"{home.state}/{slug}"
    for name in ("bottle.json", "plan.json"):
        text = open(f"{folder}/{name}").read()
        with open(f"{folder}/{name}", "w") as f:
            f.write(re.sub(r'("backend": ?)"native"', r'\1"smolmachines"', text))
    r = resume(home, slug, "true")
    assert r.returncode == 1
    assert re.match(r"backend smolmachines \(the bottle's own\)", one_line(r.stderr))


def test_an_agent_comes_from_where_it_came(home, terminal):
    folder = f"{home.folder}/repo"
    os.makedirs(f"{folder}/.claude-bottle/agents")
    path = f"{folder}/.claude-bottle/agents/theirs.md"
    with open(path, "w") as f:
        f.write("---\nbottle: box\n---\nDo something.\n")
    home.own()
    cwd, home.cwd = home.cwd, folder
    slug = home.run("start", "theirs", "--detach", "--", "true", check=True).stdout.strip()
    wait_for(lambda: not states(home)[slug]["alive"])
    home.cwd = cwd
    assert resume(home, slug, "true").returncode == 0
    t = terminal(home, "resume", slug, "--", "echo", "in'side'")
    t.expect(b"Start it? [y/N] ")
    t.type(b"\n")
    assert t.wait() == 1 and not states(home)[slug]["alive"]
    home.write_agent("theirs", "box")
    r = resume(home, slug, "true")
    assert r.returncode == 1
    assert f"its agent was {path}, and the name now means" in one_line(r.stderr)
    os.unlink(path)
    os.unlink(f"{home.folder}/.claude-bottle/agents/theirs.md")
    r = resume(home, slug, "true")
    assert r.returncode == 1 and 'theirs' in one_line(r.stderr)


def damage_json(folder):
    open(f"{folder}/plan.json", "w").write('{"version":1')


def damage_missing(folder):
    os.unlink(f"{folder}/plan.json")


def damage_bottle(folder):
    os.unlink(f"{folder}/bottle.json")


def damage_link(folder):
    os.rename(f"{folder}/home", f"{folder}/elsewhere")
    os.symlink("elsewhere", f"{folder}/home")


def damage_file_link(folder):
    os.rename(f"{folder}/bottle.json", f"{folder}/elsewhere")
    os.symlink("elsewhere", f"{folder}/bottle.json")


@pytest.mark.parametrize("damage, why", [
    (damage_json, "plan.json is damaged"), (damage_missing, "plan.json is missing"),
    (damage_bottle, "bottle.json is missing"), (damage_link, "its home is a symbolic link"),
    (damage_file_link, "bottle.json is a symbolic link")])
def test_what_is_not_as_it_was_left(home, damage, why):
    slug = ended(home)
    damage(f"{home.state}/{slug}")
    r = resume(home, slug, "true")
    assert r.returncode == 1
    assert one_line(r.stderr) == f"{slug} cannot be resumed: {why}"


def test_a_home_of_somebody_else(home):
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    slug = ended(home)
    os.chown(f"{home.state}/{slug}/home", 12345, 12345)
    r = resume(home, slug, "true")
    assert r.returncode == 1
    assert ("belongs to ids that are no bottle's" if home.uid is None else
            "belongs to uid 12345, not to us") in r.stderr
    assert os.stat(f"{home.state}/{slug}/home").st_uid == 12345
    os.chown(f"{home.state}/{slug}", 12345, 12345)
    if home.uid is None:
        r = resume(home, slug, "true")
        assert one_line(r.stderr) == f"{slug} cannot be resumed: its state folder belongs to uid " \
            "12345, not to us (uid 0)"


def test_what_the_agent_left_in_the_way(home):
    """Where the canary goes the agent may have left anything; it costs the agent, not the host."""
    slug = ended(home, "rm -r ~/.config/deploy; ln -s /etc ~/.config/deploy")
    r = resume(home, slug, "true")
    assert r.returncode == 1 and "in the agent's home" in r.stderr
    slug = ended(home, "rm ~/.config/deploy/credentials; mkfifo ~/.config/deploy/credentials")
    assert resume(home, slug, "grep", "-c", "dpl_", "/home/agent/.config/deploy/credentials").stdout == "1\n"


def test_two_at_once(home):
    import subprocess
    slug = ended(home)
    ps = [subprocess.Popen(home.argv(["resume", slug, "--headless", "--", "sh", "-c", "echo ran; sleep 1"]),
                           env=home.env(), cwd=home.cwd, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    out = [p.communicate(timeout=60) for p in ps]
    assert sorted(p.returncode for p in ps) == [0, 1, 1], out
    assert sum(o == "ran\n" for o, _ in out) == 1
    assert sum(f"{slug} is running" in e for _, e in out) == 2


def test_commit_is_not_to_be_had_natively(home):
    slug = ended(home)
    r = home.run("commit", slug)
    assert r.returncode == 1 and r.stdout == ""
    assert one_line(r.stderr) == f"backend native keeps no image: the home in {home.state}/{slug}/home " \
        f"is all there is; claude-bottle resume {slug}"
    r = home.run("commit", slug, "Not-a-name")
    assert r.returncode == 2 and "is not an image's reference" in r.stderr
