"""A Docker engine of one's own: dockerd started by hand in a scratch folder, ended with all that it
left. Used by the integration tests, tools/check, tools/demo and tests/bench.

    engine.py --sweep      ends and removes what engines of dead owners left on this host

It shares the host's network and so its iptables chains with whatever engine runs there already.
dockerd empties those chains when it starts, an internal network's isolation among them: what stood
there for others is put back. Its own default network has a bridge of its own (cbe20 … cbe31), so
that nobody's docker0 changes its address.
"""
import glob
import http.client
import ipaddress
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

PREFIX = "/tmp/cbe-"
FIRST_NET, LAST_NET = 20, 31  # 172.N.0.0/16 and the bridge cbeN
CHAINS = {"filter": ("DOCKER", "DOCKER-USER", "DOCKER-ISOLATION-STAGE-1", "DOCKER-ISOLATION-STAGE-2"),
          "nat": ("DOCKER",)}
SIDE = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


class EngineError(AssertionError):
    pass


def missing():
    """Why no engine can be started here, in words; None if it can."""
    if os.geteuid() != 0:
        return "a private Docker engine needs root"
    for name, package in (("dockerd", "docker.io"), ("containerd", "docker.io"), ("runc", "runc"),
                          ("iptables", "iptables"), ("ip", "iproute2")):
        if not shutil.which(name, path=SIDE["PATH"]):
            return f"{name} is missing (package {package})"
    return None


def host_answers(host=None, timeout=2):
    """Whether an engine answers at host, by default where a user without DOCKER_HOST finds one."""
    try:
        return api(host or "unix:///var/run/docker.sock", "GET", "/_ping", timeout=timeout)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("docker", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def api(host, method, path, body=None, timeout=60):
    """(status, what it answered: JSON, or text) of one call, on a connection of its own."""
    c = UnixConnection(host.removeprefix("unix://"), timeout)
    try:
        c.request(method, path, None if body is None else json.dumps(body),
                  {"Content-Type": "application/json"} if body is not None else {})
        r = c.getresponse()
        data = r.read()
        if r.getheader("Content-Type", "").startswith("application/json") and data:
            try:
                return r.status, json.loads(data)
            except ValueError:
                pass
        return r.status, data.decode(errors="replace")
    finally:
        c.close()


# --- what /proc says ---

def stat_of(pid):
    """(parent, start time), or None."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            rest = f.read().rsplit(")", 1)[1].split()
        return None if rest[0] in "ZX" else (int(rest[1]), int(rest[19]))
    except (OSError, IndexError):
        return None


def process_table():
    out = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            s = stat_of(int(name))
            if s:
                out[int(name)] = s[0]
    return out


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return [a.decode(errors="replace") for a in f.read().split(b"\0") if a]
    except OSError:
        return []


def program_of(pid):
    """The name of what it runs; "" when it has ended meanwhile."""
    argv = cmdline(pid)
    return os.path.basename(argv[0]) if argv else ""


def with_descendants(pids):
    table = process_table()
    out = set(pids)
    while True:
        more = {p for p, parent in table.items() if parent in out} - out
        if not more:
            return out
        out |= more


def processes_of(folder):
    """Every process of the engine in folder: those whose arguments name it (dockerd, containerd, the
    shims), and their descendants (containers, proxies)."""
    needle = folder + "/"
    programs = ("dockerd", "containerd", "containerd-shim", "containerd-shim-runc-v2", "runc",
                "docker-containerd", "docker-proxy", "docker-init", "exe")
    roots = [p for p in process_table() if p != os.getpid()
             and any(needle in a for a in cmdline(p)[1:])
             and program_of(p) in programs]
    return with_descendants(roots) - {os.getpid()}


def other_engines(folder=None):
    """pids of the dockerd processes on this host that are not folder's."""
    return [p for p in process_table() if program_of(p) == "dockerd"
            and not (folder and any(folder + "/" in a for a in cmdline(p)))]


def end_processes(find, seconds=10):
    """Kills what find() names until it names nothing."""
    end = time.monotonic() + seconds
    while True:
        pids = find()
        if not pids:
            return True
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if time.monotonic() > end:
            return False
        time.sleep(0.02)


def unmount_below(folder):
    with open("/proc/self/mounts") as f:
        points = [line.split()[1].encode().decode("unicode_escape") for line in f]
    for point in sorted((p for p in points if p == folder or p.startswith(folder + "/")), reverse=True):
        subprocess.run(["umount", "-l", point], capture_output=True, env=SIDE)


# --- iptables, bridges ---

def iptables(*args):
    return subprocess.run(["iptables", "-w", "10", *args], capture_output=True, text=True, env=SIDE)


def rules():
    """{(table, rule as iptables-save writes it), …} and {(table, chain): policy}, in order."""
    listed, chains = [], {}
    for table in CHAINS:
        r = iptables("-t", table, "-S")
        for line in r.stdout.splitlines():
            words = line.split()
            if words[0] in ("-P", "-N"):
                chains[(table, words[1])] = words[2] if words[0] == "-P" else None
            else:
                listed.append((table, line))
    return listed, chains


def is_dockers(table, line):
    words = line.split()
    return words[1] in CHAINS[table] or (words[-2] == "-j" and words[-1] in CHAINS[table])


def links():
    return sorted(os.listdir("/sys/class/net"))


class Firewall:
    """What iptables held before an engine started, so that it can be had again after it."""

    def __init__(self):
        self.rules, self.chains = rules()
        with open("/proc/sys/net/ipv4/ip_forward") as f:
            self.forward = f.read().strip()

    def put_back_others(self):
        """After our engine's start: the rules that it dropped from chains which others share."""
        now, _ = rules()
        here = links()

        def is_moot(line):  # of a network that was removed meanwhile
            return any(i not in here for i in re.findall(r" -[io] (\S+)", line))

        lost = [x for x in self.rules if x not in now and is_dockers(*x) and not is_moot(x[1])]
        # In front, last one first: the chains end with a RETURN, which must stay behind them.
        for table, line in reversed(lost):
            words = line.split()
            iptables("-t", table, "-I", words[1], "1", *words[2:])

    def restore(self, bridges):
        """After our engine's end: the rules of its bridges, and all of Docker's own if there were none
        before and nobody else needs them."""
        now, chains = rules()
        # Also such as were there before: of an earlier bridge of that name, put back too late.
        ours = [x for x in now if any(b in x[1].split() for b in bridges)]
        is_last = not other_engines() and ("filter", "DOCKER") not in self.chains
        if is_last:
            ours = [x for x in now if x in ours or (x not in self.rules and is_dockers(*x))]
        for table, line in ours:
            iptables("-t", table, "-D", *line.split()[1:])
        if is_last:
            for table, names in CHAINS.items():
                for name in names:
                    if (table, name) in chains and (table, name) not in self.chains:
                        iptables("-t", table, "-F", name)
                for name in names:
                    if (table, name) in chains and (table, name) not in self.chains:
                        iptables("-t", table, "-X", name)
            policy = self.chains.get(("filter", "FORWARD"))
            if policy and chains.get(("filter", "FORWARD")) != policy:
                iptables("-P", "FORWARD", policy)
            with open("/proc/sys/net/ipv4/ip_forward", "w") as f:
                f.write(self.forward)

    def to_json(self):
        return {"rules": self.rules, "chains": [[*k, v] for k, v in self.chains.items()],
                "forward": self.forward}

    @classmethod
    def from_json(cls, v):
        self = cls.__new__(cls)
        self.rules = [tuple(x) for x in v["rules"]]
        self.chains = {(t, c): p for t, c, p in v["chains"]}
        self.forward = v["forward"]
        return self


def taken_networks():
    out = []
    r = subprocess.run(["ip", "-4", "-o", "route", "show", "table", "all"], capture_output=True,
                       text=True, env=SIDE)
    for m in re.finditer(r"(?:^|\s)(\d+\.\d+\.\d+\.\d+(?:/\d+)?)\s+dev", r.stdout):
        out.append(ipaddress.ip_network(m.group(1), strict=False))
    return out


def make_bridge():
    """(name, N) of a new bridge with 172.N.0.1/24. Its making is what reserves N."""
    for n in range(LAST_NET, FIRST_NET - 1, -1):
        net = ipaddress.ip_network(f"172.{n}.0.0/16")
        if any(net.overlaps(t) for t in taken_networks()):
            continue
        r = subprocess.run(["ip", "link", "add", f"cbe{n}", "type", "bridge"], capture_output=True,
                           text=True, env=SIDE)
        if r.returncode == 0:
            for args in (("addr", "add", f"172.{n}.0.1/24", "dev", f"cbe{n}"),
                         ("link", "set", f"cbe{n}", "up")):
                subprocess.run(["ip", *args], check=True, env=SIDE)
            return f"cbe{n}", n
        if "Operation not permitted" in r.stderr or "not supported" in r.stderr:
            raise EngineError("no bridge can be made: " + r.stderr.strip())
    raise EngineError(f"every network of 172.{FIRST_NET}-{LAST_NET}.0.0/16 is taken")


def networks_of(folder):
    """Of the engine in folder, dead or alive: the names of its networks' bridges."""
    try:
        with open(f"{folder}/data/network/files/local-kv.db", "rb") as f:
            return {"br-" + m.decode() for m in re.findall(rb'"id":"([0-9a-f]{12})', f.read())}
    except OSError:
        return set()


def orphan_pairs(before):
    """New veth interfaces on no bridge, whose other end is still here too: dockerd was killed before it
    gave them away."""
    def number(link, name):
        try:
            with open(f"/sys/class/net/{link}/{name}") as f:
                return f.read().strip()
        except OSError:
            return None

    here = {number(link, "ifindex") for link in links()}
    return {v for v in links() if re.fullmatch("veth[0-9a-f]{7}", v) and v not in before
            and not os.path.exists(f"/sys/class/net/{v}/master") and number(v, "iflink") in here}


def orphan_bridges(before):
    """New ones that no private engine knows: dockerd was killed while it made them. Another engine
    may be making one just now, and notes it afterwards."""
    def look():
        known = set().union(*(networks_of(d) for d in glob.glob(PREFIX + "*")))
        return {b for b in links() if re.fullmatch("br-[0-9a-f]{12}", b)} - known - before

    found = look()
    if found:
        time.sleep(1)
    return sorted(found & look())


def bridges_of(n):
    """Our bridge, and those of networks in our range that an engine which was killed left."""
    out = [f"cbe{n}"]
    r = subprocess.run(["ip", "-4", "-o", "addr", "show"], capture_output=True, text=True, env=SIDE)
    out += re.findall(rf"^\d+: (br-[0-9a-f]{{12}})\s+inet 172\.{n}\.", r.stdout, re.M)
    return out


class Engine:
    """A running engine. .host is its DOCKER_HOST.

    data_mib: its storage is a tmpfs of that size (for a disk that fills). live_restore: containers
    survive its restart. group, and the mode of its socket follows: root:GROUP 0660; None: root alone.
    dies_with_caller: it gets a SIGTERM when the thread that made it ends. mirror: the URL of a registry
    that it asks for what is on Docker's own. more: further arguments.
    """

    def __init__(self, data_mib=None, live_restore=False, group=None, dies_with_caller=True, mirror=None,
                 wait=30, more=()):
        why = missing()
        if why:
            raise EngineError(why)
        sweep()
        self.folder = tempfile.mkdtemp(prefix=os.path.basename(PREFIX), dir=os.path.dirname(PREFIX))
        os.chmod(self.folder, 0o711)
        self.socket = f"{self.folder}/d.sock"
        self.host = f"unix://{self.socket}"
        self.data = f"{self.folder}/data"
        self.process, self.is_closed, self.dies_with_caller = None, False, dies_with_caller
        self.firewall = Firewall()
        self.links_before, self.n_kills = set(links()), 0
        self.bridge, self.n = None, None
        with open(f"{self.folder}/owner", "w") as f:
            json.dump({"pid": os.getpid(), "start": stat_of(os.getpid())[1],
                       "firewall": self.firewall.to_json()}, f)
        try:
            os.makedirs(self.data, mode=0o711)
            if data_mib:
                r = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={data_mib}m,mode=711", "cbe",
                                    self.data], capture_output=True, text=True, env=SIDE)
                if r.returncode != 0:
                    raise EngineError("no tmpfs for the engine's storage: " + r.stderr.strip())
            self.bridge, self.n = make_bridge()
            self.argv = ["dockerd", "--data-root", self.data, "--exec-root", f"{self.folder}/exec",
                         "--pidfile", f"{self.folder}/pid", "-H", self.host, "--bridge", self.bridge,
                         "--default-address-pool", f"base=172.{self.n}.128.0/17,size=24",
                         "--cgroup-parent", f"/{os.path.basename(self.folder)}",
                         "--group", str(0 if group is None else group)]
            if live_restore:
                self.argv.append("--live-restore")
            if mirror:
                self.argv += ["--registry-mirror", mirror]
            self.argv += more
            with open(f"{self.folder}/argv", "w") as f:
                json.dump({"argv": self.argv, "n": self.n}, f)
            self.start(wait)
        except BaseException:
            self.close()
            raise

    def start(self, wait=30, tries=4):
        for left in reversed(range(tries)):
            try:
                return self.start_once(wait)
            except EngineError as e:
                # Another engine was changing the chains at the same moment.
                if not left or "iptables" not in str(e):
                    raise
                time.sleep(0.3)

    def start_once(self, wait):
        before = Firewall()
        # A dockerd that was killed leaves them, and where process 1 does not reap its orphans a pid
        # that is in them still "runs".
        for stale in ("pid", "exec/containerd/containerd.pid"):
            try:
                os.unlink(f"{self.folder}/{stale}")
            except OSError:
                pass
        log = open(f"{self.folder}/log", "ab")
        # Under setpriv, not with a function between fork and exec: callers may have threads.
        argv = (["setpriv", "--pdeathsig", "TERM"] if self.dies_with_caller else []) + self.argv
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        cwd="/", env=dict(SIDE), start_new_session=True)
        log.close()
        end = time.monotonic() + wait
        while not host_answers(self.host):
            if self.process.poll() is not None:
                raise EngineError(f"dockerd ended with {self.process.returncode}: {self.why()}")
            if time.monotonic() > end:
                raise EngineError(f"dockerd does not answer after {wait} s: {self.why()}")
            time.sleep(0.02)
        before.put_back_others()

    def why(self):
        """The last of its log that says something."""
        text = self.log()
        lines = [s for s in text.splitlines() if re.search(r"level=(error|fatal)|failed", s)]
        return "\n".join((lines or text.splitlines())[-3:])

    def log(self):
        try:
            with open(f"{self.folder}/log", errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def answers(self):
        return host_answers(self.host)

    def api(self, method, path, body=None, timeout=60):
        return api(self.host, method, path, body, timeout)

    def docker(self, *args, check=True, timeout=120, **kw):
        """One call of the docker client; its result."""
        kw.setdefault("stdin", subprocess.DEVNULL)
        r = subprocess.run(["docker", "-H", self.host, *args], capture_output=True, text=True,
                           timeout=timeout, env=dict(SIDE, HOME=self.folder), **kw)
        if check and r.returncode != 0:
            raise EngineError(f"docker {' '.join(args)}: {r.returncode}: {r.stdout}{r.stderr}")
        return r

    def containers(self):
        """Of every state: [{Id, Names, Labels, State, …}]."""
        return self.api("GET", "/containers/json?all=1")[1]

    def networks(self):
        """All but the engine's own three."""
        return [n for n in self.api("GET", "/networks")[1]
                if n["Name"] not in ("bridge", "host", "none")]

    def volumes(self):
        return self.api("GET", "/volumes")[1].get("Volumes") or []

    def inspect(self, container):
        status, out = self.api("GET", f"/containers/{container}/json")
        if status != 200:
            raise EngineError(f"inspect {container}: {out}")
        return out

    def pids(self):
        """Of all its processes, its containers' included."""
        return processes_of(self.folder)

    # --- ways to end ---

    def kill(self):
        """As the OOM killer would: dockerd gone at once, containerd with it, containers left alone."""
        self.n_kills += 1
        self.process.kill()
        self.process.wait()
        end = time.monotonic() + 10
        while time.monotonic() < end and self.daemons():
            time.sleep(0.01)

    def daemons(self):
        return [p for p in processes_of(self.folder) if program_of(p) in ("dockerd", "containerd")]

    def stop(self, seconds=30):
        """As an administrator would; without live-restore its containers end too."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()

    def restart(self, wait=30):
        if self.process.poll() is None:
            self.stop()
        self.start(wait)

    def close(self):
        """Ends it and removes everything of it: processes, mounts, bridges, rules, the folder."""
        if self.is_closed:
            return
        self.is_closed = True
        if self.process and self.process.poll() is None:
            try:
                # dockerd waits ten seconds for each container, unless they are gone already.
                for c in self.api("GET", "/containers/json", timeout=5)[1]:
                    self.api("POST", f"/containers/{c['Id']}/kill", timeout=5)
            except (OSError, TypeError, http.client.HTTPException):
                pass
            self.stop(15)
        made = []
        if self.n_kills:
            made = [*orphan_bridges(self.links_before), *orphan_pairs(self.links_before)]
        remove(self.folder, self.n, self.firewall, made)
        if self.process:
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Restarter:
    """A shell command that restarts an engine of this process and returns when it answers again: for
    what is tested from a program of another kind. Whoever runs it must not be in this thread."""

    def __init__(self, an_engine):
        self.engine = an_engine
        self.folder = tempfile.mkdtemp(prefix="claude-bottle-restarter-")
        self.ended = threading.Event()
        for name in ("ask", "done"):
            os.mkfifo(f"{self.folder}/{name}")
        self.command = (f"echo restart > {self.folder}/ask && "
                        f"test \"$(cat {self.folder}/done)\" = ok")
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def serve(self):
        while True:
            with open(f"{self.folder}/ask") as f:
                f.read()
            if self.ended.is_set():
                return
            try:
                self.engine.restart()
                answer = "ok"
            except EngineError as e:
                answer = str(e)
            with open(f"{self.folder}/done", "w") as f:
                f.write(answer)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        # The engine's parent-death signal is about the thread that started it: this one goes last.
        self.engine.stop()
        self.ended.set()
        with open(f"{self.folder}/ask", "w"):
            pass
        self.thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)


def remove(folder, n, firewall, bridges=()):
    """What is left of the engine in folder, whose dockerd is gone or is to be."""
    end_processes(lambda: processes_of(folder))
    bridges = {*bridges, *networks_of(folder)}
    unmount_below(folder)
    if n is not None:
        bridges = sorted(bridges | set(bridges_of(n)))
        firewall.restore([*bridges, f"172.{n}.0.0/24", f"172.{n}.0.0/16"] +
                         [f"172.{n}.{i}.0/24" for i in range(128, 256)])
        for b in set(bridges) & set(links()):
            subprocess.run(["ip", "link", "del", b], capture_output=True, env=SIDE)
    base = os.path.basename(folder)
    for top in glob.glob("/sys/fs/cgroup/*/" + base) + [f"/sys/fs/cgroup/{base}"]:
        for d, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(d)
            except OSError:
                pass
    shutil.rmtree(folder, ignore_errors=True)


def engines():
    """[(folder, N or None, Firewall, whether its owner lives)] of the engines on this host that the
    caller's user has made."""
    out = []
    for path in glob.glob(PREFIX + "*/owner"):
        folder = os.path.dirname(path)
        try:
            if os.stat(folder).st_uid != os.geteuid():
                continue
            with open(path) as f:
                owner = json.load(f)
            n = None
            if os.path.exists(f"{folder}/argv"):
                with open(f"{folder}/argv") as f:
                    n = json.load(f)["n"]
            s = stat_of(owner["pid"])
            out.append((folder, n, Firewall.from_json(owner["firewall"]),
                        bool(s and s[1] == owner["start"])))
        except (OSError, ValueError, KeyError):
            continue
    return out


def sweep():
    """Removes the engines whose owner died without closing them. Returns their folders."""
    gone = []
    for folder, n, firewall, lives in engines():
        if not lives:
            remove(folder, n, firewall)
            gone.append(folder)
    sweep_rules()
    return gone


def sweep_rules():
    """Rules that name a bridge of ours which does not exist any more: two engines that start and end
    at the same time put back what the other one has just taken away."""
    there = set(links())
    for table, line in rules()[0]:
        named = set(re.findall(r"\bcbe\d+\b", line))
        if named and not named & there:
            iptables("-t", table, "-D", *line.split()[1:])


def leftovers(but_living=False):
    """What of any private engine is on this host now, in words. but_living: not of those whose owner
    lives, which is how another run beside this one is told from what was left behind."""
    out = []
    for pid in process_table():
        if any(PREFIX in a for a in cmdline(pid)) and \
                program_of(pid) in ("dockerd", "containerd", "containerd-shim-runc-v2"):
            out.append(f"process {pid}: {' '.join(cmdline(pid))}")
    with open("/proc/self/mounts") as f:
        out += [f"mount {line.split()[1]}" for line in f if line.split()[1].startswith(PREFIX)]
    out += [f"interface {b}" for b in links() if re.fullmatch(r"cbe\d+", b)]
    for table, line in rules()[0]:
        if re.search(r"\bcbe\d+\b", line):
            out.append(f"rule {table} {line}")
    out += [f"folder {d}" for d in glob.glob(PREFIX + "*")]
    out += [f"cgroup {d}" for d in glob.glob("/sys/fs/cgroup/*/cbe-*")]
    if but_living:
        for folder, n, _, lives in engines():
            if lives:
                name = os.path.basename(folder)
                out = [s for s in out if name not in s and not re.search(rf"\bcbe{n}\b", s)]
    return out


def ordinary_user():
    return pwd.getpwnam("nobody")


if __name__ == "__main__":
    if sys.argv[1:] == ["--sweep"]:
        for d in sweep():
            print(f"removed the engine in {d}")
    elif sys.argv[1:] == ["--leftovers"]:
        print("\n".join(leftovers()))
    else:
        print(__doc__)
        sys.exit(2)
