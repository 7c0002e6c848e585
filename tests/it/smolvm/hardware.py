#!/usr/bin/python3
"""What stands for the processor that runs guests: `hardware.py FOLDER CACHE`.

It listens at FOLDER/hardware.sock, FOLDER being the installation of the command line, and keeps unpacked
layers in CACHE. One process serves one connection: a monitor's, which is a guest as long as it lasts, or
a command's. Whoever connects gets guests in its own network namespace only, and sees only those.

FOLDER/misbehave, if it is there, has words that make it misbehave, as it stands at each request; see
README.md."""
import fcntl
import json
import os
import secrets
import select
import signal
import socket
import struct
import sys
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import channel  # noqa: E402
import guest  # noqa: E402
import puller  # noqa: E402

BOOT_SECONDS = 0.1  # in which a guest that has started kills what is executed in it
OUTPUT_MAX = 64 << 20


class Failed(Exception):
    pass


def misbehaviour(folder):
    """{word: value} of a file of words, each perhaps with "=value"."""
    try:
        with open(f"{folder}/misbehave", encoding="utf-8") as f:
            return dict(w.partition("=")[::2] for w in f.read().split())
    except FileNotFoundError:
        return {}


class Hardware:
    def __init__(self, folder, cache):
        self.folder, self.cache = folder, cache
        self.running = f"{cache}/running-{os.getpid()}"  # others may share the layers
        for d in (f"{cache}/layers", f"{cache}/images", self.running):
            os.makedirs(d, exist_ok=True)

    # --- images ---

    def in_network(self, network, fn):
        """fn()'s result, or its PullError, from a child in that network."""
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                guest.die_with_parent()
                network.enter()
                answer = {"ok": fn()}
            except puller.PullError as e:
                answer = {"error": str(e)}
            except BaseException as e:
                answer = {"error": repr(e)}
            guest.write_all(w, json.dumps(answer).encode())
            os._exit(0)
        os.close(w)
        with os.fdopen(r, "rb") as f:
            said = f.read()
        os.waitpid(pid, 0)
        answer = json.loads(said or b'{"error":"the puller died"}')
        if "error" in answer:
            raise Failed(f"pull image: {answer['error']}")
        return answer["ok"]

    def image(self, network, machine, how):
        """(folders of layers, the uppermost first; the configuration)"""
        known = f"{self.cache}/images/{machine['image'].replace('/', '_')}"
        layers = f"{self.cache}/layers"
        with open(f"{self.cache}/lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if "pull-ignored" in how:
                if not os.path.exists(known):
                    raise Failed("pull image: nothing is known of it")
                with open(known, encoding="utf-8") as f:
                    manifest, config = json.load(f)
            else:
                manifest, _, config = self.in_network(network, lambda: puller.pull(
                    machine["image"], machine["allow_cidrs"], layers))
                with open(known, "w", encoding="utf-8") as f:
                    json.dump([manifest, config], f)
            return [self.layer(layer) for layer in reversed(manifest["layers"])], config

    def layer(self, layer):
        at = f"{self.cache}/layers/{layer['digest'].removeprefix('sha256:')}"
        if not os.path.exists(at):
            part = f"{at}.{os.getpid()}.{secrets.token_hex(4)}"
            guest.unpack(f"{at}.tar", part)
            os.rename(part, at)
            os.unlink(f"{at}.tar")
        return at

    # --- a monitor ---

    def boot(self, s, machine, network, how):
        if "start-fails" in how:
            raise Failed("boot: the processor does not do what it should")
        if not machine["image"]:
            raise Failed("the double has no machines without an image")
        if not machine["allow_cidrs"]:
            raise Failed("pull image: networking is disabled")
        folders, config = self.image(network, machine, how)
        run = config.get("config", {})
        argv = machine["entrypoint"] + machine["cmd"] or \
            (run.get("Entrypoint") or []) + (run.get("Cmd") or [])
        workload = {"argv": [] if "no-workload" in how else argv,
                    "env": (run.get("Env") or []) + machine["env"],
                    "workdir": machine["workdir"] or run.get("WorkingDir")}
        if "open-wall" in how:
            network = guest.Network(os.getpid())
        child, first = guest.boot(network, folders, machine["name"], workload)
        number = secrets.token_hex(16)
        record = {"first": first, "started": time.monotonic(), "env": run.get("Env") or [],
                  "caller": os.fstat(self.caller.net).st_ino}
        with open(f"{self.running}/{number}", "w", encoding="utf-8") as f:
            json.dump(record, f)
        try:
            channel.send(s, {"guest": number})
            self.until_either_ends(s, child, float(how.get("dies", "inf")))
        finally:
            os.unlink(f"{self.running}/{number}")
            os.kill(child, signal.SIGKILL)

    @staticmethod
    def until_either_ends(s, child, seconds):
        """The monitor, or the guest, or the time that it has."""
        end = os.pidfd_open(child)
        p = select.poll()
        p.register(s, 1)
        p.register(end, 1)
        p.poll(None if seconds == float("inf") else seconds * 1000)

    # --- commands ---

    def find(self, request, network, how):
        number = request["guest"]
        try:
            if not number.isalnum():
                raise FileNotFoundError
            with open(f"{self.running}/{number}", encoding="utf-8") as f:
                record = json.load(f)
        except FileNotFoundError:
            raise Failed("connect to agent: no such guest") from None
        if record["caller"] != os.fstat(network.net).st_ino:
            raise Failed("connect to agent: no such guest")
        entered = guest.Network(record["first"]) if "open-wall" in how else network
        return record, lambda: guest.enter(entered, record["first"])

    def execute(self, s, request, fds, network, how):
        if len(fds) != 3:
            raise Failed("three descriptors are needed")
        if "exec-hangs" in how:
            s.recv(1)
            return
        record, go_in = self.find(request, network, how)
        if time.monotonic() - record["started"] < float(how.get("boot", BOOT_SECONDS)):
            channel.send(s, {"status": 137})
            return
        c = guest.Command(request["argv"], record["env"] + request["env"], request["workdir"],
                          request["tty"], "apart" in how, go_in)
        guest.thread(self.obey, s, c)
        if request["stream"]:
            status = c.stream(*fds)
        else:
            status, out, err = c.collect(OUTPUT_MAX)
            for fd, data in ((fds[1], out), (fds[2], err)):  # as text, whatever it was
                try:
                    guest.write_all(fd, data.decode(errors="replace").encode())
                except OSError:
                    pass
        channel.send(s, {"status": status})

    @staticmethod
    def obey(s, command):
        """The size of the terminal; and the end of whoever asked is the command's."""
        while True:
            message, _ = channel.receive(s)
            if message is None:
                command.kill()
                os._exit(0)
            command.resize(message["rows"], message["columns"])

    def copy_in(self, s, request, fds, network, how):
        self.find(request, network, how)[1]()
        with open(request["path"], "wb", opener=lambda p, f: os.open(p, f, 0o644)) as f, \
                os.fdopen(fds[0], "rb") as source:
            n = 0
            while piece := source.read(1 << 20):
                f.write(piece)
                n += len(piece)
        channel.send(s, {"status": 0, "bytes": n})

    def copy_out(self, s, request, fds, network, how):
        self.find(request, network, how)[1]()
        with open(request["path"], "rb") as f, os.fdopen(fds[0], "wb") as sink:
            n = 0
            while piece := f.read(1 << 20):
                sink.write(piece)
                n += len(piece)
        channel.send(s, {"status": 0, "bytes": n})

    # --- connections ---

    def serve(self, s):
        pid = struct.unpack("=iII", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        self.caller = network = guest.Network(pid)
        request, fds = channel.receive(s)
        if request is None:
            return
        how = misbehaviour(self.folder)
        try:
            if request["op"] == "boot":
                self.boot(s, request["machine"], network, how)
            elif request["op"] == "exec":
                self.execute(s, request, fds, network, how)
            elif request["op"] == "write":
                self.copy_in(s, request, fds, network, how)
            elif request["op"] == "read":
                self.copy_out(s, request, fds, network, how)
        except (Failed, OSError) as e:
            channel.send(s, {"error": str(e)})

    def run(self):
        path = f"{self.folder}/hardware.sock"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(path)
        os.chmod(path, 0o666)
        listener.listen(64)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes below
        print("ready", flush=True)
        while True:
            s, _ = listener.accept()
            if os.fork():
                s.close()
                continue
            try:
                listener.close()
                guest.die_with_parent()
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self.serve(s)
            except BaseException:
                traceback.print_exc()
            os._exit(0)


if __name__ == "__main__":
    Hardware(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])).run()
