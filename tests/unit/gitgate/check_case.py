"""What the tests of check_push() share: a repository that pushes are made in object by object, and the
checker (argv[1] is check_lines)."""
import base64
import io
import os
import random
import sys
import tarfile
import tempfile
import unittest
import zipfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from pushes import Checker, Repo  # noqa: E402

PROGRAM = sys.argv.pop(1)
FILES = {b"a.txt": b"hello\n", b"d/b.c": b"int main(void)\n{\n\treturn 0;\n}\n"}
ASSIGNED = b'  password = "Xk29sLq8vTz1pR"\n'


def tar_of(name, data, **kw):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **kw) as t:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of(entries, method=zipfile.ZIP_DEFLATED, stream=False):
    out = io.BytesIO()

    class Unseekable(io.RawIOBase):
        def writable(self):
            return True

        def write(self, b):
            return out.write(b)
    with zipfile.ZipFile(Unseekable() if stream else out, "w", method) as z:
        for name, data in entries:
            z.writestr(name, data)
    return out.getvalue()


def pem(seed, width=64):
    """A private key, as good as."""
    body = base64.b64encode(noise(900, seed))
    return b"-----BEGIN " + b"RSA PRIVATE KEY-----\n" + b"".join(body[i:i + width] + b"\n" for i in range(0, len(body), width)) + \
        b"-----END " + b"RSA PRIVATE KEY-----\n"


def noise(n, seed=1):
    return random.Random(seed).randbytes(n)


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="cb-check-")
        cls.checker = Checker(PROGRAM)
        cls.repo = Repo(cls.scratch.name + "/r.git")
        cls.base = cls.repo.commit(FILES)
        cls.repo.ref("heads/main", cls.base)

    @classmethod
    def tearDownClass(cls):
        status = cls.checker.close()
        cls.scratch.cleanup()
        assert status == 0

    def push(self, *updates, **kw):
        return self.checker.push(self.repo, *updates, **kw)

    def one(self, *updates, kind="secret", rule=None, what=None, path=None, line=None, commit=None,
            decoders=None, **kw):
        """Exactly one finding, and what it says."""
        found = self.push(*updates, **kw)
        self.assertEqual([f["kind"] for f in found], [kind], found)
        f = found[0]
        for name, want in (("rule", rule), ("what", what), ("path", path), ("line", line),
                           ("commit", commit), ("decoders", decoders)):
            if want is not None:
                self.assertEqual(f[name], want, f)
        return f

    def clean(self, *updates, **kw):
        self.assertEqual(self.push(*updates, **kw), [])

    def assertRefused(self, *updates):
        try:
            self.assertTrue(self.push(*updates))
        except RuntimeError as e:
            self.assertIn("git", str(e))

    def with_file(self, data, path=b"x/file", parents=None, **kw):
        return self.repo.commit({**FILES, path: data}, [self.base] if parents is None else parents, **kw)
