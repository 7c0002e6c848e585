"""Claude Code from its own image, in a container, against the stub of its API that streams."""
import json
import subprocess

import bottle
import pytest
import standin
from test_34_claude_code import REAL_KEY, deltas_of, stub  # noqa: F401


@pytest.fixture(scope="module")
def claude_image(image_of):
    try:
        return image_of("claude")
    except AssertionError as e:
        text = str(e)
        if any(x in text for x in ("Could not resolve", "Failed to connect", "timed out", "curl: (")):
            pytest.skip("the image of Claude Code cannot be built, its registry is not reached: " +
                        text.strip()[-300:])
        raise


def test_answer_arrives_as_it_streams(make_home, engine, claude_image, stub, authority):  # noqa: F811
    home = make_home(engine=engine)
    home.secrets["CB_TEST_REAL_KEY"] = REAL_KEY
    home.write_bottle(
        "claude", provider="claude",
        routes=[bottle.route("api.anthropic.com", methods=["POST"], paths=["/v1/messages", "/v1/messages/*"],
                             auth={"scheme": "header", "header": "x-api-key",
                                   "env": "ANTHROPIC_API_KEY", "token_ref": "env:CB_TEST_REAL_KEY"})],
        resolve={"api.anthropic.com": stub.address}, ca=authority.path)
    home.write_agent("coder", "claude", text="Answer in one sentence.")
    p = subprocess.Popen(
        home.argv(["start", "coder", "--headless", "--", "claude", "-p", "Say something.", "--output-format",
                   "stream-json", "--verbose", "--include-partial-messages"]),
        env=home.env(), cwd=home.cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    pieces, result = deltas_of(p)
    error = p.stderr.read().decode()
    assert p.wait(60) == 0, error + home.logs_of_all()
    assert result and result["result"] == stub.answer_text and not result["is_error"]
    assert len(pieces) == len(stub.sent)
    late = [got - sent for (got, _), (sent, _) in zip(pieces, stub.sent)]
    spread = pieces[-1][0] - pieces[0][0]
    assert spread > 0.6 * (stub.sent[-1][0] - stub.sent[0][0]), (spread, late)
    assert sorted(late)[len(late) // 2] < 0.2, late
    asked = [r for r in stub.requests if r.path.startswith("/v1/messages")]
    assert asked and all(r.header("x-api-key") == REAL_KEY for r in asked)
    records = home.records()
    assert any(r["verdict"] == "allow" and r.get("path") == "/v1/messages" for r in records), records
    assert not standin.find_secret(json.dumps(records).encode(), REAL_KEY)
    # Without a command it is the agent's own, with its prompt.
    stub.requests.clear()
    r = home.run("start", "coder", "--headless", "--prompt", "Say it again.", timeout=120)
    assert r.returncode == 0 and stub.answer_text in r.stdout, r.stdout + r.stderr
    assert stub.saw("Say it again.")
