"""What scripts rely on: exit status, one line of error, JSON."""
import json
import subprocess

import pytest

VERBS = ("start attach exec stop list logs cleanup doctor init policy selftest completion help "
         "version").split()


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(make_home, verb):
    r = make_home().run(verb, "--help")
    assert r.returncode == 0 and f"claude-bottle {verb}" in r.stdout, r.stderr
    assert max(len(line) for line in r.stdout.splitlines()) <= 100


def test_wrong_use_is_status_2(make_home):
    home = make_home()
    for args in ([], ["strat"], ["start", "--no-such-option"], ["exec"], ["policy", "check"]):
        r = home.run(*args)
        assert r.returncode == 2, (args, r.returncode, r.stderr)
    assert "start" in home.run("strat").stderr


def test_failure_is_status_1_and_one_line(make_home):
    home = make_home()
    for args in (["start", "nobody", "--headless"], ["stop", "no-such-bottle"],
                 ["logs", "no-such-bottle"], ["exec", "no-such-bottle", "--", "true"]):
        r = home.run(*args)
        assert r.returncode == 1, (args, r.returncode, r.stderr)
        assert len(r.stderr.strip().splitlines()) == 1, r.stderr
        assert r.stdout == ""


def test_dry_run_creates_nothing(home):
    r = home.run("start", "worker", "--dry-run", "--json")
    assert r.returncode == 0, r.stderr
    plan = json.loads(r.stdout)
    assert "api.example.test" in json.dumps(plan)
    text = home.run("start", "worker", "--dry-run")
    assert text.returncode == 0 and "api.example.test" in text.stdout
    assert home.slugs() == []


def test_mistake_in_a_manifest_has_its_place(home):
    path = f"{home.folder}/.claude-bottle/bottles/box.md"
    text = open(path).read().replace("methods:", "method:")
    with open(path, "w") as f:
        f.write(text)
    line = 1 + text.split("\n").index([s for s in text.split("\n") if "method:" in s][0])
    r = home.run("start", "worker", "--headless", "--", "true")
    assert r.returncode == 1
    assert f"box.md:{line}:" in r.stderr and "did you mean" in r.stderr, r.stderr
    assert home.slugs() == []


def test_examples_of_init_parse(make_home):
    home = make_home()
    subprocess.run(["rm", "-rf", f"{home.folder}/.claude-bottle"], check=True)
    r = home.run("init")
    assert r.returncode == 0, r.stderr
    import os
    agents = [f[:-3] for f in os.listdir(f"{home.folder}/.claude-bottle/agents")]
    assert agents
    home.secrets["ANTHROPIC_API_KEY"] = "x" * 40
    for agent in agents:
        r = home.run("start", agent, "--dry-run")
        assert r.returncode == 0, r.stderr


def test_doctor(make_home):
    r = make_home().run("doctor", "--json")
    said = json.loads(r.stdout)
    assert r.returncode == 0 and "native" in json.dumps(said)


def test_policy_check(home):
    assert home.run("policy", "check", "https://api.example.test/json", "--agent", "worker").returncode == 0 or \
        home.run("policy", "check", "--bottle", "box", "https://api.example.test/json").returncode == 0
