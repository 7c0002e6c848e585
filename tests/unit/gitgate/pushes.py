"""Repositories made object by object, well formed or not, and check_push() asked about them."""
import hashlib
import json
import lzma
import os
import struct
import subprocess
import threading
import zlib

NONE = "0" * 40
WHO = b"A U Thor <author@example.com> 1700000000 +0000"
# What check_lines.c watches for.
SECRET = b"Tr0ub4dor-and-3-horses-staple"
CANARY = b"canary-q8Zt5Lw2Nn7Rb4Xc"
PLACEHOLDER = b"cb-placeholder-4f9d2b7a6c5e8031"
# Of the right shape, made up; cut so that nothing that looks for keys stops here.
TOKEN = b"gh" + b"p_8Kd2mQ9vR4sL7nW1bY6cT3fA0jH5dEx2Zq"[:38]
AWS = b"AK" + b"IAQZ7PWLM4XDT2BNKF"
ENV = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1",
       "GIT_CONFIG_GLOBAL": "/dev/null"}


def zstd_frame(data, descriptor):
    """A frame (RFC 8878, 3.1.1) of one raw block, and the window that its decompressor must have room for:
    0x88 is 128 MiB, the largest that zstd's tools open unasked."""
    assert len(data) < 1 << 17
    return b"\x28\xb5\x2f\xfd\0" + bytes([descriptor]) + struct.pack("<I", 1 | len(data) << 3)[:3] + data


def xz_file(data, dictionary):
    """An xz file (The .xz File Format, 5.3.1) that says it has this dictionary: 28 is 64 MiB, as `xz -9`."""
    whole = bytearray(lzma.compress(data, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}]))
    end = 12 + (whole[12] + 1) * 4
    assert whole[13:16] == b"\0\x21\x01"
    whole[16] = dictionary
    whole[end - 4:end] = struct.pack("<I", zlib.crc32(whole[12:end - 4]))
    return bytes(whole)


class Repo:
    def __init__(self, folder):
        self.folder = folder
        subprocess.run(["git", "init", "-q", "--bare", folder], check=True, env=ENV)

    def git(self, *argv, stdin=b""):
        return subprocess.run(["git", "-C", self.folder, *argv], input=stdin, check=True, env=ENV,
                              stdout=subprocess.PIPE).stdout

    def put(self, kind, data):
        whole = b"%s %d\0" % (kind.encode(), len(data)) + data
        oid = hashlib.sha1(whole).hexdigest()
        folder = f"{self.folder}/objects/{oid[:2]}"
        path = f"{folder}/{oid[2:]}"
        if not os.path.exists(path):
            os.makedirs(folder, exist_ok=True)
            with open(path, "wb") as f:
                f.write(zlib.compress(whole, 1))
        return oid

    def blob(self, data):
        return self.put("blob", data)

    def raw_tree(self, entries):
        """[(mode, name, oid)], in this order."""
        return self.put("tree", b"".join(b"%s %s\0" % (m, n) + bytes.fromhex(o) for m, n, o in entries))

    def tree(self, files):
        """{path: bytes, or (mode, bytes or oid), or a tree's oid}"""
        here, below = [], {}
        for path, value in files.items():
            head, slash, rest = path.partition(b"/")
            if slash:
                below.setdefault(head, {})[rest] = value
                continue
            mode, data = value if isinstance(value, tuple) else (b"100644", value)
            if isinstance(value, str):
                mode, data = b"40000", value
            here.append((mode, head, data if isinstance(data, str) else self.blob(data)))
        for name, inner in below.items():
            here.append((b"40000", name, self.tree(inner)))
        return self.raw_tree(sorted(here, key=lambda e: e[1] + (b"/" if e[0] == b"40000" else b"")))

    def commit(self, files, parents=(), message=b"A change\n", author=WHO, committer=WHO, headers=b""):
        tree = files if isinstance(files, str) else self.tree(files)
        return self.put("commit", b"tree %s\n" % tree.encode() +
                        b"".join(b"parent %s\n" % p.encode() for p in parents) +
                        b"author %s\ncommitter %s\n" % (author, committer) + headers + b"\n" + message)

    def tag(self, oid, kind="commit", name=b"v1", message=b"A tag\n", tagger=WHO, headers=b""):
        """tagger: None leaves the line out."""
        return self.put("tag", b"object %s\ntype %s\ntag %s\n" % (oid.encode(), kind.encode(), name) +
                        (b"tagger %s\n" % tagger if tagger else b"") + headers + b"\n" + message)

    def ref(self, name, oid):
        path = f"{self.folder}/refs/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(oid + "\n")


class Checker:
    def __init__(self, program, memory=None):
        """memory: bytes of address space, of the program alone and of each git."""
        bounded = ["prlimit", f"--as={memory}"] if memory else []
        self.process = subprocess.Popen([*bounded, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.last = None

    def end_after(self, seconds):
        """So that a check that hangs is a failure, not one more thing that hangs."""
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        return timer

    def push(self, repo, *updates, options=""):
        """updates: oids, or (ref, old, new). The findings; the figures are in self.last."""
        fields = [repo.folder, options]
        for u in updates:
            fields += ["refs/heads/work", NONE, u] if isinstance(u, str) else u
        self.process.stdin.write("\t".join(fields).encode() + b"\n")
        self.process.stdin.flush()
        found = []
        for line in self.process.stdout:
            answer = json.loads(line)
            if "end" in answer:
                self.last = answer
                if answer["end"] < 0:
                    raise RuntimeError(answer["error"])
                return found
            found.append(answer)
        raise RuntimeError("check_lines ended")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()
