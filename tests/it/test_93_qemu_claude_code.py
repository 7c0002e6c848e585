"""Claude Code in a virtual machine, against the stub of its API that streams. Its program is built for
processors that a plain emulated one is not: on the wrong model it ends with SIGILL. Its image is copied
from an engine, as that has it already."""
import json

import pytest
import standin
from claude import REAL_KEY, check_streams, start, write


@pytest.fixture
def backend():
    return "qemu"


@pytest.mark.engine
def test_answer_arrives_as_it_streams(make_home, engine, claude_image, stub, authority):
    home = make_home()
    home.docker_host = engine.host
    write(home, stub, authority)
    # The first start makes disk and snapshot; the agent that is timed finds them.
    first = home.run("start", "coder", "--headless", "--", "claude", "--version", timeout=300)
    assert first.returncode == 0 and "Claude Code" in first.stdout, first.stdout + first.stderr
    check_streams(home, stub, start(home, "claude"), wait=120)
    records = home.records()
    assert any(r["verdict"] == "allow" and r.get("path") == "/v1/messages" for r in records), records
    assert not standin.find_secret(json.dumps(records).encode(), REAL_KEY)
