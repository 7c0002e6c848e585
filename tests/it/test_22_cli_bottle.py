"""The verbs on real bottles of the native backend."""
import glob
import json
import os
import re
import signal
import subprocess
import time

import pytest

import bottle
from session import STUBBORN, detach, states, wait_for


def detach_stubborn(home):
    """Returns when the agent has said that it ignores the signals."""
    slug = detach(home, *STUBBORN)
    p = subprocess.Popen(home.argv(["attach", slug]), env=home.env(), stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert p.stdout.readline().strip() == b"ready"
    p.kill()
    p.communicate()
    return slug


def test_status_streams_and_the_first_line(closed):
    r = closed.start("sh", "-c", "cat; echo err >&2; exit 41", input="typed\n")
    assert r.returncode == 41
    assert r.stdout == "typed\n"
    lines = r.stderr.splitlines()
    assert lines[0] == "claude-bottle: backend native: named by the manifest"
    assert lines[-1] == "err"
    assert closed.start("sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM
    one, = [b for b in states(closed).values() if b["exit_status"] == 41]
    assert one["state"] == "ended" and not one["alive"]


def test_binary_streams_are_whole(closed):
    data = os.urandom(2 << 20)
    r = closed.start("cat", input=data, text=False)
    assert r.returncode == 0 and r.stdout == data
    r = closed.start("sh", "-c", "head -c 3000000 /dev/zero", text=False)
    assert len(r.stdout) == 3000000


def test_a_quick_agent_loses_nothing(closed):
    for _ in range(5):
        r = closed.start("echo", "here")
        assert (r.returncode, r.stdout) == (0, "here\n")


def test_dry_run_creates_nothing(closed):
    r = closed.run("start", "worker", "--dry-run")
    assert r.returncode == 0 and "May reach" in r.stdout and r.stderr == ""
    plan = json.loads(closed.run("start", "worker", "--dry-run", "--json", "--", "a", "b").stdout)
    assert plan["command"] == ["a", "b"] and plan["backend"] == "native"
    assert not os.path.exists(closed.state)


def test_a_backend_that_is_not_there_is_no_reason_for_another(closed):
    absent = "smolmachines"  # which no package brings
    for args, env in ((["--backend", absent], {}), ([], {"CLAUDE_BOTTLE_BACKEND": absent})):
        closed.secrets = env
        r = closed.run("start", "worker", *args, "--headless", "--", "true")
        assert r.returncode == 1 and f"backend {absent} (named by " in r.stderr
        assert r.stderr.count("\n") == 1
    closed.secrets = {"CLAUDE_BOTTLE_BACKEND": absent}
    r = closed.run("start", "worker", "--backend", "native", "--headless", "--", "true")
    assert r.returncode == 0 and "backend native: named by --backend" in r.stderr


def test_a_writable_root_is_not_to_be_had_natively(closed):
    closed.write_bottle("box", root="writable")
    assert json.loads(closed.run("start", "worker", "--dry-run", "--json").stdout)["root"] == "writable"
    r = closed.run("start", "worker", "--headless", "--", "true")
    assert r.returncode == 1 and "root: writable cannot be had natively" in r.stderr
    assert not any(b["alive"] for b in states(closed).values())
    closed.write_bottle("box", root="read-only")
    assert closed.start("true").returncode == 0


def test_an_image_is_not_to_be_had_natively(closed):
    closed.write_bottle("box", image="registry.example:5000/tools/agent:1")
    r = closed.run("start", "worker", "--dry-run")
    assert "Image: registry.example:5000/tools/agent:1\n" in r.stdout
    r = closed.run("start", "worker", "--headless", "--", "true")
    assert r.returncode == 1 and "claude-bottle: image cannot be had natively" in r.stderr
    assert not any(b["alive"] for b in states(closed).values())


def test_manifest_errors_say_where(closed):
    path = closed.write_bottle("box", egres={})
    r = closed.run("start", "worker", "--headless")
    assert r.returncode == 1
    assert re.fullmatch(rf"claude-bottle: {re.escape(path)}:\d+:\d+: [^\n]*did you mean \"egress\"[^\n]*\n",
                        r.stderr)


def test_detached_life(closed):
    slug = detach(closed, "sh", "-c", "echo started; read x; echo got $x; sleep 600")
    assert states(closed)[slug]["state"] == "running"
    assert slug in closed.run("list").stdout
    short = slug[:-2]
    r = closed.run("exec", short, "--", "sh", "-c", "cat; echo oops >&2; exit 9", input="in")
    assert (r.returncode, r.stdout, r.stderr) == (9, "in", "oops\n")
    r = closed.run("exec", slug, "no-such-command")
    assert r.returncode in (1, 127)
    watcher = subprocess.Popen(closed.argv(["attach", slug]), env=closed.env(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert watcher.stdout.readline().strip() == b"started", "what was said before is shown"
    watcher.send_signal(signal.SIGTERM)
    assert watcher.wait(10) == 128 + signal.SIGTERM
    watcher.communicate()
    assert states(closed)[slug]["alive"], "leaving does not end it"
    began = time.monotonic()
    r = closed.run("stop", slug)
    assert r.returncode == 0 and "has ended" in r.stderr
    assert time.monotonic() - began < 8
    assert not states(closed)[slug]["alive"] and states(closed)[slug]["state"] == "ended"
    assert closed.run("stop", slug).returncode == 0
    r = closed.run("exec", slug, "true")
    assert r.returncode == 1 and "is not running" in r.stderr


def test_stop_all_and_now(closed):
    slugs = [detach_stubborn(closed) for _ in range(2)]
    began = time.monotonic()
    assert closed.run("stop", "--all", "--now").returncode == 0
    assert time.monotonic() - began < 6
    assert not any(states(closed)[s]["alive"] for s in slugs)


def test_stop_all_asks_several_at_once(closed):
    slugs = [detach_stubborn(closed) for _ in range(5)]
    began = time.monotonic()
    r = closed.run("stop", "--all")
    assert r.returncode == 0 and all(f"{s} has ended" in r.stderr for s in slugs)
    assert 9 < time.monotonic() - began < 18, "four and one, each with its five seconds"
    assert not any(states(closed)[s]["alive"] for s in slugs)
    assert closed.run("stop", "--all").returncode == 0


def test_stop_ends_an_agent_that_will_not(closed):
    slug = detach_stubborn(closed)
    began = time.monotonic()
    assert closed.run("stop", slug).returncode == 0
    assert 4 < time.monotonic() - began < 11
    assert not states(closed)[slug]["alive"]


def test_stop_ends_a_keeper_that_does_not_answer(closed):
    slug = detach(closed)
    keeper = states(closed)[slug]["pid"]
    os.kill(keeper, signal.SIGSTOP)
    assert closed.run("stop", slug, "--now", timeout=40).returncode == 0
    assert not states(closed)[slug]["alive"]
    assert states(closed)[slug]["state"] == "killed"
    assert closed.run("cleanup").returncode == 0
    assert not glob.glob(f"{closed.state}/*")


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_start_forwards_signals(closed, sig):
    p = subprocess.Popen(closed.argv(
        ["start", "worker", "--headless", "--", "sh", "-c",
         "trap 'echo int; exit 5' INT; trap 'echo term; exit 6' TERM; echo ready; "
         "while :; do sleep 0.1; done"]), env=closed.env(), cwd=closed.cwd, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert p.stdout.readline() == b"ready\n"
    p.send_signal(sig)
    out, _ = p.communicate(timeout=15)
    assert p.returncode == {signal.SIGINT: 5, signal.SIGTERM: 6}[sig]
    assert out == {signal.SIGINT: b"int\n", signal.SIGTERM: b"term\n"}[sig]


def test_a_bottle_ends_with_its_start(closed):
    with closed.background("sleep", "600") as b:
        os.kill(b.process.pid, signal.SIGKILL)
        wait_for(lambda: not states(closed)[b.slug]["alive"])
    assert states(closed)[b.slug]["state"] == "ended"


def test_interrupted_while_it_is_made_leaves_nothing_running(closed):
    for delay in (0.0, 0.02, 0.06):
        p = subprocess.Popen(closed.argv(["start", "worker", "--headless", "--", "sleep", "600"]),
                             env=closed.env(), cwd=closed.cwd, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        p.send_signal(signal.SIGTERM)
        p.wait(20)
        assert p.returncode != 0
    wait_for(lambda: not any(b["alive"] for b in states(closed).values()))
    closed.run("cleanup", check=True)
    assert not glob.glob(f"{closed.state}/*")


def test_a_killed_run_does_not_stand_in_the_way(closed):
    slug = detach(closed)
    os.kill(states(closed)[slug]["pid"], signal.SIGKILL)
    wait_for(lambda: not states(closed)[slug]["alive"])
    assert states(closed)[slug]["state"] == "killed"
    r = closed.start("echo", "fine")
    assert r.returncode == 0 and r.stdout == "fine\n"
    assert "1 killed run left traces on this host: claude-bottle cleanup" in r.stderr
    r = closed.run("cleanup", "--json")
    assert r.returncode == 0
    assert slug in [d["slug"] for d in json.loads(r.stdout)]
    assert not glob.glob(f"{closed.state}/*")
    assert "killed" not in closed.start("true").stderr


def test_logs_of_a_real_bottle(home):
    r = home.start("sh", "-c", "curl -s https://evil.example.test/ -o /dev/null; "
                               "curl -s https://api.example.test/hello -o /dev/null; exit 0")
    assert r.returncode == 0
    slug, = home.slugs()
    lines = home.run("logs", slug).stdout.splitlines()
    assert any(re.search(r" block +pipelock .*evil\.example\.test.* host-not-allowed", x) for x in lines)
    assert any(re.search(r" allow +.*api\.example\.test/hello", x) for x in lines)
    raw = [json.loads(x) for x in home.run("logs", slug, "--json").stdout.splitlines()]
    assert [x["seq"] for x in raw] == list(range(1, len(raw) + 1))
    r = home.run("logs", slug, "--verify")
    assert r.returncode == 0, r.stderr
    assert f"{len(raw)} records, unbroken" in r.stdout


def test_a_start_that_has_not_begun_leaves_nothing(closed):
    closed.write_bottle("box", routes=[bottle.route("api.example.test", auth={
        "scheme": "bearer", "token_ref": "env:NOT_THERE", "env": "API_TOKEN"})])
    r = closed.run("start", "worker", "--headless", "--", "true")
    assert r.returncode == 1 and "NOT_THERE is not set" in r.stderr
    assert re.search(r"box\.md:\d+:\d+: ", r.stderr)
    assert states(closed) == {}


def test_a_start_that_fails_says_why_and_where_the_log_is(closed):
    closed.secrets = {"CLAUDE_BOTTLE_BUNDLE": "/bin/false"}
    r = closed.run("start", "worker", "--headless", "--", "true")
    assert r.returncode == 1
    log = re.search(r"^claude-bottle: the log of this start: (.*/log)$", r.stderr, re.M).group(1)
    assert os.path.exists(log)
    assert len(r.stderr.splitlines()) == 3
    assert not any(b["alive"] for b in states(closed).values())


def test_logs_follow(home):
    slug = home.run("start", "worker", "--detach", "--", "sh", "-c",
                    "sleep 1; curl -s https://evil.example.test/ -o /dev/null; sleep 1").stdout.strip()
    r = home.run("logs", slug, "--follow", timeout=30)
    assert r.returncode == 0 and "evil.example.test" in r.stdout


def test_doctor_is_content_where_bottles_start(closed):
    native, = [d for d in json.loads(closed.run("doctor", "--json").stdout) if d["backend"] == "native"]
    assert native["built"] and native["usable"] and native["checks"]
    assert all(c["ok"] for c in native["checks"] if c["required"])


# --- on a terminal ---

def test_picker_preflight_shell_resize_status(closed, terminal):
    closed.write_agent("another", "box")
    t = terminal(closed, "start", "--", "sh")
    t.expect(b"Which agent? [1-2] ")
    t.type(b"9\n")
    t.expect(b"there is no number 9")
    t.type(b"work\n")
    shown = t.expect(b"limits")
    assert b"backend native" in shown and b"may reach nothing" in shown
    t.type(b"tty; stty size; echo ma''rk\n")
    got = t.expect(b"mark")
    assert b"31 101" in got
    t.resize(40, 90)
    t.type(b"sleep 0.5; stty size\n")
    t.expect(b"40 90")
    t.interrupt_a_command()
    t.type(b"exit 23\n")
    assert t.wait() == 23


def test_detach_and_come_back(closed, terminal):
    t = terminal(closed, "start", "worker", "--", "sh")
    t.expect(b"limits")
    t.type(b"x=kept; echo in''side\n")
    t.expect(b"inside")
    t.type(b"\x1cd")
    t.expect(b"detached from ")
    assert t.wait() == 0
    slug, = [s for s, b in states(closed).items() if b["alive"]]
    t = terminal(closed, "attach", slug)
    t.type(b"echo x=$x-\n")
    t.expect(b"x=kept-")
    t.type(b"exit 4\n")
    assert t.wait() == 4
    wait_for(lambda: not states(closed)[slug]["alive"])


def test_exec_with_a_terminal(closed, terminal):
    slug = detach(closed)
    t = terminal(closed, "exec", slug, "sh", "-c", "test -t 0 && test -t 1 && stty size; exit 8")
    t.expect(b"31 101")
    assert t.wait() == 8


def test_a_closed_terminal_ends_the_bottle(closed, terminal):
    t = terminal(closed, "start", "worker", "--", "sh", "-c", "echo in''side; sleep 600")
    # Written so that neither the plan shown before nor a random slug can contain it.
    t.expect(b"inside")
    slug, = [s for s, b in states(closed).items() if b["alive"]]
    t.hang_up()
    t.process.wait(15)
    wait_for(lambda: not states(closed)[slug]["alive"])


def test_a_strangers_agent_is_asked_about(closed, terminal):
    folder = f"{closed.folder}/repo"
    os.makedirs(f"{folder}/.claude-bottle/agents")
    with open(f"{folder}/.claude-bottle/agents/theirs.md", "w") as f:
        f.write("---\nbottle: box\n---\nDo something.\n")
    t = terminal(closed, "start", "theirs", "--", "echo", "ran", cwd=folder)
    shown = t.expect(b"Start it? [y/N] ")
    assert b"comes with the current directory" in shown
    t.type(b"\n")
    assert t.wait() == 1
    assert states(closed) == {}
    t = terminal(closed, "start", "theirs", "--", "echo", "ran", cwd=folder)
    t.expect(b"Start it? [y/N] ")
    t.type(b"y\n")
    t.expect(b"ran")
    assert t.wait() == 0


def test_an_ordinary_user_has_the_same(make_home, ordinary):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; the tests above ran as an ordinary one")
    uid, tree = ordinary
    home = make_home(uid=uid)
    home.program = f"{tree}/build/claude-bottle"
    home.write_bottle("box")
    home.write_agent("worker", "box")
    r = home.start("sh", "-c", "cat; exit 41", input="typed\n")
    assert (r.returncode, r.stdout) == (41, "typed\n"), r.stderr
    slug = detach(home)
    assert home.run("exec", slug, "id", "-u").stdout == "1000\n"
    os.kill(states(home)[slug]["pid"], signal.SIGKILL)
    wait_for(lambda: not states(home)[slug]["alive"])
    r = home.run("cleanup", "--json")
    assert r.returncode == 0 and len(json.loads(r.stdout)) == 2, r.stderr
    assert not glob.glob(f"{home.state}/*")
    assert home.run("doctor").returncode == 0


def test_no_moment_to_die_in_orphans_a_bottle(closed):
    """The start is killed at many moments: nothing of it may go on for long."""
    for ms in range(0, 200, 20):
        p = subprocess.Popen(closed.argv(["start", "worker", "--headless", "--", "sleep", "600"]),
                             env=closed.env(), cwd=closed.cwd, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(ms / 1000)
        p.send_signal(signal.SIGKILL)
        p.wait()
    wait_for(lambda: not any(b["alive"] for b in states(closed).values()))
    closed.run("cleanup", check=True)
    assert not glob.glob(f"{closed.state}/*")
