"""Bottles of the docker backend, from their start to their end: streams, statuses, terminals, signals,
limits, roots and images."""
import concurrent.futures
import json
import os
import re
import signal
import subprocess
import tempfile
import time

import bottle
import pytest
from session import STUBBORN, detach, states, wait_for

pytestmark = pytest.mark.engine


@pytest.fixture
def backend():
    return "docker"


@pytest.fixture(scope="module")
def exposed(scratch):
    folder = tempfile.mkdtemp(prefix="x", dir=scratch)
    os.chmod(folder, 0o755)
    with open(f"{folder}/note", "w") as f:
        f.write("for reading\n")
    return folder


@pytest.fixture(scope="module")
def shared(engine, image_of, scratch, rule_cache, exposed):
    """(home, slug) of one bottle that waits; what does not change it is tried beside its agent."""
    image_of("shell")
    home = bottle.Home(tempfile.mkdtemp(prefix="h", dir=scratch), cache=rule_cache,
                       docker_host=engine.host)
    home.secrets["HOST_MARKER"] = "leaked"
    home.write_bottle("box", env={"FROM_MANIFEST": "as written"}, expose=[exposed])
    home.write_agent("worker", "box")
    yield home, detach(home, "sleep", "1000")
    home.remove()


def run_in(shared, *command, **more):
    home, slug = shared
    return home.run("exec", slug, "--", *command, **more)


def popen(home, *args):
    return subprocess.Popen(home.argv(args), env=home.env(), cwd=home.cwd, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def follow(home, slug):
    """A client that watches, past the first line that the agent has said."""
    p = popen(home, "attach", slug)
    return p, p.stdout.readline().strip()


def leave(p):
    p.kill()
    p.communicate()


# --- an agent's streams and its status ---

STATUSES = [0, 1, 42, 255, 128 + signal.SIGTERM, 128 + signal.SIGKILL, 128 + signal.SIGSEGV] * 3


def test_many_short_ones_keep_status_and_streams(closed):
    """The quickest agents are the ones whose last words are easily lost."""
    def one(status):
        how = f"kill -{status - 128} $$" if 128 < status < 255 else f"exit {status}"
        return closed.start("sh", "-c", f"echo out-{status}; echo err-{status} >&2; {how}")

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for status, r in zip(STATUSES, pool.map(one, STATUSES)):
            assert (r.returncode, r.stdout) == (status, f"out-{status}\n"), r.stderr + closed.logs_of_all()
            lines = r.stderr.splitlines()
            assert lines[0] == "claude-bottle: backend docker: named by the manifest"
            assert lines[-1] == f"err-{status}"
    assert sorted(b["exit_status"] for b in states(closed).values()) == sorted(STATUSES)
    assert not any(b["alive"] for b in states(closed).values())


@pytest.mark.parametrize("command, status, why", [
    ("/no/such/program", 127, "No such file"), ("no-such-word", 127, "No such file"),
    ("/etc/passwd", 126, "Permission denied")])
def test_what_cannot_be_run(closed, command, status, why):
    r = closed.start(command)
    assert r.returncode == status and r.stdout == ""
    assert f"claude-bottle: cannot run \"{command}\": {why}" in r.stderr


def test_binary_streams_are_whole(closed):
    data = os.urandom(8 << 20)
    r = closed.start("cat", input=data, text=False)
    assert r.returncode == 0 and len(r.stdout) == len(data) and r.stdout == data
    r = closed.start("sh", "-c", "head -c 3000000 /dev/zero; echo end >&2; read x || echo no input >&2",
                     text=False)
    assert len(r.stdout) == 3000000 and r.stderr.endswith(b"end\nno input\n")


# --- detached ---

def test_detached_life(closed, engine):
    slug = detach(closed, "sh", "-c", "echo started; read x; echo got $x; sleep 600")
    bottle_state = states(closed)[slug]
    assert bottle_state["state"] == "running" and bottle_state["backend"] == "docker"
    assert re.search(rf"^{slug} .* docker +running", closed.run("list").stdout, re.M)
    one, two = follow(closed, slug), follow(closed, slug)
    assert one[1] == two[1] == b"started", "what was said before is shown"
    one[0].send_signal(signal.SIGTERM)
    assert one[0].wait(10) == 128 + signal.SIGTERM
    leave(one[0])
    assert states(closed)[slug]["alive"], "leaving does not end it"
    began = time.monotonic()
    r = closed.run("stop", slug)
    assert r.returncode == 0 and f"{slug} has ended" in r.stderr
    assert time.monotonic() - began < 5, "sh ends at once"
    assert two[0].wait(10) == 128 + signal.SIGTERM
    leave(two[0])
    assert states(closed)[slug]["state"] == "ended"
    assert closed.run("stop", slug).returncode == 0
    r = closed.run("exec", slug, "true")
    assert r.returncode == 1 and "is not running" in r.stderr
    assert not [c for c in engine.containers() if c["Labels"].get("claude-bottle.slug") == slug]
    assert not [n for n in engine.networks() if slug in n["Name"]]


def test_stop_asks_first(closed):
    slug = detach(closed, "bash", "-c", "trap 'echo asked > ~/asked; exit 9' TERM; echo ready; "
                                        "while :; do sleep 0.05; done")
    leave(follow(closed, slug)[0])
    assert closed.run("stop", slug).returncode == 0
    assert open(f"{closed.state}/{slug}/home/asked").read() == "asked\n"
    assert states(closed)[slug]["exit_status"] == 9


def test_stop_ends_an_agent_that_will_not(closed):
    slugs = [detach(closed, *STUBBORN) for _ in range(2)]
    for slug in slugs:
        leave(follow(closed, slug)[0])
    began = time.monotonic()
    assert closed.run("stop", slugs[0], "--now").returncode == 0
    assert time.monotonic() - began < 4
    began = time.monotonic()
    assert closed.run("stop", slugs[1]).returncode == 0
    assert 4 < time.monotonic() - began < 11
    assert [states(closed)[s]["exit_status"] for s in slugs] == [137, 137]


# --- beside the agent ---

def test_exec_status_and_streams(shared):
    r = run_in(shared, "sh", "-c", "cat; echo err >&2; exit 9", input="in")
    assert (r.returncode, r.stdout, r.stderr) == (9, "in", "err\n")
    r = run_in(shared, "sh", "-c", "kill -TERM $$")
    assert r.returncode == 128 + signal.SIGTERM
    assert run_in(shared, "/no/such/program").returncode == 127
    assert run_in(shared, "/etc/passwd").returncode == 126
    data = os.urandom(2 << 20)
    r = run_in(shared, "cat", input=data, text=False)
    assert r.returncode == 0 and r.stdout == data
    r = run_in(shared, "head", "-c", "4000000", "/dev/zero", text=False)
    assert r.returncode == 0 and len(r.stdout) == 4000000


def test_exec_several_at_once(shared):
    def one(i):
        return run_in(shared, "sh", "-c", f"read x; sleep 0.5; echo $x; exit {i}", input=f"line {i}\n")

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for i, r in enumerate(pool.map(one, range(8))):
            assert (r.returncode, r.stdout) == (i, f"line {i}\n"), r.stderr


def test_exec_ends_with_its_client(shared):
    home, slug = shared
    p = popen(home, "exec", slug, "--", "sh", "-c", "trap 'echo term; exit 6' TERM; echo ready; "
                                                    "while :; do sleep 0.1; done")
    assert p.stdout.readline() == b"ready\n"
    p.send_signal(signal.SIGTERM)
    assert p.communicate(timeout=10)[0] == b"term\n" and p.returncode == 6
    p = popen(home, "exec", slug, "--", "sh", "-c", "echo ready; exec sleep 987")
    assert p.stdout.readline() == b"ready\n"
    leave(p)
    wait_for(lambda: run_in(shared, "pgrep", "-f", "sleep 98[7]").returncode == 1)


def test_exec_is_as_the_agent(shared):
    home, slug = shared
    r = run_in(shared, "bash", "-c", "tr '\\0' '\\n' < /proc/$(pgrep -x sleep | head -1)/environ; echo --; env")
    agent, beside = ({x.partition("=")[0]: x.partition("=")[2] for x in part.splitlines()}
                     for part in r.stdout.split("--\n"))
    for name in ("_", "PWD", "SHLVL", "OLDPWD", "CLAUDE_BOTTLE_EXEC"):
        agent.pop(name, None)
        beside.pop(name, None)
    assert agent == beside
    proxy = agent["HTTPS_PROXY"]
    assert re.fullmatch(r"http://10\.\d+\.\d+\.\d+:8888", proxy) and agent["http_proxy"] == proxy
    assert agent["NODE_EXTRA_CA_CERTS"] == "/etc/claude-bottle/ca.pem"
    assert agent["FROM_MANIFEST"] == "as written" and agent["DEPLOY_TOKEN_BACKUP"].startswith("dpl_")
    assert agent["HOME"] == "/home/agent" and agent["USER"] == "agent"
    assert "leaked" not in r.stdout and home.folder not in r.stdout
    r = run_in(shared, "bash", "-c", "id -u; id -g; id -un; pwd; umask; ls /proc/self/fd | wc -l; "
                                     "grep -E '^(Uid|Groups|Cap|NoNew|Seccomp:)' /proc/self/status; "
                                     "grep ^Uid /proc/$(pgrep -x sleep | head -1)/status")
    lines = r.stdout.splitlines()
    uid = os.stat(f"{home.state}/{slug}/home").st_uid
    assert uid != 0 and lines[:5] == [str(uid), str(uid), "agent", "/home/agent", "0022"]
    assert lines[5] == "4"
    assert lines.count(f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}") == 2
    for word in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"{word}:\t0000000000000000" in lines
    assert "NoNewPrivs:\t1" in lines and "Seccomp:\t2" in lines
    # What it may not see of process 1, nor do to it.
    r = run_in(shared, "bash", "-c", "cat /proc/1/environ; ls /proc/1/fd; cat /proc/1/maps; kill -KILL 1; "
                                     "kill -STOP 1; sleep 0.2; grep State /proc/1/status")
    assert r.stdout.startswith("State:\tS"), r.stdout


def test_exec_on_a_terminal(shared, terminal):
    home, slug = shared
    t = terminal(home, "exec", slug, "sh", "-c", "test -t 0 && test -t 1 && stty size; exit 8")
    t.expect(b"31 101")
    assert t.wait() == 8
    t = terminal(home, "exec", slug, "bash", "--norc", rows=20, columns=70)
    t.type(b"trap 'echo chan''ged' WINCH; stty size; echo rea''dy\n")
    assert b"20 70" in t.expect(b"ready")
    t.resize(25, 75)
    t.type(b"until stty size | grep -x \"25\"' 75'; do sleep 0.1; done\n")
    t.expect(b"25 75")
    t.type(b"sleep 60\n")
    time.sleep(0.3)
    t.type(b"\x03")
    t.type(b"echo st''ill; exit 4\n")
    t.expect(b"still")
    assert t.wait() == 4


# --- terminals and signals ---

def test_terminal_size_interrupt_detach(closed, terminal):
    t = terminal(closed, "start", "worker", "--", "bash", "--norc")
    t.expect(b"limits")
    t.type(b"test -t 0 && test -t 1 && test -t 2 && stty size; tty; x=kept; echo in''side\n")
    shown = t.expect(b"inside")
    assert b"31 101" in shown and b"/dev/" in shown
    # Not at its prompt: there a bash that is told at the wrong moment runs the trap after its next command.
    t.type(b"trap 'echo chan''ged; new=1' WINCH; echo rea''dy; until test $new; do read -t 0.1; done; stty size\n")
    t.expect(b"ready")
    t.resize(40, 90)
    t.expect(b"changed")
    t.expect(b"40 90")
    t.interrupt_a_command()
    t.type(b"\x1cd")
    t.expect(b"detached from ")
    assert t.wait() == 0
    slug, = [s for s, b in states(closed).items() if b["alive"]]
    t = terminal(closed, "attach", slug, rows=22, columns=80)
    t.expect(b"still")  # of before
    t.type(b"echo x=$x-; stty size\n")
    t.expect(b"x=kept-")
    t.expect(b"22 80")
    t.type(b"exit 23\n")
    assert t.wait() == 23
    wait_for(lambda: not states(closed)[slug]["alive"])


def test_a_closed_terminal_ends_the_bottle(closed, terminal):
    t = terminal(closed, "start", "worker", "--", "sh", "-c", "echo in''side; sleep 600")
    t.expect(b"inside")
    slug, = [s for s, b in states(closed).items() if b["alive"]]
    os.close(t.master)
    os.close(t.slave)
    t.master, t.slave = os.openpty()
    t.process.wait(15)
    wait_for(lambda: not states(closed)[slug]["alive"])


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_start_forwards_signals(closed, sig):
    name = sig.name.removeprefix("SIG")
    p = popen(closed, "start", "worker", "--headless", "--", "sh", "-c",
              f"trap 'echo got-{name}; exit 5' {name}; echo ready; while :; do sleep 0.1; done")
    assert p.stdout.readline() == b"ready\n", p.stderr.read()
    p.send_signal(sig)
    out, _ = p.communicate(timeout=15)
    assert (p.returncode, out) == (5, f"got-{name}\n".encode())


def test_a_bottle_ends_with_its_start(closed, engine):
    with closed.background("sleep", "600") as b:
        # All but dialling the engine, whose socket may be another user's (CAP_DAC_OVERRIDE).
        relay, = b.roles()["relay"]
        seccomp, no_new, caps = bottle.powers(relay)
        assert (seccomp, no_new, caps & ~2) == bottle.SEALED
        os.kill(b.process.pid, signal.SIGKILL)
        wait_for(lambda: not states(closed)[b.slug]["alive"])
        assert states(closed)[b.slug]["state"] == "ended"
        assert not [c for c in engine.containers() if b.slug in c["Names"][0]]


# --- what is asked for, and what becomes of it ---

def test_logs(make_home, upstream, authority):
    home = make_home()
    home.write_bottle("box", routes=[bottle.route("api.example.test", paths=["/**"])],
                      resolve={"api.example.test": upstream.address}, ca=authority.path)
    home.write_agent("worker", "box")
    r = home.start("sh", "-c", "curl -s https://evil.example.test/ -o /dev/null; "
                               "curl -s https://api.example.test/json; exit 0")
    assert r.returncode == 0 and json.loads(r.stdout)["ok"], r.stderr + home.logs_of_all()
    slug, = home.slugs()
    lines = home.run("logs", slug).stdout.splitlines()
    assert any(re.search(r" block +pipelock .*evil\.example\.test.* host-not-allowed", x) for x in lines)
    assert any(re.search(r" allow +.*api\.example\.test/json", x) for x in lines)
    raw = [json.loads(x) for x in home.run("logs", slug, "--json").stdout.splitlines()]
    r = home.run("logs", slug, "--verify")
    assert r.returncode == 0 and f"{len(raw)} records, unbroken" in r.stdout, r.stderr
    assert [x.path for x in upstream.requests] == ["/json"]


# --- the compartment ---

def test_names(shared):
    home, slug = shared
    r = run_in(shared, "sh", "-c", "hostname; cat /etc/hostname; id -un; id -gn; echo ~agent; "
                                   "grep -v ^# /etc/resolv.conf; cat /etc/machine-id; grep bundle /etc/hosts; "
                                   "echo $HTTPS_PROXY")
    lines = r.stdout.splitlines()
    pinned = re.search(r"http://([\d.]+):8888", lines[-1]).group(1)
    assert lines[:5] == [slug, slug, "agent", "agent", "/home/agent"]
    assert lines[5:-1] == [f"nameserver {pinned}", "options timeout:1 attempts:1", "uninitialized",
                           f"{pinned} bundle"]


WRITES = ("for d in /usr /etc /usr/local/bin /var/lib / /root /opt /.claude-bottle /.claude-bottle/run "
          "/sys /dev /tmp /var/tmp ~ /run /dev/shm; do "
          "(: > $d/w) 2>/tmp/why && echo \"$d written\" || echo \"$d $(sed 's/.*: //' /tmp/why)\"; done")


def test_root_is_read_only(closed, shared):
    """As root too, to whom no permission is in the way."""
    r = run_in(shared, "bash", "-c", WRITES)
    of = dict(line.split(" ", 1) for line in r.stdout.splitlines())
    assert {d for d, how in of.items() if how == "written"} == {"/tmp", "/var/tmp", "/home/agent", "/dev/shm"}
    r = closed.start("bash", "-c", WRITES + "; grep -E '^(Cap|Uid)' /proc/self/status; id -u; "
                     "chown 1 /tmp/w || echo no chown; mount -t tmpfs none /mnt || echo no mount; "
                     "cat /proc/1/environ | wc -c; hostname x || echo no hostname; "
                     "cat /etc/shadow >/dev/null && echo shadow; mknod /tmp/n b 7 0 || echo no mknod; "
                     "echo 1 > /proc/sys/net/ipv4/ip_forward || echo no sysctl",
                     options=["--as-root"])
    assert r.returncode == 0, r.stderr
    of = dict(line.split(" ", 1) for line in r.stdout.splitlines() if line.startswith("/"))
    for d in ("/usr", "/etc", "/usr/local/bin", "/var/lib", "/", "/root", "/opt", "/.claude-bottle",
              "/.claude-bottle/run"):
        assert of[d] == "Read-only file system", (d, of)
    lines = r.stdout.splitlines()
    assert "Uid:\t0\t0\t0\t0" in lines and "0" in lines
    assert sum(x.endswith("\t0000000000000000") for x in lines) == 5
    for word in ("no chown", "no mount", "no hostname", "no mknod", "no sysctl"):
        assert word in lines, r.stdout


def test_writable_root(closed):
    closed.write_bottle("box", root="writable")
    script = ("echo 'echo ran' > /usr/local/bin/mine; chmod 755 /usr/local/bin/mine; mine; "
              "cp /bin/sh /usr/local/bin/sh-s; chmod 4755 /usr/local/bin/sh-s; stat -c %a /usr/local/bin/sh-s; "
              "(: > /etc/passwd) || echo passwd is not; (: > /.claude-bottle/bundle) || echo bundle is not; "
              "grep -E '^(CapEff|NoNew)' /proc/self/status")
    r = closed.start("sh", "-c", script, options=["--as-root"])
    lines = r.stdout.splitlines()
    assert lines[:2] == ["ran", "4755"], r.stdout + r.stderr
    assert {"passwd is not", "bundle is not", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"} <= set(lines)
    # For an agent that is not root the root's permissions stay what they are, and setuid is nothing.
    r = closed.start("sh", "-c", "echo x > /var/tmp/x && echo written; stat -f -c %T /var/tmp; "
                     "find / -xdev -perm /6000 -type f 2>/dev/null | wc -l; "
                     "(: > /usr/local/bin/mine) || echo no")
    assert r.stdout.split() == ["written", "overlayfs", "0", "no"], r.stdout + r.stderr


def test_expose_is_for_reading(shared, exposed):
    r = run_in(shared, "sh", "-c", f"cat {exposed}/note; (echo x > {exposed}/note) || echo no; "
                                   f"(: > {exposed}/new) || echo no; rm -f {exposed}/note || echo no; "
                                   f"ls -A {os.path.dirname(exposed)}")
    assert r.stdout.split("\n") == ["for reading", "no", "no", "no", os.path.basename(exposed), ""]
    assert os.listdir(exposed) == ["note"]


FORKS = """
import errno, os, time
made = []
try:
    while len(made) < 100:
        pid = os.fork()
        if pid == 0:
            time.sleep(100)
        made.append(pid)
    print("all of them")
except OSError as e:
    print(len(made), errno.errorcode[e.errno])
for pid in made:
    os.kill(pid, 9)
"""


def test_limits(closed, engine):
    closed.write_bottle("box", limits={"memory": "96M", "processes": 40, "files": 64, "file_size": "2M",
                                       "cpu": 0.5})
    slug = detach(closed, "sleep", "1000")
    host = engine.inspect(f"claude-bottle-{slug}")["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 96 << 20
    assert host["PidsLimit"] == 40 and host["NanoCpus"] == 500_000_000
    both = (closed, slug)
    r = run_in(both, "bash", "-c", "ulimit -n; ulimit -Hn; head -c 3000000 /dev/zero > ~/big; wc -c < ~/big; "
                                   "ulimit -c; (ulimit -n 65) || echo fixed")
    assert r.stdout.split() == ["64", "64", str(2 << 20), "0", "fixed"], r.stdout + r.stderr
    r = run_in(both, "python3", "-c", FORKS)
    n, error = r.stdout.split()
    assert 20 < int(n) < 40 and error == "EAGAIN", r.stdout + r.stderr
    r = run_in(both, "python3", "-c",
               "print('begun', flush=True); x = bytearray(1 << 28); print('had it')")
    assert "begun" in r.stdout and "had it" not in r.stdout and r.returncode == 137
    # What lies in /tmp is memory.
    r = run_in(both, "sh", "-c", "for i in $(seq 100); do head -c 2000000 /dev/zero > /tmp/x$i; done; echo had it")
    assert "had it" not in r.stdout


# --- images ---

def test_an_image_of_ones_own(closed, engine, image_of):
    """All that an image may say of how it is run, against the wall."""
    folder = tempfile.mkdtemp(prefix="image", dir=closed.folder)
    with open(f"{folder}/pre.c", "w") as f:
        f.write("#include <unistd.h>\n#include <fcntl.h>\n__attribute__((constructor)) static void c(void)\n"
                "{ close(open(\"/tmp/preloaded\", O_CREAT | O_WRONLY, 0666)); }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", f"{folder}/pre.so", f"{folder}/pre.c"], check=True)
    with open(f"{folder}/Dockerfile", "w") as f:
        f.write(f"FROM {image_of('shell')}\nUSER root\nCOPY pre.so /usr/lib/pre.so\n"
                "RUN install -m 4755 /bin/bash /usr/bin/bash-s\n"
                "ENV LD_PRELOAD=/usr/lib/pre.so PATH=/evil HTTPS_PROXY=http://1.1.1.1:80 HOME=/root "
                "NO_PROXY=* LD_LIBRARY_PATH=/evil GLIBC_TUNABLES=glibc.malloc.check=3 FROM_IMAGE=kept\n"
                "HEALTHCHECK --interval=100ms --retries=1 CMD touch /home/agent/checked /tmp/checked\n"
                "LABEL claude-bottle.role=bundle claude-bottle.state=/etc claude-bottle.slug=other\n"
                "VOLUME [\"/usr/local\", \"/etc/claude-bottle\", \"/.claude-bottle\"]\nEXPOSE 80\n"
                "STOPSIGNAL SIGCONT\nWORKDIR /root\nSHELL [\"/evil\"]\nENTRYPOINT [\"/evil\"]\nCMD [\"evil\"]\n")
    engine.docker("build", "-q", "-t", "tests/hostile:1", folder)
    closed.write_bottle("box", image="tests/hostile:1")
    slug = detach(closed, "sh", "-c", "env; touch /usr/local/w || echo no volume; sleep 100")
    try:
        said = engine.inspect(f"claude-bottle-{slug}")
        assert (said["Config"].get("Healthcheck") or {}).get("Test") == ["NONE"]
        assert "Health" not in said["State"]
        assert {k: v for k, v in said["Config"]["Labels"].items() if k.startswith("claude-bottle.s") or
                k == "claude-bottle.role"} == {"claude-bottle.role": "agent", "claude-bottle.slug": slug,
                                               "claude-bottle.state": f"{closed.state}/{slug}"}
        r = run_in((closed, slug), "bash", "-c",
                   "env; pwd; id -u; grep -E '^(Cap|NoNew|Seccomp:|Uid)' /proc/self/status; "
                   "bash-s -p -c 'id -u'; cat /proc/1/environ; ls /home/agent /tmp; "
                   "touch /usr/local/w /etc/claude-bottle/w /.claude-bottle/w; "
                   "for a in 1.1.1.1/443 $(ip -4 route 2>/dev/null | sed -n 's/.*via \\([^ ]*\\).*/\\1/p')/80; do "
                   "(exec 3<>/dev/tcp/$a) 2>/dev/null && echo REACHED; done; true")
        lines = r.stdout.splitlines()
        uid = os.stat(f"{closed.state}/{slug}/home").st_uid
        assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in lines and lines.count(str(uid)) == 2, r.stdout
        assert sum(x.endswith("\t0000000000000000") for x in lines) == 5
        assert "NoNewPrivs:\t1" in lines and "Seccomp:\t2" in lines and "REACHED" not in lines
        assert any(x.startswith("PATH=/home/agent/.local/bin:/usr/local/sbin") for x in lines)
        assert any(re.fullmatch(r"HTTPS_PROXY=http://10\..*:8888", x) for x in lines)
        assert "HOME=/home/agent" in lines and "FROM_IMAGE=kept" in lines and "/home/agent" in lines
        assert "preloaded" in lines, "control: the library is one"
        assert "checked" not in lines
        assert not [p for p in ("/usr/local/w", "/etc/claude-bottle/w", "/.claude-bottle/w")
                    if run_in((closed, slug), "test", "-e", p).returncode == 0]
        assert len(engine.volumes()) == 3, "control: the image's volumes are made"
    finally:
        closed.run("stop", slug, "--now")
    assert engine.volumes() == []


def test_an_image_with_one_program(closed, engine, scratch):
    """No shell, no C library, no /etc, no /tmp: what process 1 needs it brings along."""
    folder = tempfile.mkdtemp(prefix="image", dir=scratch)
    with open(f"{folder}/agent.c", "w") as f:
        f.write(r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	char line[256];
	FILE *f = fopen("/proc/self/status", "r");
	printf("%d %s uid=%u pid=%d\n", argc, argv[1] ? argv[1] : "", getuid(), getpid());
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "Cap", 3) || !strncmp(line, "NoNew", 5) || !strncmp(line, "Seccomp:", 8))
			fputs(line, stdout);
	printf("root %d home %d tmp %d\n", open("/w", O_CREAT | O_WRONLY, 0600) >= 0,
	       open("/home/agent/w", O_CREAT | O_WRONLY, 0600) >= 0, open("/tmp/w", O_CREAT | O_WRONLY, 0600) >= 0);
	return 17;
}
""")
    os.makedirs(f"{folder}/root/usr/bin")
    subprocess.run(["gcc", "-static", "-o", f"{folder}/root/usr/bin/agent", f"{folder}/agent.c"], check=True)
    subprocess.run(["tar", "-C", f"{folder}/root", "-cf", f"{folder}/image.tar", "."], check=True)
    engine.docker("import", "-c", "USER root", "-c", "ENTRYPOINT [\"/nothing\"]", f"{folder}/image.tar",
                  "tests/tiny:1")
    closed.write_bottle("box", image="tests/tiny:1")
    r = closed.start("agent", "word")
    assert r.returncode == 17, r.stderr + closed.logs_of_all()
    lines = r.stdout.splitlines()
    assert re.fullmatch(r"2 word uid=[1-9]\d+ pid=\d+", lines[0])
    assert sum(x.endswith("\t0000000000000000") for x in lines) == 5
    assert "NoNewPrivs:\t1" in lines and "Seccomp:\t2" in lines and lines[-1] == "root 0 home 1 tmp 1"
    r = closed.start("sh", "-c", "true")
    assert r.returncode == 127 and 'cannot run "sh"' in r.stderr


def test_an_image_that_is_not_there(closed, engine):
    closed.write_bottle("box", image="tests/nothing:1")
    r = closed.start("true")
    assert r.returncode == 1 and "tests/nothing:1" in r.stderr
    assert not any(b["alive"] for b in states(closed).values())
    assert not [c for c in engine.containers() if c["Labels"].get("claude-bottle.state", "").startswith(closed.folder)]
