"""A supervised bottle's wall: one more port, of which the agent is told and nobody else has it; a pause that
holds whichever role dies."""
import json
import os
import signal
import socket

import bottle
import pytest


@pytest.fixture
def home(make_home, upstream, authority):
    home = make_home()
    for name, supervise in (("asks", {"on_canary": "record"}), ("box", False)):
        home.write_bottle(name, routes=[bottle.route("api.example.test")], supervise=supervise, ca=authority.path,
                          resolve={"api.example.test": upstream.address})
        home.write_agent(name, name)
    return home


def control(running, message):
    """The keeper's answer to one message on its control socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(30)
        s.connect(f"{running.folder}/control.sock")
        s.send(message.encode())
        return json.loads(s.recv(65536)[1:])


def pause(running, is_paused):
    answer = control(running, "n" + json.dumps({"paused": is_paused, "face": "command"}))
    assert answer["in_force"], answer
    assert running.state()["paused"] is is_paused


def reason(running):
    """Of the refusal; "": it was let through."""
    out = running.exec("curl", "-s", "--max-time", "10", "http://bundle.invalid/", "-x",
                       "http://10.209.0.2:8888").stdout
    return json.loads(out).get("reason")


def status(running):
    return running.exec("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10",
                        "https://api.example.test/json").stdout


def test_the_port_is_there_when_asked_for(home):
    script = ('curl -s -o /dev/null -w "%{http_code} " --max-time 5 "http://10.209.0.2:9100/"; '
              'echo "[$CLAUDE_BOTTLE_SUPERVISE_URL]"; cat /etc/claude-bottle/mcp.json; '
              'echo x 2>/dev/null >> /etc/claude-bottle/mcp.json && echo WRITTEN')
    said = home.start("sh", "-c", script, agent="asks").stdout
    first, _, rest = said.partition("\n")
    assert first == "404 [http://10.209.0.2:9100/mcp]"
    assert json.loads(rest)["mcpServers"] == {
        "claude-bottle": {"type": "http", "url": "http://10.209.0.2:9100/mcp"}}
    r = home.start("sh", "-c", script, agent="box")
    assert r.stdout.splitlines()[0] == "000 []"
    assert "mcpServers" not in r.stdout


def test_a_pause_outlives_each_role(home, upstream):
    with home.background(agent="asks") as running:
        assert running.state()["supervised"] is True
        assert status(running) == "200"
        pause(running, True)
        before = upstream.connections
        for role in ("pipelock", "egress"):
            pids = running.roles()[role]
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            assert bottle.wait_until(lambda: set(running.roles().get(role, [])) - set(pids), 15)
            assert reason(running) == "network-paused"
            assert status(running) != "200"
        assert upstream.connections == before
        pause(running, False)
        assert status(running) == "200"
