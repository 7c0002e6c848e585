"""Where a credential's value may not be: in no log, record, state file, command line, environment or
memory but those of keyd and egress, in no encoding."""
import glob
import json
import os

import bottle
import pytest
import standin
from session import wait_for

TOKEN = "tok-" + "N3wY0rkB3rl1nT0ky0" * 2 + "-real"
OTHER = "sk-other-" + "9f8e7d6c5b4a" * 3


@pytest.fixture
def secret_home(make_home, upstream, authority):
    home = make_home()
    home.secrets.update(CB_TOKEN=TOKEN, CB_OTHER=OTHER)
    auth = {"scheme": "bearer", "env": "API_TOKEN", "token_ref": "env:CB_TOKEN"}
    other = {"scheme": "bearer", "env": "OTHER_TOKEN", "token_ref": "env:CB_OTHER"}
    home.write_bottle("box", routes=[bottle.route("api.example.test", paths=["/**"], auth=auth),
                                     bottle.route("other.example.test", paths=["/**"], auth=other)],
                      resolve={"api.example.test": upstream.address,
                               "other.example.test": upstream.address}, ca=authority.path)
    home.write_agent()
    return home


SCRIPT = r"""
A='https://api.example.test'
auth() { curl -sS --max-time 10 -H "Authorization: Bearer $API_TOKEN" "$@"; echo; }
auth "$A/echo"
auth -d "keep $API_TOKEN" "$A/upload"
auth "$A/json?token=$API_TOKEN"
curl -sS --max-time 10 -H "Authorization: Bearer $OTHER_TOKEN" "$A/json"; echo
curl -sS --max-time 10 -H "Authorization: Bearer stolen-key-of-somebody" "$A/json"; echo
curl -sS --max-time 10 "$A/json"; echo
true
"""


def test_injected_and_scrubbed(secret_home, upstream):
    r = secret_home.start("bash", "-c", SCRIPT)
    assert r.returncode == 0, r.stderr + secret_home.logs_of_all()
    first = r.stdout.splitlines()[0]
    assert json.loads(first)["path"] == "/echo", r.stdout
    # The upstream got the real one and told it to us; what came back does not have it.
    assert upstream.requests[0].header("authorization") == "Bearer " + TOKEN
    assert not standin.find_secret(r.stdout.encode(), TOKEN)
    # The attacker's own key, another route's placeholder, and no key at all never arrive.
    assert not upstream.saw("stolen-key-of-somebody") and not upstream.saw(OTHER)
    assert all(x.header("authorization") == "Bearer " + TOKEN for x in upstream.requests)


def test_value_is_nowhere(secret_home, upstream):
    running = secret_home.background("bash", "-c", SCRIPT + "\nsleep 600")
    with running:
        end = bottle.time.monotonic() + 20
        while len(secret_home.records()) < 6 and bottle.time.monotonic() < end:
            bottle.time.sleep(0.05)
        assert upstream.saw(TOKEN), "control: the real value went to the upstream"
        # Until nothing of the script ends while it is looked at.
        wait_for(lambda: any(bottle.cmdline(p) == ["sleep", "600"] for p in running.roles()["agent"]))
        roles = running.roles()
        # /proc/*/cmdline of every process of this machine
        for pid in bottle.all_processes():
            try:
                line = open(f"/proc/{pid}/cmdline", "rb").read()
            except OSError:
                continue
            assert not standin.find_secret(line, TOKEN), line
        inside = roles["agent"] + roles.get("bwrap", [])
        for pid in inside + [p for r in ("init", "record", "keyd", "egress", "pipelock")
                             for p in roles[r]]:
            try:
                environ = open(f"/proc/{pid}/environ", "rb").read()
            except PermissionError:
                continue
            assert not standin.find_secret(environ, TOKEN), bottle.cmdline(pid)
        if os.geteuid() == 0:
            for pid in inside + roles["pipelock"] + roles["record"] + roles["init"]:
                found, read = standin.memory_finds(pid, TOKEN)
                assert not found, (bottle.role_of(pid), bottle.cmdline(pid), found)
                assert read > 50_000, bottle.cmdline(pid)
            # control: where it belongs, it is found
            assert "plain" in standin.memory_finds(roles["keyd"][0], TOKEN)[0]
        n = 0
        for top in (secret_home.folder, secret_home.cache):
            for path in glob.glob(f"{top}/**", recursive=True, include_hidden=True):
                if os.path.isfile(path) and not os.path.islink(path):
                    n += 1
                    data = open(path, "rb").read()
                    for value in (TOKEN, OTHER):
                        assert not standin.find_secret(data, value), path
        assert n > 5
    r = secret_home.run("logs", running.slug)
    assert not standin.find_secret((r.stdout + r.stderr).encode(), TOKEN)


def test_own_secret_is_stopped_in_any_dress(secret_home, upstream):
    """The bottle's own secrets are known exactly. Were one to leak inside, it would not get out."""
    import base64
    b64 = base64.b64encode(b"xy" + TOKEN.encode()).decode()
    wrong = OTHER
    script = f"""
A='https://api.example.test'
H="Authorization: Bearer $API_TOKEN"
for d in '{TOKEN}' '{b64}' '{TOKEN.encode().hex()}' '{wrong}'; do
  curl -sS -o /dev/null -w '%{{http_code}}\\n' -H "$H" -d "note=$d" $A/upload
  curl -sS -o /dev/null -w '%{{http_code}}\\n' -H "$H" "$A/json?q=$d"
  curl -sS -o /dev/null -w '%{{http_code}}\\n' -H "$H" -H "X-Note: $d" $A/json
done
curl -sS -o /dev/null -w '%{{http_code}}\\n' -H "$H" -d "note=nothing" $A/upload
"""
    r = secret_home.start("bash", "-c", script)
    codes = r.stdout.split()
    assert codes == ["403"] * 12 + ["200"], r.stdout + r.stderr
    assert len(upstream.requests) == 1
    assert not upstream.saw(b64) and not upstream.saw(TOKEN.encode().hex()) and not upstream.saw(OTHER)
