"""The guest that the hardware plays: a tree of processes with namespaces, users and a root file system
of its own, in the network namespace of whoever turned it on, as libkrun's TSI makes the guest's sockets
in its monitor's network.

A guest is entered by one process of the hardware per command, which stays outside of its process
namespace, cannot be traced from in there, and carries bytes between the command and whoever asked."""
import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import termios
import threading

import channel

libc = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
SYS_PIVOT_ROOT = 155 if os.uname().machine == "x86_64" else 41
PR_SET_PDEATHSIG = 1
NS_GET_USERNS = 0xb701
USERS = 65536
FIRST_USER = 0x70000000  # on this host, where the hardware is root: nobody else's
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
PIECE = 65536


def call(name, *args):
    if getattr(libc, name)(*args) < 0:
        e = ctypes.get_errno()
        raise OSError(e, f"{name}: {os.strerror(e)}")


def mount(source, target, kind=None, flags=0, data=None):
    encode = [s.encode() if s is not None else None for s in (source, target, kind, data)]
    try:
        call("mount", encode[0], encode[1], encode[2], ctypes.c_ulong(flags), encode[3])
    except OSError as e:
        raise OSError(e.errno, f"{e.strerror} ({target})") from None


def die_with_parent():
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)


def close_all_but(keep):
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass


class Network:
    """A process's network namespace and the user namespace that owns it, held open."""

    def __init__(self, pid):
        self.net = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.user = fcntl.ioctl(self.net, NS_GET_USERNS)
        os.set_inheritable(self.user, False)

    def same(self, other):
        return os.fstat(self.net).st_ino == os.fstat(other.net).st_ino

    def enter(self):
        """Root may enter any network from where it is. Others enter as their own user namespace's root."""
        if os.geteuid() != 0 and os.fstat(self.user).st_ino != os.stat("/proc/self/ns/user").st_ino:
            call("setns", self.user, NEWUSER)
        if os.fstat(self.net).st_ino != os.stat("/proc/self/ns/net").st_ino:
            call("setns", self.net, NEWNET)

    def close(self):
        os.close(self.net)
        os.close(self.user)


def map_users(pid, users, groups):
    for name, line in (("uid_map", users), ("gid_map", groups)):
        with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as f:
            f.write(line)


def nothing():
    pass


def in_new_users(flags, then, before=nothing, between=nothing):
    """A child that runs before(), then as root of a new user namespace (and others: flags) then(); and
    between(), in the namespaces, but with the rights to files that it had. Its pid. It has all users
    where we are root, else the one that we are."""
    is_root = os.geteuid() == 0
    ready, mapped = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            die_with_parent()
            os.close(ready[0])
            os.close(mapped[1])
            before()
            ids = os.geteuid(), os.getegid()
            call("unshare", NEWUSER | flags)
            if not is_root:
                with open("/proc/self/setgroups", "w", encoding="ascii") as f:
                    f.write("deny")
                map_users("self", f"0 {ids[0]} 1", f"0 {ids[1]} 1")
            os.write(ready[1], b"1")
            os.read(mapped[0], 1)
            between()
            become_root()
            die_with_parent()
            os.close(ready[1])
            os.close(mapped[0])
            then()
        except BaseException as e:
            os.write(2, f"smolvm's double: {e!r}\n".encode())
        os._exit(1)
    os.close(ready[1])
    os.close(mapped[0])
    try:
        if os.read(ready[0], 1) == b"1" and is_root:
            map_users(pid, f"0 {FIRST_USER} {USERS}", f"0 {FIRST_USER} {USERS}")
    finally:
        os.close(ready[0])
        os.close(mapped[1])
    return pid


def become_root():
    """Of the user namespace that one has just entered."""
    try:
        os.setgroups([])
    except PermissionError:  # its map may not be of groups
        pass
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def has_all_users():
    with open("/proc/self/uid_map", encoding="ascii") as f:
        return int(f.read().split()[2]) > 1


# --- the root file system ---

def unpack(tar, folder):
    """One layer, owned by the users that a guest has. Devices are the guest's own affair; what would
    remove a file of a layer below is not played."""
    os.mkdir(folder, 0o755)
    if os.geteuid() == 0:
        os.chown(folder, FIRST_USER, FIRST_USER)
    archive, root = os.open(tar, os.O_RDONLY), os.open(folder, os.O_PATH)

    def extract():
        os.fchdir(root)
        os.dup2(archive, 0)
        owner = "--same-owner" if has_all_users() else "--no-same-owner"
        os.execve("/usr/bin/tar", ["tar", "-x", "-p", "--numeric-owner", owner, "--exclude=./dev/*",
                                   "--exclude=dev/*", "-f", "-"] + compression(tar), {"PATH": PATH})

    try:
        status = os.waitpid(in_new_users(0, extract), 0)[1]
    finally:
        os.close(archive)
        os.close(root)
    if status != 0:
        raise OSError(f"tar: status {os.waitstatus_to_exitcode(status)}")
    for _, folders, files in os.walk(folder):
        if any(n.startswith(".wh.") for n in folders + files):
            raise OSError("a layer removes files: not played")


def compression(path):
    with open(path, "rb") as f:
        magic = f.read(4)
    return ["-z"] if magic[:2] == b"\x1f\x8b" else ["--zstd"] if magic == b"\x28\xb5\x2f\xfd" else []


def make_root(layers, name):
    """In new namespaces: what the guest sees. layers: open folders, the uppermost first."""
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    for d in ("up", "work", "root"):
        os.mkdir(f"/tmp/{d}", 0o755)
    lower = ":".join(f"/proc/self/fd/{fd}" for fd in layers)
    mount("overlay", "/tmp/root", "overlay", 0, f"lowerdir={lower},upperdir=/tmp/up,workdir=/tmp/work,userxattr")
    os.chdir("/tmp/root")
    for d in ("proc", "sys", "dev", "run", "tmp", "root"):
        if not os.path.isdir(d):
            os.mkdir(d, 0o755)
    os.chmod("tmp", 0o1777)
    mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=0755")
    for d in DEVICES:
        os.close(os.open(f"dev/{d}", os.O_CREAT | os.O_WRONLY, 0o666))
        mount(f"/dev/{d}", f"dev/{d}", None, MS_BIND)
    for d in ("pts", "shm"):
        os.mkdir(f"dev/{d}")
    mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
    mount("tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    for link, to in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"),
                     ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")):
        os.symlink(to, f"dev/{link}")
    call("syscall", SYS_PIVOT_ROOT, b".", b".")
    call("umount2", b".", MNT_DETACH)
    os.chdir("/")
    socket.sethostname(name)


# --- process 1 ---

def execute(argv, env, workdir):
    """Does not return. As crun: what cannot be run is status 1 and a line, like any failure."""
    try:
        os.chdir(workdir or "/")
        for s in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(s, signal.SIG_DFL)
        os.execvpe(argv[0], argv, env)
    except (OSError, ValueError) as e:
        os.write(2, f"crun: executable file `{argv[0]}`: {getattr(e, 'strerror', None) or e}\n".encode())
    os._exit(1)


def environment(entries):
    return {"PATH": PATH, "HOME": "/root", **dict(e.split("=", 1) for e in entries)}


def guest_init(layers, name, workload, ready):
    """Process 1: the start-up command, whose output nobody sees, and an end for every child."""
    make_root(layers, name)
    close_all_but((ready,))
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    if workload["argv"] and os.fork() == 0:
        os.close(ready)
        os.setsid()
        execute(workload["argv"], environment(workload["env"]), workload["workdir"])
    os.write(ready, b"1")
    os.close(ready)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        signal.sigwait([signal.SIGCHLD])


def boot(network, layers, name, workload):
    """(pid of a child, which is gone when the guest is and the other way round; pid of process 1).
    layers: folders, the uppermost first."""
    number, ready = os.pipe(), os.pipe()
    folders = []

    def reach():  # in the mount namespace that will mount them
        folders.extend(os.open(f, os.O_PATH | os.O_DIRECTORY) for f in layers)

    def outside():
        first = os.fork()
        if first == 0:
            try:
                die_with_parent()
                guest_init(folders, name, workload, ready[1])
            except BaseException as e:
                os.write(ready[1], repr(e).encode())
            os._exit(1)
        os.write(number[1], struct.pack("=I", first))
        os.close(number[1])
        os.close(ready[1])
        os.waitpid(first, 0)

    child = in_new_users(NEWNS | NEWPID | NEWIPC | NEWUTS | NEWCGROUP, outside, network.enter, reach)
    for fd in (number[1], ready[1]):
        os.close(fd)
    try:
        first, said = os.read(number[0], 4), os.read(ready[0], 1024)
    finally:
        os.close(number[0])
        os.close(ready[0])
    if said != b"1":
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise OSError(f"the guest did not boot: {said.decode() or 'no namespaces'}")
    return child, struct.unpack("=I", first)[0]


# --- commands ---

def enter(network, first):
    """Into the guest whose process 1 this is; new children are in its process namespace too."""
    spaces = [os.open(f"/proc/{first}/ns/{n}", os.O_RDONLY | os.O_CLOEXEC)
              for n in ("user", "mnt", "pid", "ipc", "uts", "cgroup")]
    network.enter()
    for fd in spaces:
        call("setns", fd, 0)
        os.close(fd)
    become_root()
    die_with_parent()


def apart():
    """Goes on as process 1 of a process namespace of its own that sees the same files: what it is like
    when every command is a container of its own. Whoever called stands for it."""
    call("unshare", NEWNS | NEWPID)
    pid = os.fork()
    if pid:
        status = status_of(os.waitpid(pid, 0)[1])
        os._exit(status)
    die_with_parent()
    os.setsid()
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def copy(source, sink):
    """Until the end of either. They may be non-blocking: that is their owner's business."""
    try:
        while True:
            try:
                piece = os.read(source, PIECE)
            except BlockingIOError:
                select.select([source], [], [])
                continue
            if not piece:
                return
            write_all(sink, piece)
    except OSError:  # EIO of a terminal, EPIPE, or closed
        return


def write_all(fd, data):
    while data:
        try:
            data = data[os.write(fd, data):]
        except BlockingIOError:
            select.select([], [fd], [])


def thread(fn, *args):
    t = threading.Thread(target=fn, args=args, daemon=True)
    t.start()
    return t


def status_of(wait_status):
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


class Command:
    """One command in a guest. A process that enters the guest starts it there, with pipes or a terminal
    of the guest's, whose other ends come back here; this process carries what goes through them."""

    def __init__(self, argv, env, workdir, has_tty, is_apart, go_in):
        self.has_tty = has_tty
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.starter = os.fork()
        if self.starter == 0:
            try:
                die_with_parent()
                here.close()
                go_in()
                self._start(there, argv, env, workdir, is_apart)
            except OSError as e:
                channel.send(there, {"error": str(e)})
            finally:
                os._exit(1)
        there.close()
        self.said = here
        message, fds = channel.receive(here)
        if message is None or "error" in message:
            raise OSError(f"exec: {message and message['error']}")
        self.pid = message["pid"]
        if has_tty:
            self.stdin = self.stdout = self.master = fds[0]
        else:
            self.stdin, self.stdout, self.stderr = fds

    def _start(self, there, argv, env, workdir, is_apart):
        if self.has_tty:
            master, child_end = os.openpty()  # 0 x 0
            ours, ends = (master,), (child_end,) * 3
        else:
            pipes = [os.pipe() for _ in range(3)]
            ours = (pipes[0][1], pipes[1][0], pipes[2][0])
            ends = (pipes[0][0], pipes[1][1], pipes[2][1])
        pid = os.fork()
        if pid == 0:
            os.setsid()
            if is_apart:
                apart()
            for to, fd in enumerate(ends):
                os.dup2(fd, to)
            if self.has_tty:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            close_all_but(())
            execute(argv, environment(env), workdir)
        channel.send(there, {"pid": pid}, ours)
        for fd in {*ours, *ends}:
            os.close(fd)
        channel.send(there, {"status": status_of(os.waitpid(pid, 0)[1])})

    def wait(self):
        message, _ = channel.receive(self.said)
        return 137 if message is None else message["status"]

    def resize(self, rows, columns):
        if self.has_tty:
            fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("=HHHH", rows, columns, 0, 0))

    def kill(self):
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def stream(self, source, sink, error_sink):
        """To its end, everything as it comes. Its status."""
        def feed():
            copy(source, self.stdin)
            if self.has_tty:
                return
            os.close(self.stdin)

        thread(feed)
        carriers = [thread(copy, self.stdout, sink)]
        if not self.has_tty:
            carriers.append(thread(copy, self.stderr, error_sink))
        status = self.wait()
        for c in carriers:  # what it left behind may hold the pipes for ever
            c.join(1)
        return status

    def collect(self, most):
        """To its end: (status, output, errors). It has no input."""
        os.close(self.stdin)
        found = [b"", b""]

        def gather(i, fd):
            while piece := os.read(fd, PIECE):
                found[i] = (found[i] + piece)[:most]

        gatherers = [thread(gather, 0, self.stdout), thread(gather, 1, self.stderr)]
        status = self.wait()
        for g in gatherers:
            g.join(1)
        return status, *found
