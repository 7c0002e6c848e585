"""The command line by itself: usage, exit status, the state folder. No bottle is started here."""
import fcntl
import json
import os
import re
import subprocess

import pytest

import bottle

VERBS = ["start", "resume", "attach", "exec", "stop", "list", "logs", "commit", "cleanup", "doctor", "init",
         "policy", "selftest", "supervise", "completion", "help", "version"]


@pytest.fixture
def bare(make_home):
    return make_home()


def one_line(text):
    assert re.fullmatch(r"claude-bottle: [^\n]+\n", text), text
    return text


def dead_bottle(home, slug, state="running", **more):
    folder = f"{home.state}/{slug}"
    for part in (f"{home.folder}/.local", f"{home.folder}/.local/state",
                 f"{home.folder}/.local/state/claude-bottle", home.state, folder):
        os.makedirs(part, mode=0o700, exist_ok=True)
    open(f"{folder}/lock", "w").close()
    with open(f"{folder}/bottle.json", "w") as f:
        json.dump({"slug": slug, "agent": "worker", "bottle": "box", "backend": "native", "pid": 1,
                   "started": "2026-01-02T03:04:05.678Z", "state": state, **more}, f)
    return folder


def test_usage_and_help(bare):
    r = bare.run()
    assert r.returncode == 2 and r.stdout == "" and r.stderr.startswith("usage: claude-bottle")
    for flag in ("--help", "-h", "help"):
        r = bare.run(flag)
        assert r.returncode == 0 and r.stderr == ""
        for verb in VERBS:
            assert re.search(rf"^  {verb} ", r.stdout, re.M), verb
        assert "__complete" not in r.stdout
        assert all(len(line) <= 80 for line in r.stdout.splitlines())
    for verb in VERBS:
        r = bare.run(verb, "--help")
        assert r.returncode == 0 and r.stdout.startswith(f"usage: claude-bottle {verb}")
        assert r.stdout == bare.run("help", verb).stdout
        assert all(len(line) <= 100 for line in r.stdout.splitlines())


def test_version(bare):
    for flag in ("--version", "-V", "version"):
        r = bare.run(flag)
        assert r.returncode == 0
        assert re.fullmatch(r"claude-bottle \d+\.\d+\.\d+\n", r.stdout)


@pytest.mark.parametrize("args,text", [
    (["strat"], 'did you mean "start"?'),
    (["list", "--jsn"], "did you mean --json?"),
    (["list", "extra"], 'unexpected argument "extra"'),
    (["list", "--json=1"], "--json takes no value"),
    (["exec"], "missing argument"),
    (["exec", "slug"], "missing command"),
    (["stop"], "name one bottle, or --all"),
    (["stop", "a", "--all"], "name one bottle, or --all"),
    (["start"], "name an agent"),
    (["start", "a", "--backend"], "--backend needs a value"),
    (["start", "a", "--json"], "--json goes with"),
    (["logs", "a", "--verify", "--follow"], "--verify goes alone"),
    (["completion", "fish"], "bash or zsh"),
    (["doctor", "--backend", "dokcer"], "docker"),
    (["\x1b[2Jx"], "\\x1b[2Jx"),
])
def test_wrong_use_is_status_2_and_one_line(bare, args, text):
    r = bare.run(*args)
    assert r.returncode == 2
    assert r.stdout == ""
    assert text in one_line(r.stderr)


def test_nothing_yet(bare):
    assert json.loads(bare.run("list", "--json").stdout) == []
    assert json.loads(bare.run("list", "--all", "--json").stdout) == []
    assert json.loads(bare.run("cleanup", "--json").stdout) == []
    assert bare.run("list").stdout == ""
    assert not os.path.exists(bare.state), "looking creates nothing"
    for verb in (["logs", "x"], ["attach", "x"], ["stop", "x"], ["exec", "x", "true"],
                 ["resume", "x"], ["commit", "x"]):
        r = bare.run(*verb)
        assert r.returncode == 1
        assert 'no bottle "x"' in one_line(r.stderr)


def test_list_tells_alive_from_killed_by_the_lock_alone(bare):
    killed = dead_bottle(bare, "worker-killed", pid=os.getpid())
    dead_bottle(bare, "worker-ended", state="ended", exit_status=3)
    alive = dead_bottle(bare, "worker-alive")
    lock = open(f"{alive}/lock")
    fcntl.flock(lock, fcntl.LOCK_EX)
    got = {b["slug"]: b for b in json.loads(bare.run("list", "--all", "--json").stdout)}
    assert {s: b["state"] for s, b in got.items()} == {
        "worker-killed": "killed", "worker-ended": "ended", "worker-alive": "running"}
    assert got["worker-alive"]["alive"] is True and got["worker-killed"]["alive"] is False
    assert got["worker-ended"]["exit_status"] == 3 and got["worker-alive"]["exit_status"] is None
    assert [b["slug"] for b in json.loads(bare.run("list", "--json").stdout)] == ["worker-alive"]
    text = bare.run("list", "--all").stdout
    assert "\x1b" not in text
    assert re.search(r"^worker-killed +worker +box +native +killed +2026", text, re.M)
    # A dead bottle is no bottle to attach to, and stopping one is no failure.
    assert "is not running" in one_line(bare.run("attach", "worker-killed").stderr)
    assert bare.run("stop", "worker-killed").returncode == 0
    # A prefix means the living one before the dead ones, and two dead ones are refused.
    assert "the records of worker-alive" in bare.run("logs", "worker-").stderr
    lock.close()
    assert "may mean 3 bottles" in one_line(bare.run("logs", "worker-").stderr)
    assert os.path.isdir(killed)


def test_list_shows_what_hides(bare):
    dead_bottle(bare, "worker-x", agent="\x1b[2Jevil‮\n")
    out = bare.run("list", "--all").stdout
    assert "\x1b" not in out and "‮" not in out and len(out.splitlines()) == 2
    assert "\\x1b[2Jevil" in out


def test_cleanup_removes_the_dead_and_only_them(bare):
    folder = dead_bottle(bare, "worker-killed")
    os.makedirs(f"{folder}/home/a/b")
    os.symlink("/etc", f"{folder}/home/a/etc")
    os.chmod(f"{folder}/home/a/b", 0)
    alive = dead_bottle(bare, "worker-alive")
    lock = open(f"{alive}/lock")
    fcntl.flock(lock, fcntl.LOCK_EX)
    child = subprocess.Popen(["sleep", "1000"], env={"CLAUDE_BOTTLE_SLUG": "worker-killed"})
    other = subprocess.Popen(["sleep", "1000"], env={"CLAUDE_BOTTLE_SLUG": "worker-alive"})
    third = subprocess.Popen(["sleep", "1000"], env={"X": "CLAUDE_BOTTLE_SLUG=worker-killed"})
    try:
        dry = json.loads(bare.run("cleanup", "--dry-run", "--json").stdout)
        assert [(d["slug"], d["processes"], d["removed"]) for d in dry] == [
            ("worker-killed", 1, False)]
        assert child.poll() is None and os.path.isdir(folder)
        r = bare.run("cleanup", "--json")
        assert r.returncode == 0, r.stderr
        assert [(d["slug"], d["processes"], d["removed"]) for d in json.loads(r.stdout)] == [
            ("worker-killed", 1, True)]
        assert child.wait(10) == -9
        assert not os.path.exists(folder) and os.path.isdir(alive) and os.path.isdir("/etc")
        assert other.poll() is None and third.poll() is None
    finally:
        for p in (child, other, third):
            p.kill()
            p.wait()
        lock.close()


def test_the_state_folder_must_be_ours_alone(bare):
    dead_bottle(bare, "worker-x")
    os.chmod(bare.state, 0o777)
    r = bare.run("cleanup")
    assert r.returncode == 1 and "is open to others" in one_line(r.stderr)
    os.chmod(bare.state, 0o700)
    if os.geteuid() != 0:
        pytest.skip("only root can give the folder to somebody else")
    os.chown(bare.state, bottle.ordinary_uid(), -1)
    r = bare.run("cleanup")
    os.chown(bare.state, 0, -1)
    assert r.returncode == 1 and "belongs to uid" in one_line(r.stderr)
    assert os.path.isdir(f"{bare.state}/worker-x")


def test_a_bottle_may_not_be_a_link(bare, tmp_path):
    dead_bottle(bare, "worker-x")
    os.rename(f"{bare.state}/worker-x", tmp_path / "x")
    os.symlink(tmp_path / "x", f"{bare.state}/worker-x")
    assert json.loads(bare.run("list", "--all", "--json").stdout) == []
    bare.run("cleanup")
    assert (tmp_path / "x" / "bottle.json").exists()


def test_xdg_state_home(bare):
    env = dict(bare.env(), XDG_STATE_HOME=f"{bare.folder}/elsewhere")
    os.makedirs(f"{bare.folder}/elsewhere/claude-bottle", mode=0o700)
    dead_bottle(bare, "worker-x")
    os.rename(bare.state, f"{bare.folder}/elsewhere/claude-bottle/bottles")

    def slugs(e):
        r = subprocess.run([bottle.executable(), "list", "--all", "--json"], env=e,
                           capture_output=True, text=True, timeout=20)
        return [b["slug"] for b in json.loads(r.stdout)]

    assert slugs(env) == ["worker-x"]
    # The specification says that a relative one is to be ignored.
    assert slugs(dict(env, XDG_STATE_HOME="elsewhere")) == []


def test_closed_standard_descriptors(bare):
    for fds in ("0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"):
        r = subprocess.run(["sh", "-c", f'exec "$0" list --all {fds}', bottle.executable()],
                           env=bare.env(), capture_output=True, timeout=20)
        assert r.returncode in (0, 1)


def test_a_full_disk_is_said(bare):
    with open("/dev/full", "w") as full:
        r = subprocess.run([bottle.executable(), "help"], env=bare.env(), stdout=full,
                           stderr=subprocess.PIPE, timeout=20)
    assert r.returncode == 1


def test_doctor_names_every_backend(bare):
    r = bare.run("doctor", "--json")
    found = {d["backend"]: d for d in json.loads(r.stdout)}
    assert list(found) == ["native", "docker", "smolmachines", "qemu"]
    assert r.returncode == (0 if any(d["usable"] for d in found.values()) else 1)
    for d in found.values():
        assert set(d) == {"backend", "version", "built", "usable", "chosen", "host", "reason", "checks"}
        assert d["version"] and os.uname().release in d["host"]
        for c in d["checks"]:
            assert c["name"] and c["text"]
    assert found["docker"]["built"] and not found["docker"]["usable"]
    assert "no-engine.sock" in found["docker"]["checks"][0]["text"]
    assert not found["smolmachines"]["usable"]  # there is no smolvm to be had from a package
    chosen = [d["backend"] for d in found.values() if d["chosen"]]
    assert len(chosen) == (1 if any(d["usable"] for d in found.values()) else 0)
    text = bare.run("doctor").stdout
    head, choice = text.split("\n")[:2]
    assert re.fullmatch(rf"claude-bottle \d+\.\d+\.\d+ on Linux {re.escape(os.uname().release)} \S+, as .*", head)
    assert choice.startswith(f"start takes {chosen[0]}: " if chosen else "start fails: ")
    assert "docker: cannot start bottles" in text
    for backend in ("docker", "smolmachines"):
        only = bare.run("doctor", "--backend", backend, "--json")
        assert only.returncode == 1 and [d["backend"] for d in json.loads(only.stdout)] == [backend]


# --- records ---

def records_of(home, slug, lines):
    folder = dead_bottle(home, slug, state="ended")
    with open(f"{folder}/records.jsonl", "w") as f:
        f.write("".join(line + "\n" for line in lines))
    return folder


def chain(*bodies):
    import hashlib
    out, previous = [], "0" * 64
    for i, body in enumerate(bodies, 1):
        extra = "".join(f",{json.dumps(k)}:{json.dumps(v)}" for k, v in body.items())
        text = f'{{"seq":{i}{extra},"prev":"{previous}"'
        previous = hashlib.sha256(text.encode()).hexdigest()
        out.append(f'{text},"hash":"{previous}"}}')
    return out


LINES = chain({"time": "2026-01-02T03:04:05.678Z", "role": "pipelock", "verdict": "allow",
               "reason": "ok", "method": "GET", "host": "api.example.test", "port": 443,
               "path": "/v1", "status": 200},
              {"time": "2026-01-02T03:04:06.678Z", "role": "pipelock", "verdict": "block",
               "reason": "secret-in-body", "rule": "github-token", "method": "POST",
               "host": "api.example.test", "port": 8443, "path": "/\x1b[2J", "status": 403},
              {"time": "2026-01-02T03:04:07.678Z", "role": "init", "verdict": "note",
               "reason": "role-restarted", "detail": "egress"})


def test_logs_forms(bare):
    records_of(bare, "worker-x", LINES)
    assert bare.run("logs", "worker-x", "--json").stdout == "".join(x + "\n" for x in LINES)
    text = bare.run("logs", "worker").stdout
    assert "\x1b" not in text
    lines = text.splitlines()
    assert len(lines) == 3
    assert re.search(r"allow +pipelock +200 +GET +api\.example\.test/v1$", lines[0])
    assert re.search(r"block +pipelock +403 +POST +api\.example\.test:8443/\\x1b\[2J +"
                     r"secret-in-body \(github-token\)$", lines[1])
    assert re.search(r"note +init +role-restarted +egress$", lines[2])
    assert bare.run("logs", "worker-x", "--follow").stdout == text, "a dead bottle ends the wait"


def test_logs_verify(bare):
    folder = records_of(bare, "worker-x", LINES)
    r = bare.run("logs", "worker-x", "--verify")
    assert r.returncode == 0 and r.stdout.startswith("3 records, unbroken")
    for changed, where in (([LINES[0], LINES[2]], 1), (LINES[1:], 0),
                           ([LINES[0], LINES[1].replace("403", "200"), LINES[2]], 1),
                           ([*LINES, "x"], 3), ([*LINES, "x" * 9000], 3)):
        with open(f"{folder}/records.jsonl", "w") as f:
            f.write("".join(x + "\n" for x in changed))
        r = bare.run("logs", "worker-x", "--verify")
        assert r.returncode == 1
        assert f"the chain breaks after record {where}" in one_line(r.stderr)
    with open(f"{folder}/records.jsonl", "w") as f:
        f.write("\n".join(LINES))
    r = bare.run("logs", "worker-x", "--verify")
    assert r.returncode == 1 and "the last line is cut" in one_line(r.stderr)


# --- completion ---

def complete(home, *words):
    r = home.run("__complete", "--", *words)
    assert r.returncode == 0 and r.stderr == ""
    return [line.split("\t")[0] for line in r.stdout.splitlines()]


def test_completion_follows_the_table(bare):
    dead_bottle(bare, "worker-x")
    assert set(VERBS) <= set(complete(bare, ""))
    assert complete(bare, "lis") == ["list"]
    assert complete(bare, "list", "--") == ["--all", "--json", "--help"]
    assert complete(bare, "start", "--backend", "") == ["native", "docker", "smolmachines", "qemu"]
    assert complete(bare, "doctor", "-b", "q") == ["qemu"]
    assert complete(bare, "completion", "") == ["bash", "zsh"]
    assert complete(bare, "logs", "") == ["worker-x"], "records outlive the bottle"
    assert complete(bare, "attach", "") == []
    assert complete(bare, "resume", "") == ["worker-x"] == complete(bare, "commit", "")
    assert complete(bare, "exec", "slug", "") == [":commands"]
    assert complete(bare, "start", "x", "--", "") == [":commands"]
    assert complete(bare, "nonsense", "") == []


def test_completion_scripts(bare):
    script = bare.run("completion", "bash", check=True).stdout
    path = f"{bottle.ROOT}/tools/completion/claude-bottle."
    assert script == open(path + "bash").read()
    assert bare.run("completion", "zsh", check=True).stdout == open(path + "zsh").read()
    words = "COMP_WORDS=(claude-bottle lis); COMP_CWORD=1; _claude_bottle; echo ${COMPREPLY[*]}"
    r = subprocess.run(["bash", "-c", f"{script}\n{words}"], text=True, capture_output=True,
                       env=dict(bare.env(), PATH=f"{bottle.build_folder()}:{bare.env()['PATH']}"),
                       timeout=20)
    assert r.stdout == "list\n", r.stderr


# --- manual pages ---

def test_every_option_is_in_the_manual(bare):
    folder = f"{bottle.ROOT}/docs/man"
    for verb in VERBS:
        if verb in ("help", "version", "completion"):
            continue
        page = open(f"{folder}/claude-bottle-{verb}.1").read()
        for option in re.findall(r"--([a-z-]+)", bare.run(verb, "--help").stdout.split("\n\n", 1)[-1]):
            if option != "help":
                assert re.search(rf" -{option}\b", page), f"{verb} --{option}"
        assert f"Xr claude-bottle-{verb} 1" in open(f"{folder}/claude-bottle.1").read()


def test_the_manual_has_no_warning():
    if not any(os.access(f"{d}/man", os.X_OK) for d in os.environ["PATH"].split(":")):
        pytest.skip("man is missing (package man-db)")
    folder = f"{bottle.ROOT}/docs/man"
    pages = sorted(p for p in os.listdir(folder) if p[-2:] in (".1", ".5"))
    listed = open(f"{folder}/meson.build").read()
    assert len(pages) >= 13
    for page in pages:
        assert f"'{page}'" in listed
        r = subprocess.run(["man", "--warnings", "-l", f"{folder}/{page}"], capture_output=True,
                           text=True, timeout=30, env={**os.environ, "LC_ALL": "C.UTF-8",
                                                       "MANWIDTH": "80", "PAGER": "cat"})
        assert r.returncode == 0 and r.stderr == "" and len(r.stdout) > 200, page
