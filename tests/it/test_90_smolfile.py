"""Smolfiles of hostile texts, read back by a parser that is not ours."""
import os
import random
import subprocess
import tomllib

import bottle

PROGRAM = os.path.join(bottle.build_folder(), "tests/unit/backend/smolfile_program")
KEYS = {"image", "entrypoint", "cmd", "env", "workdir", "cpus", "memory", "volumes", "network"}
INTERESTING = ['"', "\\", "\n", "\r", "\t", "\b", "\f", "'", "#", "=", "[", "]", "{", "}", ",", ".", " ", "\x01",
               "\x1f", "\x7f", "\x80", "\x85", "\x9f", "\xa0", "\u2028", "\u202e", "\ufeff", "\uffff", "\ud7ff",
               "\U0001f642", "\U0010ffff", "u", "U", "x", "0", "4", "1", '"""', "'''", "\\u0000", '"\n[network]\n',
               "\r\n", "é", "\u0301"]


def rendered(texts):
    r = subprocess.run([PROGRAM], input=b"".join(t + b"\0" for t in texts), capture_output=True, check=True)
    rest = r.stdout
    for _ in texts:
        n, _, rest = rest.partition(b"\n")
        yield None if n == b"-1" else rest[:int(n)]
        rest = rest[max(0, int(n)):]
    assert rest == b""


def check(text, smolfile):
    found = tomllib.loads(smolfile.decode())
    every = [text, "between", text]
    assert set(found) == KEYS and found["network"] == {"allow_cidrs": every}
    assert found["image"] == found["workdir"] == text and (found["cpus"], found["memory"]) == (1, 2)
    assert found["entrypoint"] == found["cmd"] == found["env"] == found["volumes"] == every


def test_texts_come_back_as_they_were():
    r = random.Random(91)
    texts = INTERESTING + [chr(c) for c in range(1, 0x101)]
    texts += ["".join(r.choices(INTERESTING, k=r.randint(0, 40))) for _ in range(1200)]
    texts += ["".join(chr(r.choice((r.randint(1, 0xd7ff), r.randint(0xe000, 0x10ffff), r.randint(1, 0x7f))))
                      for _ in range(r.randint(0, 60))) for _ in range(600)]
    for text, smolfile in zip(texts, rendered([t.encode() for t in texts])):
        check(text, smolfile)


def test_what_is_no_text_is_refused():
    r = random.Random(92)
    raw = [bytes(r.randint(1, 255) for _ in range(r.randint(1, 30))) for _ in range(600)]
    refused = 0
    for text, smolfile in zip(raw, rendered(raw)):
        try:
            check(text.decode(), smolfile)
        except UnicodeDecodeError:
            assert smolfile is None
            refused += 1
    assert refused > 400
