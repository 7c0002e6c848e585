"""Drives the real executables: a scratch home with manifests, and bottles started in it.

Used by the integration tests, tools/demo and tests/bench.
"""
import fcntl
import glob
import json
import os
import pwd
import shutil
import signal
import struct
import subprocess
import time

import engine
from engine import cmdline

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
F_OFD_SETLK = 37  # <fcntl.h>; the module has it from Python 3.14 on
VIRTUAL = ("qemu", "smolmachines")  # the backends whose bottles are microVMs


def build_folder():
    return os.environ.get("CLAUDE_BOTTLE_BUILD") or os.path.join(ROOT, "build")


def executable():
    return os.path.join(build_folder(), "claude-bottle")


def missing(backend, **env):
    """What this host lacks for bottles of this backend, in one line; empty: nothing. env: beside ours."""
    r = subprocess.run([executable(), "doctor", "--backend", backend, "--json"], capture_output=True, text=True,
                       env=dict(os.environ, **env), stdin=subprocess.DEVNULL, timeout=120)
    try:
        found, = json.loads(r.stdout)
    except ValueError:
        return f"doctor --backend {backend}: status {r.returncode}: {r.stderr.strip()}"
    if found["usable"]:
        return ""
    lacks = [f"{c['name']}: {c['text']}" for c in found["checks"] if c["required"] and not c["ok"]]
    why = found["reason"] or "; ".join(lacks) or "it does not say why"
    return f"backend {backend} cannot be had here: " + (why if found["built"] else "it is not in this build")


def yaml_of(value, indent=0):
    """Block YAML of dicts, lists and scalars; strings in double quotes as JSON writes them."""
    pad = "  " * indent
    if isinstance(value, dict):
        lines = []
        for k, v in value.items():
            if isinstance(v, (dict, list)) and v:
                lines.append(f"{pad}{k}:\n{yaml_of(v, indent + 1)}")
            else:
                lines.append(f"{pad}{k}: {yaml_of(v)}")
        return "\n".join(lines)
    if isinstance(value, list):
        if not value:
            return "[]"
        lines = []
        for v in value:
            if isinstance(v, dict) and v:
                body = yaml_of(v, indent + 1)
                lines.append(f"{pad}- {body.lstrip()}")
            else:
                lines.append(f"{pad}- {yaml_of(v)}")
        return "\n".join(lines)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    return "null" if value is None else str(value)


def route(host, methods=("GET", "HEAD", "POST"), paths=None, ports=None, **more):
    out = {"host": host, "methods": list(methods)}
    if paths:
        out["paths"] = list(paths)
    if ports:
        out["ports"] = list(ports)
    out.update(more)
    return out


class Home:
    """A scratch home. uid: run as that ordinary user (the caller is root). docker_host: the engine
    that its bottles are started with; without one their backend is native, or the one that is named.
    Its attribute may be set to None: then its bottles name none."""

    def __init__(self, folder, uid=None, cache=None, docker_host=None, backend=None):
        self.folder, self.uid, self.docker_host = str(folder), uid, docker_host
        self.backend = backend or ("docker" if docker_host else "native")
        # The first start of a microVM makes its image.
        self.start_seconds = 600 if self.backend in VIRTUAL else 60
        self.secrets = {}  # environment of the host's side only
        self.program = None  # another copy of the executable
        self.state_home = None  # XDG_STATE_HOME
        for sub in ("bottles", "agents"):
            os.makedirs(f"{self.folder}/.claude-bottle/{sub}", mode=0o700, exist_ok=True)
        os.chmod(self.folder, 0o700)
        self.cache = cache or f"{self.folder}/.cache"
        os.makedirs(self.cache, mode=0o700, exist_ok=True)
        self.cwd = f"{self.folder}/work"
        os.makedirs(self.cwd, exist_ok=True)
        self.own()

    def own(self):
        if self.uid is not None:
            subprocess.run(["chown", "-R", f"{self.uid}:{self.uid}", self.folder, self.cache],
                           check=True)

    @property
    def state(self):
        return f"{self.state_home or self.folder + '/.local/state'}/claude-bottle/bottles"

    def env(self):
        out = {"HOME": self.folder, "XDG_CACHE_HOME": self.cache, "LANG": "C.UTF-8", "TERM": "xterm",
               "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        # An engine that is not there, rather than whichever runs on this host.
        out["DOCKER_HOST"] = self.docker_host or f"unix://{self.folder}/no-engine.sock"
        if self.state_home:
            out["XDG_STATE_HOME"] = self.state_home
        out.update(self.secrets)
        # The registry that the host's npm takes: its configuration lies in the real home.
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "CLAUDE_BOTTLE_SMOLVM", "npm_config_registry"):
            if name in os.environ:
                out.setdefault(name, os.environ[name])
        return out

    def write_bottle(self, name="box", routes=(), resolve=None, ca=None, text="", **more):
        egress = {"routes": list(routes)}
        if resolve:
            egress["resolve"] = resolve
        if ca:
            egress["ca"] = ca
        head = {"backend": self.backend, "egress": egress}
        if not self.backend:
            del head["backend"]
        if self.docker_host or self.backend in VIRTUAL:
            head["provider"] = "shell"  # whose image is small
        head.update(more)
        path = f"{self.folder}/.claude-bottle/bottles/{name}.md"
        with open(path, "w") as f:
            f.write(f"---\n{yaml_of(head)}\n---\n{text}\n")
        self.own()
        return path

    def write_agent(self, name="worker", bottle="box", text="", **more):
        head = {"name": name, "description": "for tests", "bottle": bottle}
        head.update(more)
        path = f"{self.folder}/.claude-bottle/agents/{name}.md"
        with open(path, "w") as f:
            f.write(f"---\n{yaml_of(head)}\n---\n{text}\n")
        self.own()
        return path

    def argv(self, args):
        argv = [self.program or executable(), *args]
        if self.uid is not None:
            argv = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", *argv]
        return argv

    def run(self, *args, timeout=60, input=None, check=False, text=True):
        """One call of claude-bottle, to its end."""
        r = subprocess.run(self.argv(args), env=self.env(), cwd=self.cwd, capture_output=True,
                           text=text, timeout=timeout,
                           **({"input": input} if input is not None else
                              {"stdin": subprocess.DEVNULL}))
        if check and r.returncode != 0:
            raise AssertionError(f"claude-bottle {' '.join(args)}: status {r.returncode}\n"
                                 f"{r.stdout}\n{r.stderr}\n{self.logs_of_all()}")
        return r

    def start(self, *command, agent="worker", timeout=120, check=False, input=None, text=True,
              options=()):
        """A headless bottle that runs command to its end."""
        return self.run("start", agent, "--headless", *options, "--", *command, timeout=timeout,
                        check=check, input=input, text=text)

    def background(self, *command, agent="worker", options=(), stdout=subprocess.PIPE):
        return Running(self, agent, command or ("sleep", "3600"), options, stdout)

    def slugs(self):
        return sorted(os.path.basename(os.path.dirname(p)) for p in glob.glob(f"{self.state}/*/lock"))

    def records(self, slug=None):
        out = []
        for path in sorted(glob.glob(f"{self.state}/{slug or '*'}/records.jsonl")):
            with open(path) as f:
                # The last one may be half written.
                out += [json.loads(line) for line in f if line.endswith("\n")]
        return out

    def logs_of_all(self):
        out = []
        for path in glob.glob(f"{self.state}/*/log"):
            out.append(f"--- {path}\n" + open(path, errors="replace").read()[-4000:])
        return "\n".join(out)

    def remove(self):
        subprocess.run(self.argv(["stop", "--all", "--now"]), env=self.env(), capture_output=True,
                       timeout=60, stdin=subprocess.DEVNULL)
        subprocess.run(self.argv(["cleanup"]), env=self.env(), capture_output=True, timeout=60,
                       stdin=subprocess.DEVNULL)
        shutil.rmtree(self.folder, ignore_errors=True)


class Running:
    """A bottle that runs in the background, with its processes by role."""

    def __init__(self, home, agent, command, options, stdout):
        before = set(home.slugs())
        self.home, self.slug = home, None

        def is_there():
            new = set(home.slugs()) - before
            self.slug = self.slug or (new.pop() if new else None)
            return self.slug and self.state().get("state") == "running"
        self.begin(["start", agent, "--headless", *options, "--", *command], stdout, is_there)

    def begin(self, words, stdout, is_there):
        self.process = subprocess.Popen(self.home.argv(words), env=self.home.env(), cwd=self.home.cwd,
                                        stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE)
        if wait_until(lambda: is_there() or self.process.poll() is not None, self.home.start_seconds) \
                and self.process.poll() is None:
            return
        if self.process.poll() is None:
            self.process.kill()
        out, err = self.process.communicate()
        raise AssertionError(f"the bottle did not start: {(out or b'').decode()} {err.decode()}\n"
                             f"{self.home.logs_of_all()}")

    def resume(self, *command):
        """One more run of it, once it has ended."""
        self.process.wait(15)
        self.close()
        last = self.state().get("pid")
        self.begin(["resume", self.slug, "--headless", "--", *(command or ("sleep", "3600"))], subprocess.PIPE,
                   lambda: self.state().get("state") == "running" and self.state()["pid"] != last)

    @property
    def folder(self):
        return f"{self.home.state}/{self.slug}"

    def state(self):
        try:
            with open(f"{self.folder}/bottle.json") as f:
                return json.load(f)
        except (OSError, ValueError):
            return {}

    def exec(self, *command, timeout=60, check=False, text=True, input=None):
        return self.home.run("exec", self.slug, "--", *command, timeout=timeout, check=check,
                             text=text, input=input)

    def statuses(self, urls):
        """What one curl in the bottle gets for each: "200"; "000" for no answer."""
        wanted = [word for url in urls for word in ("-o", "/dev/null", url)]
        r = self.exec("curl", "-s", "-w", "%{http_code}\n", "--max-time", "10", *wanted)
        got = r.stdout.split()
        assert len(got) == len(urls), f"curl in {self.slug}: status {r.returncode}: {r.stdout}{r.stderr}"
        return got

    def status(self, url):
        """The same for one."""
        return self.statuses([url])[0]

    def roles(self):
        """{role: [pid, …]}: keeper, and its children that go on in its program: wire, relay, bridge; init, record,
        keyd, egress, pipelock, gitgate, gitssh, supervise, bwrap or guest, agent; of a machine's cell its process 1,
        "cell", and the "monitor"."""
        out = {}
        for top in (self.state().get("pid", 0), *self.containers()):
            for pid in descendants(top):
                out.setdefault(role_of(pid), []).append(pid)
        return out

    def containers(self):
        """The first process of each of its containers that run."""
        if not self.home.docker_host:
            return []
        names = [f"claude-bottle-{self.slug}{suffix}" for suffix in ("", "-bundle")]
        found = [engine.api(self.home.docker_host, "GET", f"/containers/{n}/json") for n in names]
        return [said["State"]["Pid"] for status, said in found if status == 200 and said["State"]["Pid"]]

    def wait(self, timeout=30):
        return self.process.wait(timeout)

    def stop(self):
        if self.process.poll() is None:
            self.home.run("stop", self.slug, "--now", timeout=30)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.close()

    def close(self):
        for f in (self.process.stdout, self.process.stderr):
            if f:
                f.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def descendants(pid):
    out = [pid] if pid and os.path.exists(f"/proc/{pid}") else []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in open(f"/proc/{pid}/task/{task}/children").read().split():
                out += descendants(int(child))
    except OSError:
        pass
    return out


FORKS = {"cb-wire": "wire", "cb-relay": "relay", "smol-bridge": "bridge"}  # names of the keeper's forks


def comm_of(pid):
    try:
        with open(f"/proc/{pid}/comm") as f:
            return f.read().strip()
    except OSError:
        return ""


def role_of(pid):
    argv = cmdline(pid)
    if not argv:
        return "gone"
    name = os.path.basename(argv[0])
    known = ("init", "record", "keyd", "egress", "pipelock", "gitgate", "gitssh", "supervise")
    if argv[1:2] in (["guest"], ["cell"]):
        return argv[1]
    if name.startswith("qemu-system"):
        return "monitor"
    if name.startswith("claude-bottle-bundle") or "bundle" in name:
        for word in argv[1:]:
            if word in known:
                return word
    for role in known:  # a role may have renamed itself
        if f"claude-bottle-bundle: {role}" in " ".join(argv) or name == f"claude-bottle-{role}":
            return role
    if name == "bwrap":
        return "bwrap"
    if name == "claude-bottle":
        return FORKS.get(comm_of(pid), "keeper")
    return "agent"


def powers(pid):
    """(seccomp's mode, no new privileges, effective capabilities)"""
    with open(f"/proc/{pid}/status") as f:
        said = dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)
    return int(said["Seccomp"]), int(said["NoNewPrivs"]), int(said["CapEff"], 16)


SEALED = (2, 1, 0)


def is_alive(pid):
    """Not a zombie: an orphan's exit status waits for whatever process 1 is here."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(what, seconds):
    """What it gave at last; false only when the time is up."""
    end = time.monotonic() + seconds
    while True:
        got = what()
        if got or time.monotonic() > end:
            return got
        time.sleep(0.02)


def all_processes():
    return [int(p) for p in os.listdir("/proc") if p.isdigit()]


def processes_that_mention(text):
    """Processes whose command line, environment or working folder names text."""
    found = []
    needle = text.encode()
    for pid in all_processes():
        if pid == os.getpid():
            continue
        for part in ("cmdline", "environ"):
            try:
                if needle in open(f"/proc/{pid}/{part}", "rb").read():
                    found.append((pid, cmdline(pid)))
                    break
            except OSError:
                pass
    return found


def mounts():
    with open("/proc/self/mounts") as f:
        return f.read()


def cgroups_named(text):
    return [d for top in ("/sys/fs/cgroup",) for d, _, _ in os.walk(top) if text in d]


def network_namespaces():
    """The identities of every network namespace that some process is in."""
    out = set()
    for pid in all_processes():
        try:
            out.add(os.readlink(f"/proc/{pid}/ns/net"))
        except OSError:
            pass
    return out


def ordinary_uid():
    """An uid that is not root's: nobody's, which every system has."""
    return pwd.getpwnam("nobody").pw_uid


def lock_shared(f, start=0, length=0):
    """A shared lock on length bytes (0: all) of an open file, which goes with its descriptor."""
    fcntl.fcntl(f, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, start, length, 0))


def kill_quietly(pid, sig=signal.SIGKILL):
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass
