"""Claude Code in a virtual machine, against the stub of its API that streams. Its program is built for
processors that a plain emulated one is not: on the wrong model it ends with SIGILL."""
import json

import pytest
import standin
from claude import REAL_KEY, check_streams, start, write


@pytest.fixture
def backend():
    return "qemu"


def test_answer_arrives_as_it_streams(make_home, stub, authority):
    home = make_home()
    write(home, stub, authority)
    # The first start makes image and snapshot; the agent that is timed finds them.
    first = home.run("start", "coder", "--headless", "--", "claude", "--version", timeout=600)
    if any(x in first.stderr for x in ("Could not resolve", "Failed to connect", "timed out", "curl: (")):
        pytest.skip("the image of Claude Code cannot be made, its registry is not reached: " + first.stderr[-300:])
    assert first.returncode == 0 and "Claude Code" in first.stdout, first.stdout + first.stderr
    check_streams(home, stub, start(home, "claude"), late=1, wait=120)
    records = home.records()
    assert any(r["verdict"] == "allow" and r.get("path") == "/v1/messages" for r in records), records
    assert not standin.find_secret(json.dumps(records).encode(), REAL_KEY)
