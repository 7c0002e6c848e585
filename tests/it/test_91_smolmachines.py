"""Bottles of the smolmachines backend against the strict double of its command line: in a real wall and
a real cell, with a real bundle and registry. What that proves and what not is told in smolvm/README.md."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import bottle
import smol_world
from bottle import wait_until

pytestmark = pytest.mark.skipif(smol_world.missing() is not None, reason=smol_world.missing() or "")

APPLETS = ("sh", "cat", "echo", "env", "id", "sleep", "stty", "head", "ls", "ps", "kill", "hostname", "true",
           "wc", "seq", "dd", "trap", "touch", "nc", "printf", "mkdir", "rm", "test", "tty")


def small_root(path):
    """An image of busybox alone."""
    with open(smol_world.BUSYBOX, "rb") as f:
        program = f.read()
    folders = {d: None for d in ("bin", "usr", "usr/bin", "etc", "home", "home/agent", "root", "tmp", "var", "proc",
                                 "dev", "run")}
    with open(path, "wb") as f:
        f.write(smol_world.tar_of({**folders, "bin/busybox": (0o755, program),
                                   **{f"bin/{n}": "busybox" for n in APPLETS}}))
    return path


@pytest.fixture(name="image", scope="module")
def fixture_image(scratch):
    return small_root(f"{scratch}/small-root.tar")


@pytest.fixture(name="double", scope="module")
def fixture_double(scratch):
    with smol_world.Double(scratch, cache=f"{scratch}/smol-layers") as d:
        yield d


@pytest.fixture(name="home", params=["0.8.0", "1.0.2"], scope="module")
def fixture_home(request, scratch, double, image, rule_cache):
    h = bottle.Home(f"{scratch}/smol-{request.param}", cache=rule_cache, backend="smolmachines")
    double.version(request.param)
    h.secrets = double.environment()
    h.secrets = {"CLAUDE_BOTTLE_SMOLVM": double.path}
    h.write_bottle(image=image)
    h.write_agent()
    yield h
    h.remove()


@pytest.fixture(name="behave")
def fixture_behave(double):
    yield double
    double.misbehave()


def test_status_and_streams(home):
    r = home.start("sh", "-c", "cat; echo err >&2; exit 41", input="typed\n")
    assert (r.returncode, r.stdout) == (41, "typed\n"), r.stderr
    assert r.stderr.splitlines()[-1] == "err"
