"""Claude Code from its own image, in a container, against the stub of its API that streams."""
import json

import standin
from claude import REAL_KEY, check_streams, start, write


def test_answer_arrives_as_it_streams(make_home, engine, claude_image, stub, authority):
    home = make_home(engine=engine)
    write(home, stub, authority)
    check_streams(home, stub, start(home, "claude"), wait=60)
    records = home.records()
    assert any(r["verdict"] == "allow" and r.get("path") == "/v1/messages" for r in records), records
    assert not standin.find_secret(json.dumps(records).encode(), REAL_KEY)
    # Without a command it is the agent's own, with its prompt.
    stub.requests.clear()
    r = home.run("start", "coder", "--headless", "--prompt", "Say it again.", timeout=120)
    assert r.returncode == 0 and stub.answer_text in r.stdout, r.stdout + r.stderr
    assert stub.saw("Say it again.")
