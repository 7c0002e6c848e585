"""A push through git-gate beside the same push without it: the same git client, the same repository,
the same kind of upstream (git http-backend behind TLS and a token, tests/it/git_world.py), one after
the other in turn. Through the gate it is a native bottle's agent that pushes, and the time is taken
inside; without it the client dials the upstream itself.

Every push is looked at afterwards: the upstream must have the commit, and the gate's record must say
that it has scanned as many objects as were made. Nothing is decided by a time.
"""
import base64
import collections
import contextlib
import os
import random
import re
import statistics
import subprocess
import tempfile
import threading
import time

import bottle
import git_world
import peers
from figures import QUICK, emit, mib, note, wanted
from git_world import HTTPS_HOST, TOKEN, git
from standin import Authority

# How many new objects, how often with others, and whether it lasts long enough to be sampled by phase.
Size = collections.namedtuple("Size", "n_objects n_rounds has_phases")
SIZES = {"git_push_one": Size(1, 3 if QUICK else 7, False),
         "git_push_1k": Size(1000, 2 if QUICK else 5, True),
         "git_push_100k": Size(100_000, 1 if QUICK else 2, True)}
PEER = "git push"
USER = "x-access-token"
PUSH_S = 900  # git-gate's own deadline
FRESH_S = 2.2  # for so long it does not ask the upstream again what it has
MODULES, PARTS, FILES = 24, 6, 1200
WORDS = ("return struct if ( buffer size_t value = 0x1f; } /* the next entry of */ static int check( name, "
         "offset) + 1; else { while (true) const char * p->n import self. def None: \"text\" [i] != NULL "
         "uint32_t i++) for err_set(e, -EINVAL, break; case default: memcpy( sizeof(*p)) # include").split()


# --- what is pushed ---

class History:
    """Edits of a source tree, the same for the same seed, as a stream for git fast-import: a commit
    changes a few files of one folder, each in a few lines. Some 30 % of the objects are files of 7 kB
    on average, 56 % trees, 14 % commits."""

    def __init__(self, to, seed):
        self.to, self.random, self.n_objects, self.time = to, random.Random(seed), 0, 1_600_000_000
        self.lines = [self.line() for _ in range(8000)]
        self.files, self.parts = {}, collections.defaultdict(list)

    def line(self):
        r = self.random
        text = "\t" * r.randrange(4) + " ".join(r.choice(WORDS) for _ in range(r.randrange(2, 11)))
        return text + f" item_{r.randrange(5000)}" if r.random() < 0.5 else text

    def text(self):
        return self.random.choices(self.lines, k=self.random.randrange(20, 260))

    def path(self, number):
        module = number % MODULES
        return f"src/module_{module}/part_{number // MODULES % PARTS}/file_{number}.c"

    def add(self):
        path = self.path(len(self.files))
        self.parts[os.path.dirname(path)].append(path)
        self.files[path] = self.text()
        return path

    def edit(self, path):
        r, text = self.random, self.files[path]
        for _ in range(r.randrange(1, 12)):
            at = r.randrange(len(text))
            text[at:at + r.randrange(3)] = r.choices(self.lines, k=r.randrange(1, 3))

    def commit(self, branch, parent, paths, message):
        self.time += 60
        message = message.encode()
        head = f"commit refs/heads/{branch}\ncommitter A U Thor <author@example.com> {self.time} +0000\n"
        self.to.write(head.encode() + b"data %d\n%s\n" % (len(message), message) +
                      (f"from {parent}\n".encode() if parent else b""))
        for path in paths:
            # No two files are the same: each is an object of its own.
            text = "\n".join(self.files[path]).encode() + b"\n/* %d */\n" % self.time
            self.to.write(b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(text), text))
        folders = {""}
        for path in paths:
            while path := os.path.dirname(path):
                folders.add(path)
        return 1 + len(paths) + (len(folders) if paths else 0)

    def base(self, branch):
        self.commit(branch, None, [self.add() for _ in range(FILES)], "a project")

    def write(self, branch, parent, n_objects):
        """A branch of exactly so many new objects."""
        made, r = 0, self.random
        while made < n_objects:
            paths = []
            if n_objects - made >= 16:
                part = r.choice(sorted(self.parts))
                paths = r.sample(self.parts[part], r.choice((1, 1, 1, 2, 2, 3, 5)))
                for path in paths:
                    self.edit(path)
                if r.random() < 0.05:
                    paths.append(self.add())
            made += self.commit(branch, None if made else parent, paths,
                                f"Change what {r.choice(WORDS)} does in step {made}\n\n"
                                f"{' '.join(r.choices(WORDS, k=r.randrange(4, 30)))}\n")


class Client:
    """The repository that both push from. The bottle sees it, and cannot write there: both name the
    upstream by its URL, so that git has nothing to write down."""

    def __init__(self, folder):
        self.folder = f"{folder}/client.git"
        git("init", "-q", "--bare", self.folder, cwd=folder)

    def make(self, branches):
        """branches: {name: number of objects}; each of them stands on main."""
        p = subprocess.Popen(["git", "fast-import", "--quiet"], cwd=self.folder, env=git_world.ENV,
                             stdin=subprocess.PIPE)
        with p.stdin as to:
            History(to, "base").base("main")
            for name, n in branches.items():
                h = History(to, name)
                for _ in range(FILES):
                    h.add()
                h.write(name, "refs/heads/main", n)
        if p.wait() != 0:
            raise RuntimeError("git fast-import has failed")
        # As a repository with a work tree is after some time: one pack with deltas, no bitmaps.
        subprocess.run(["git", "-c", "repack.writeBitmaps=false", "repack", "-adq"], cwd=self.folder,
                       env=git_world.ENV, check=True)
        for name, n in branches.items():
            listed = git("rev-list", "--objects", "--count", f"main..{name}", cwd=self.folder)
            if int(listed) != n:
                raise RuntimeError(f"{name} has {listed} objects, not {n}")


# --- the processes of the gate ---

class Sampler:
    """What the processes below one use: the most at a time, in proportional KiB; the peak of each
    kind's largest; and when each kind was there first."""

    def __init__(self, top):
        self.top, self.most_kib = top, 0
        self.error = None
        self.peaks, self.began_at = {}, {}
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    @staticmethod
    def kind(pid):
        argv = bottle.cmdline(pid)
        if not argv:
            return None
        if os.path.basename(argv[0]) not in ("git", "git-http-backend"):
            return "gitgate"
        words = [a for a in argv[1:] if not a.startswith("-") and "=" not in a]
        return f"git {words[0]}" if words else "git"

    @staticmethod
    def peak_kib(pid):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as f:
            m = re.search(r"^VmHWM:\s+(\d+)", f.read(), re.M)
            return int(m.group(1)) if m else 0
        return 0

    def sample(self):
        pids = bottle.descendants(self.top)
        now = time.monotonic()
        for pid in pids:
            kind = self.kind(pid)
            if kind:
                self.peaks[kind] = max(self.peaks.get(kind, 0), self.peak_kib(pid))
                self.began_at.setdefault(kind, now)
        if self.most_kib is not None:
            try:
                self.most_kib = max(self.most_kib, peers.pss_kib(pids))
            except PermissionError:
                self.most_kib = None  # root may read that of a role, others may not

    def run(self):
        while not self.ending.is_set():
            began = time.monotonic()
            try:
                self.sample()
            except BaseException as e:  # for who waits for the thread
                self.error = e
                return
            # At most a tenth of one processor.
            self.ending.wait(max(0.02, 9 * (time.monotonic() - began)))

    def __enter__(self):
        self.began = time.monotonic()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()
        self.ended = time.monotonic()
        if self.error:
            raise self.error

    def phases(self):
        """Seconds until the judge looks at it, until the upstream's pack is made, and of the rest, which
        the upstream's own work is a part of. A git that was over before it was seen came late."""
        scan, forward = (self.began_at.get(f"git {x}", self.ended) for x in ("cat-file", "pack-objects"))
        scan = min(scan, forward)
        return {"receive": scan - self.began, "scan": forward - scan, "forward": self.ended - forward}


# --- the two ways ---

SCRIPT = """
began=$(date +%s%N)
git -c safe.directory='*' "$@" || exit
echo "$(($(date +%s%N) - began))"
"""


def seconds_of(r, what):
    if r.returncode != 0 or not r.stdout.strip().isdigit():
        raise RuntimeError(f"{what}: {r.returncode} {r.stdout[-500:]} {r.stderr[-1500:]}")
    return int(r.stdout) / 1e9


class Direct:
    """The client, and nothing between it and the upstream."""
    repo = "team/direct"

    def __init__(self, world, authority):
        host = f"{HTTPS_HOST}:{world.https.port}"
        login = base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
        self.world, self.url = world, f"https://{host}/{self.repo}.git"
        # The credential goes with the first request, as egress sends it.
        self.options = ["-c", f"http.sslCAInfo={authority.path}",
                        "-c", f"http.extraHeader=Authorization: Basic {login}",
                        "-c", f"http.curloptResolve={host}:127.0.0.1"]

    def push(self, folder, branch):
        argv = [*self.options, "-C", folder, "push", "-q", self.url, branch]
        r = subprocess.run(["bash", "-c", SCRIPT, "bash", *argv], env=git_world.ENV, capture_output=True,
                           text=True, stdin=subprocess.DEVNULL, timeout=PUSH_S)
        return seconds_of(r, "git push without the gate")


class Gate:
    """The agent of a native bottle; its git knows the upstream by its usual address."""
    repo = "team/gate"

    def __init__(self, world):
        self.world, self.url = world, f"https://{HTTPS_HOST}/{self.repo}.git"
        self.front = min(world.running.roles()["gitgate"])

    def push(self, folder, branch):
        time.sleep(FRESH_S)
        with Sampler(self.front) as sampler:
            r = self.world.running.exec("bash", "-c", SCRIPT, "bash", "-C", folder, "push", "-q", self.url,
                                        branch, timeout=PUSH_S)
        return seconds_of(r, "git push through the gate"), sampler

    def scanned(self, branch):
        """Objects, as the record has them."""
        for r in self.world.records(reason="push-forwarded"):
            m = re.search(r" first refs/heads/(\S+), (\d+) objects scanned$", r["detail"])
            if m and m.group(1) == branch:
                return int(m.group(2))
        return None


class Upstream(git_world.HttpsGit):
    """Keeps no bodies: each would be a pack."""
    backend_timeout_s = PUSH_S

    def note(self, seen):
        pass


def must_have_arrived(world, client, way, branch):
    want = git("rev-parse", branch, cwd=client.folder)
    there = git_world.refs(world.https.path(way.repo)).get(f"refs/heads/{branch}")
    if there != want:
        raise RuntimeError(f"{branch} of {way.repo} is {there} after its push, not {want}")


# --- the measurement ---

def measure_size(name, world, client, gate, direct):
    n_objects, n_rounds, _ = SIZES[name]
    note(f"git: push of {n_objects} new objects, {n_rounds} rounds")
    ours, peer, samples = [], [], []
    for i in range(n_rounds):
        branch = branch_of(name, i)
        for way in (gate, direct) if i % 2 else (direct, gate):
            if way is direct:
                peer.append(direct.push(client.folder, branch))
            else:
                seconds, sampler = gate.push(client.folder, branch)
                ours.append(seconds)
                samples.append(sampler)
            must_have_arrived(world, client, way, branch)
        scanned = gate.scanned(branch)
        if scanned != n_objects:
            raise RuntimeError(f"the gate has scanned {scanned} objects of {branch}, not {n_objects}")
    emit(name, statistics.median(ours), "s", PEER, statistics.median(peer), True)
    note(f"    ours {statistics.median(ours):.2f} s, {PEER} {statistics.median(peer):.2f} s")
    emit_samples(name, samples)


def emit_samples(name, samples):
    if SIZES[name].has_phases:
        phases = [s.phases() for s in samples]
        for phase in phases[0]:
            emit(f"{name}_{phase}", statistics.median(p[phase] for p in phases), "s")
    most = max(samples, key=lambda s: s.most_kib or 0)
    emit(f"{name}_memory_peak", mib(most.most_kib), "MiB")
    if most.most_kib is None:
        note("    ! only root may look at the memory of the gate's processes")
    note("    peaks: " + ", ".join(f"{k} {mib(v):.0f} MiB" for k, v in sorted(most.peaks.items())))


def branch_of(name, i):
    return f"{name}-{i}"


def make_world(folder, authority, client):
    upstream = Upstream(authority, f"{folder}/upstream")
    world = git_world.World(bottle.Home(f"{folder}/home"), upstream, None)
    for way in (Direct, Gate):
        os.makedirs(os.path.dirname(upstream.path(way.repo)), exist_ok=True)
        # Not by links: it would have all that is to be pushed.
        git("clone", "-q", "--bare", "--no-local", "--single-branch", "--branch", "main", client.folder,
            upstream.path(way.repo), cwd=folder)
        git("config", "http.receivepack", "true", cwd=upstream.path(way.repo))
    world.configure(authority, [git_world.https_remote("gate", upstream, path=Gate.repo)],
                    expose=[client.folder])
    return world


def measure():
    names = [n for n in SIZES if wanted(n)]
    if not names:
        return
    with tempfile.TemporaryDirectory(prefix="cb-bench-git-", dir="/tmp",
                                     ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        authority, client = Authority(f"{folder}/ca"), Client(folder)
        note("git: making what is pushed")
        client.make({branch_of(n, i): SIZES[n].n_objects for n in names for i in range(SIZES[n].n_rounds)})
        world = make_world(folder, authority, client)
        with world.https, contextlib.closing(world):
            world.start()
            gate, direct = Gate(world), Direct(world, authority)
            world.sh(f"git ls-remote {gate.url}")  # the mirror is made
            for name in names:
                measure_size(name, world, client, gate, direct)
