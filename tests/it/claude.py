"""What the tests of Claude Code in a bottle share: its manifest, its start, and the look at an answer
that must arrive as it streams."""
import json
import subprocess
import threading

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


def deltas_of(process, heard=lambda: None):
    """The answer's pieces, each told to heard() as it comes, and the result line."""
    pieces, result = [], None
    for line in process.stdout:
        try:
            said = json.loads(line)
        except ValueError:
            continue
        event = said.get("event", {})
        if event.get("type") == "content_block_delta":
            pieces.append(event["delta"].get("text", ""))
            heard()
        if said.get("type") == "result":
            result = said
    return pieces, result


def check_streams(home, stub, process, wait=30):
    """The whole answer, piece by piece: the stub sends none before the one before it has been read here, so
    that a hop which waits for more makes it fail, and a slow one does not. Returns the requests for it, which
    came with the real key."""
    stub.heard = threading.Semaphore(0)
    pieces, result = deltas_of(process, stub.heard.release)
    error = process.stderr.read().decode()
    assert process.wait(wait) == 0, error + home.logs_of_all()
    assert stub.unheard is None, (stub.unheard, pieces)
    assert result and result["result"] == stub.answer_text and not result["is_error"]
    assert pieces == [text for _, text in stub.sent]
    stub.heard = None
    # The stub saw the real key, and never what stood in its place.
    asked = [r for r in stub.requests if r.path.startswith("/v1/messages")]
    assert asked and all(r.header("x-api-key") == REAL_KEY for r in asked)
    return asked
