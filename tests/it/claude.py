"""What the tests of Claude Code in a bottle share: its manifest, its start, and the look at an answer
that must arrive as it streams."""
import json
import subprocess
import time

import bottle

REAL_KEY = "sk-ant-api03-" + "Rk9vQ2Fu" * 4 + "-TheRealKeyOfThisTest0001"


def write(home, stub, authority, **more):
    """The agent "coder" in a bottle that may ask the stub for messages, with a key of the host's."""
    home.secrets["CB_TEST_REAL_KEY"] = REAL_KEY
    home.write_bottle(
        "claude", provider="claude",
        routes=[bottle.route("api.anthropic.com", methods=["POST"], paths=["/v1/messages", "/v1/messages/*"],
                             auth={"scheme": "header", "header": "x-api-key",
                                   "env": "ANTHROPIC_API_KEY", "token_ref": "env:CB_TEST_REAL_KEY"})],
        resolve={"api.anthropic.com": stub.address}, ca=authority.path, **more)
    home.write_agent("coder", "claude", text="Answer in one sentence.")


def start(home, program, *more):
    return subprocess.Popen(
        home.argv(["start", "coder", "--headless", "--", program, "-p", "Say something.",
                   "--output-format", "stream-json", "--verbose", "--include-partial-messages", *more]),
        env=home.env(), cwd=home.cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)


def deltas_of(process):
    """[(time of arrival, text)] of the answer's pieces, and the result line."""
    pieces, result = [], None
    for line in process.stdout:
        now = time.time()
        try:
            said = json.loads(line)
        except ValueError:
            continue
        event = said.get("event", {})
        if event.get("type") == "content_block_delta":
            pieces.append((now, event["delta"].get("text", "")))
        if said.get("type") == "result":
            result = said
    return pieces, result


def check_streams(home, stub, process, late, wait=30):
    """The whole answer, piece by piece, half of them less than that late; the requests for it, which
    came with the real key."""
    pieces, result = deltas_of(process)
    error = process.stderr.read().decode()
    assert process.wait(wait) == 0, error + home.logs_of_all()
    assert result and result["result"] == stub.answer_text and not result["is_error"]
    assert len(pieces) == len(stub.sent)
    delays = [got - sent for (got, _), (sent, _) in zip(pieces, stub.sent)]
    spread = pieces[-1][0] - pieces[0][0]
    assert spread > 0.6 * (stub.sent[-1][0] - stub.sent[0][0]), (spread, delays)
    assert sorted(delays)[len(delays) // 2] < late, delays
    # The stub saw the real key, and never what stood in its place.
    asked = [r for r in stub.requests if r.path.startswith("/v1/messages")]
    assert asked and all(r.header("x-api-key") == REAL_KEY for r in asked)
    return asked
