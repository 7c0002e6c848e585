"""The native backend under its keeper, driven by the real command, with a stand-in for the bundle:
what is tested here is the compartment and its life, not what passes the proxy. Each test runs as
root and as an ordinary user, as far as the caller may."""
import glob
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

import bottle
import pytest

USERS = ["self", "ordinary"]


@pytest.fixture(scope="session")
def tree():
    """Copies of the executables that every user may run, owned by root (or us)."""
    with tempfile.TemporaryDirectory(prefix="native-it-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        build = bottle.build_folder()
        shutil.copy(f"{build}/claude-bottle", folder)
        fake = f"{build}/tests/unit/backend/fake_bundle"
        if not os.access(fake, os.X_OK):
            pytest.skip(f"{fake} is not built")
        shutil.copy(fake, f"{folder}/claude-bottle-bundle")
        yield folder


@pytest.fixture(params=USERS)
def box(request, make_home, tree):
    uid = None
    if request.param == "ordinary":
        if os.geteuid() != 0:
            pytest.skip("the caller is an ordinary user already")
        uid = bottle.ordinary_uid()
    home = make_home(uid)
    home.program = f"{tree}/claude-bottle"
    home.secrets["HOST_MARKER"] = "leaked"
    home.write_bottle("box", routes=[bottle.route("api.example.test", paths=["/**"])])
    for name in ("worker", "fake-fail", "fake-mute", "fake-die"):
        home.write_agent(name, "box")
    return home


def detached(home, *command, agent="worker"):
    r = home.run("start", agent, "--detach", "--json", "--", *command, timeout=30)
    assert r.returncode == 0, r.stderr + home.logs_of_all()
    slug = json.loads(r.stdout)["slug"]
    return slug, state_of(home, slug)


def state_of(home, slug):
    with open(f"{home.state}/{slug}/bottle.json") as f:
        return json.load(f)


def tree_of(pid):
    return [p for p in bottle.descendants(pid)]


def check_gone(home, slug, pids):
    assert bottle.wait_until(lambda: not any(map(bottle.is_alive, pids)), 10), \
        [(p, bottle.cmdline(p)) for p in pids if bottle.is_alive(p)]
    assert home.run("cleanup").returncode == 0
    assert not os.path.exists(f"{home.state}/{slug}")
    assert bottle.cgroups_named(slug) == []
    assert slug not in bottle.mounts()


def test_streams_and_status(box):
    r = box.start("sh", "-c", "echo out; echo err >&2; exit 42")
    assert (r.returncode, r.stdout) == (42, "out\n"), r.stderr
    assert r.stderr.endswith("err\n")
    r = box.start("sh", "-c", "kill -TERM $$")
    assert r.returncode == 128 + signal.SIGTERM
    r = box.start("/no/such/program")
    assert r.returncode == 127, r.stderr
    assert all(state_of(box, s)["state"] == "ended" for s in box.slugs())


def test_nothing_is_lost(box):
    """An agent that is quicker than its client, and input larger than every buffer on its way."""
    r = box.start("sh", "-c", "head -c 3000000 /dev/zero; echo end >&2", text=False)
    assert len(r.stdout) == 3000000 and r.stderr.endswith(b"end\n")
    data = os.urandom(1 << 20)
    r = box.start("sh", "-c", "sleep 0.2; cat", text=False, input=data)
    assert r.stdout == data


def test_inside(box):
    r = box.start("bash", "-c", "id -u; env; cat ~/.config/deploy/credentials; ls /; ls /proc/self/fd")
    assert r.returncode == 0, r.stderr
    assert "leaked" not in r.stdout and box.folder not in r.stdout
    for line in ("HTTPS_PROXY=http://10.209.0.2:8888", "https_proxy=http://10.209.0.2:8888",
                 "NO_PROXY=localhost,127.0.0.1,::1,10.209.0.2", "HOME=/home/agent", "1000",
                 "NODE_EXTRA_CA_CERTS=/etc/claude-bottle/ca.pem"):
        assert line in r.stdout.splitlines()
    assert "root" not in r.stdout.split("credentials")[-1].split()
    r = box.start("tail", "-n1", "/etc/claude-bottle/ca.pem")
    assert r.stdout == "FAKE-CA\n"


def test_clients_that_programs_are(box):
    """What clone3, netlink or io_uring being refused must not break."""
    r = box.start("python3", "-c",
                  "import threading, socket, subprocess, multiprocessing.pool as p\n"
                  "t = threading.Thread(target=lambda: print('thread')); t.start(); t.join()\n"
                  "print(p.ThreadPool(2).map(abs, [-1]), subprocess.check_output(['echo', 'x']))\n"
                  "print(socket.getaddrinfo('localhost', 80)[0][4])")
    assert r.returncode == 0 and "thread" in r.stdout, r.stderr
    r = box.start("git", "init", "-q", "repo")
    assert r.returncode == 0, r.stderr
    if shutil.which("node") and os.path.realpath(shutil.which("node")).startswith("/usr"):
        r = box.start("node", "-e", "new (require('worker_threads').Worker)('console.log(1)', "
                      "{eval: true}); console.log(Object.keys(require('os').networkInterfaces()))")
        assert r.returncode == 0 and "lo" in r.stdout, r.stderr


def test_exec(box):
    slug, state = detached(box, "sleep", "1000")
    pids = tree_of(state["pid"])

    def run(*command, **kw):
        return box.run("exec", slug, "--", *command, **kw)

    r = run("bash", "-c", "env; id -u; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; "
            "ls -l /proc/self/fd | wc -l; pwd; echo err >&2; exit 7")
    assert r.returncode == 7 and "err" in r.stderr
    lines = r.stdout.split("\n")
    assert "leaked" not in r.stdout
    for line in ("1000", "/home/agent", "HTTPS_PROXY=http://10.209.0.2:8888", "NoNewPrivs:\t1",
                 "Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000",
                 "CapInh:\t0000000000000000", "CapAmb:\t0000000000000000"):
        assert line in lines, r.stdout
    agent_env = [x for x in run("cat", "/proc/2/environ").stdout.split("\0")
                 if x.startswith(("HTTP", "SSL", "DEPLOY", "HOME", "PATH"))]
    assert len(agent_env) >= 5 and all(x in lines for x in agent_env)
    data = os.urandom(1 << 19)
    assert run("cat", input=data, text=False).stdout == data
    assert run("/no/such/program").returncode == 127
    assert run("unshare", "-Ur", "true").returncode != 0
    r = run("bash", "-c", ": < /dev/tcp/1.1.1.1/80")
    assert "unreachable" in r.stderr
    # what is started beside the agent ends with it
    beside = subprocess.Popen(box.argv(["exec", slug, "--", "sleep", "999"]), env=box.env(),
                              stdin=subprocess.DEVNULL)
    assert bottle.wait_until(lambda: any("999" in bottle.cmdline(p) for p in tree_of(state["pid"])), 10)
    pids += tree_of(state["pid"])
    assert box.run("stop", slug, "--now").returncode == 0
    assert beside.wait(10) != 0
    check_gone(box, slug, pids)


def test_attach_replays(box):
    slug, state = detached(box, "sh", "-c", "echo early; sleep 4; echo late; exit 3")
    time.sleep(3.3)  # past the wait for a first client: the output has been read
    r = box.run("attach", slug, timeout=20)
    assert "early" in r.stdout and "late" in r.stdout
    assert r.returncode == 3 and state_of(box, slug)["exit_status"] == 3


def test_stop_gives_grace(box):
    slug, state = detached(box, "bash", "-c",
                           "trap 'touch ~/stopped; exit 9' TERM; while :; do sleep 0.05; done")
    pids = tree_of(state["pid"])
    time.sleep(0.1)
    assert box.run("stop", slug).returncode == 0
    assert os.path.exists(f"{box.state}/{slug}/home/stopped")
    assert state_of(box, slug)["exit_status"] == 9
    check_gone(box, slug, pids)


def test_owner_killed(box):
    with box.background("sleep", "1000") as running:
        pids = tree_of(running.state()["pid"])
        assert len(pids) >= 4
        os.kill(running.process.pid, signal.SIGKILL)
        pids.remove(running.process.pid) if running.process.pid in pids else None
        check_gone(box, running.slug, pids)


def test_keeper_killed(box):
    with box.background("bash", "-c", "setsid sleep 998 & sleep 1000") as running:
        def tree_now():
            return tree_of(running.state()["pid"])

        assert bottle.wait_until(lambda: any("998" in bottle.cmdline(p) for p in tree_now()), 10)
        pids = tree_now()
        os.kill(running.state()["pid"], signal.SIGKILL)
        assert running.wait(10) != 0
        assert bottle.wait_until(lambda: not any(map(bottle.is_alive, pids)), 10)
        # a leftover does not stop the next one
        assert box.start("echo", "next").stdout == "next\n"
        check_gone(box, running.slug, pids)


def test_bundle_killed(box):
    with box.background("sleep", "1000") as running:
        pids = tree_of(running.state()["pid"])
        init = [p for p in pids if bottle.role_of(p) == "init"]
        os.kill(init[0], signal.SIGKILL)
        assert running.wait(10) == 1
        assert b"its bundle was killed" in running.process.stderr.read()
        assert "its bundle was killed" in running.state()["reason"]
        check_gone(box, running.slug, pids)


def test_bundle_ends(box):
    r = box.start("bash", "-c", "exec 3<>/dev/tcp/10.209.0.2/8888; echo x >&3; sleep 1000",
                  agent="fake-die")
    assert r.returncode == 1 and "its bundle ended" in r.stderr


def test_start_fails_with_the_reason(box):
    r = box.start("echo", "never", agent="fake-fail")
    assert r.returncode == 1 and "as the test asked" in r.stderr and r.stdout == ""
    slug = box.slugs()[0]
    assert state_of(box, slug)["state"] == "ended"
    check_gone(box, slug, [])


def test_start_interrupted(box):
    p = subprocess.Popen(box.argv(["start", "fake-mute", "--headless", "--", "true"]), env=box.env(),
                         cwd=box.cwd, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert bottle.wait_until(lambda: bool(box.slugs()) and
                             os.path.exists(f"{box.state}/{box.slugs()[0]}/records.jsonl"), 10)
    time.sleep(0.2)
    pids = tree_of(p.pid)
    p.send_signal(signal.SIGINT)
    assert p.wait(10) != 0
    p.stderr.close()
    check_gone(box, box.slugs()[0], [x for x in pids if x != p.pid])


def test_bundle_must_be_ours(box, scratch):
    bad = f"{scratch}/bad-bundle"
    shutil.copy(os.path.dirname(box.program) + "/claude-bottle-bundle", bad)
    box.secrets["CLAUDE_BOTTLE_BUNDLE"] = bad
    os.chmod(bad, 0o757)
    assert "can be written by others" in box.start("true").stderr
    if os.geteuid() == 0:
        os.chmod(bad, 0o755)
        os.chown(bad, 12345, 12345)
        assert "belongs to somebody else" in box.start("true").stderr
    os.unlink(bad)
    assert "No such file" in box.start("true").stderr


def test_process_limit(box):
    """A fork bomb stops at the limit; a second process from outside counts too."""
    box.write_bottle("box", routes=[bottle.route("api.example.test")], limits={"processes": 40})
    r = box.start("bash", "-c", "for i in $(seq 100); do sleep 5 & done 2>/tmp/err; "
                  "ls -d /proc/[0-9]* | wc -l; grep -c 'Resource temporarily' /tmp/err")
    n, refused = (int(x) for x in r.stdout.split()) if len(r.stdout.split()) == 2 else (0, 1)
    assert n <= 41 and refused >= 1, r.stdout + r.stderr


def test_memory_limit(box):
    if box.uid is not None or not os.access("/sys/fs/cgroup/memory/cgroup.procs", os.W_OK) and \
            not os.access("/sys/fs/cgroup/cgroup.subtree_control", os.W_OK):
        pytest.skip("no memory cgroup that this user may use")
    box.write_bottle("box", routes=[bottle.route("api.example.test")], limits={"memory": "64M"})
    r = box.start("python3", "-c", "print('begun', flush=True); x = bytearray(1 << 28); print('had it')")
    assert "begun" in r.stdout and "had it" not in r.stdout and r.returncode == 137
    r = box.start("sh", "-c", "head -c 200000000 /dev/zero > /tmp/x && echo had it")
    assert "had it" not in r.stdout


def test_file_limits(box):
    box.write_bottle("box", routes=[bottle.route("api.example.test")],
                     limits={"files": 64, "file_size": "2M"})
    r = box.start("sh", "-c", "ulimit -n; head -c 3000000 /dev/zero > big; wc -c < big; ulimit -c")
    assert r.stdout.split() == ["64", str(2 << 20), "0"], r.stdout + r.stderr


def test_terminal(box, terminal):
    t = terminal(box, "start", "worker", "--yes", "--", "bash", "--norc")
    t.expect(b"$ ", 15)
    t.set_size(31, 97)
    t.type(b"sleep 0.3; stty size; echo tty=$(test -t 0 && echo yes)\n")
    t.expect(b"31 97", 15)
    t.expect(b"tty=yes", 15)
    t.type(b"sleep 100\n")
    time.sleep(0.3)
    t.type(b"\x03")  # job control: the shell lives on
    t.type(b"echo after-$((40+2))\n")
    t.expect(b"after-42", 15)
    t.type(b"exit 5\n")
    assert t.wait() == 5


def test_rule_cache_is_made_once(box):
    path = f"{box.cache}/claude-bottle/rules-{1:064x}.db"
    if os.path.exists(path):
        os.unlink(path)
    assert box.start("true").returncode == 0
    first = os.stat(path)
    assert box.start("true").returncode == 0
    assert os.stat(path).st_ino == first.st_ino and first.st_mode & 0o777 == 0o600
    assert not glob.glob(f"{path}.*")
    os.unlink(path)
