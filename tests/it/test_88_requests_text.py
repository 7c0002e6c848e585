"""Whatever the agent writes: nothing in any place where a human reads it hides, moves or colours what stands
there."""
import glob
import json

import asking
import bottle

# Controls of both tables, overrides and isolates, invisible ones, tags, a line separator, fillers, a byte order mark.
HOSTILE = "\x1b[31m\x07\r\x08\x7f\x85\x9b2J\u202e\u2066\u200b\u200d\u2060\ufeff\u00ad\u2028\u115f\u3164\U000e0041"
STACK = "a" + "\u0301" * 100  # what is above and below is covered by it
NAME = "b\u00fccher.example.test"
# Newlines are ours.
BAD = set(HOSTILE) - set("[31m2J")


def shown(home, slug, number):
    """What a human reads of this bottle, by where it stands."""
    out = {}
    for words in (("list", slug, "--all"), ("show", slug, str(number)), ("audit", slug), ("grants", slug, "--all")):
        for more in ((), ("--json",)):
            r = home.run("requests", *words, *more)
            out[" ".join(("requests", words[0], *more))] = r.stdout + r.stderr
    out["list"] = home.run("list", "--all", "--json").stdout + home.run("list", "--all").stdout
    out["logs"] = home.run("logs", slug).stdout
    for name in ("log", "bottle.json", "policy.json", "records.jsonl"):
        out[name] = open(f"{home.state}/{slug}/{name}", encoding="utf-8", errors="surrogateescape").read()
    return out


def test_hostile_text_is_made_visible(make_home, upstream, authority):
    home = make_home()
    hook = f"{home.folder}/hook"
    home.write_bottle("box", routes=[bottle.route("api.example.test")], ca=authority.path,
                      resolve={"api.example.test": upstream.address},
                      supervise={"notify": f"env -0 | grep -az ^CLAUDE_BOTTLE_REQUEST > {hook}.new; mv {hook}.new {hook}"})
    home.write_agent()
    with home.background() as running:
        agent = asking.Agent(lambda script: running.exec("sh", "-c", script).stdout)
        human = asking.Human(home, running.slug)
        words = f"please {HOSTILE} {STACK} " + "x" * 500
        number = agent.call("request_egress", host=NAME, reason=words[:500], paths=["/a/" + "y" * 200],
                            wait_seconds=0)["id"]
        assert bottle.wait_until(lambda: glob.glob(hook), 5)
        heard = open(hook, encoding="utf-8", errors="surrogateescape").read()
        wish = agent.call("request_capability", what=words[:200], reason=HOSTILE, wait_seconds=0)["id"]
        assert agent.call("tell_human", message=words[:200])["state"] == "taken"
        human.approve(number, "--for-bottle", "--reason", HOSTILE)
        human.approve(wish)
        agent.call("request_egress", host="metadata.google.internal", reason=words[:500], wait_seconds=0)
        running.exec("curl", "-s", "--max-time", "5", f"https://{NAME}/{STACK[:50]}\u202e")
        seen = shown(home, running.slug, number)
        seen["notify"] = heard.replace("\0", "\n")
        for where, text in seen.items():
            found = {c for c in text if c in BAD or ("\udc80" <= c <= "\udcff")}
            assert not found, f"{where}: {[hex(ord(c)) for c in found]} in {text}"
            assert "\u0301" * 20 not in text, f"{where}: combining marks are stacked: {text}"
        assert "xn--bcher-kva.example.test" in seen["requests list"] and "\u00fc" not in seen["requests list"]
        assert "xn--bcher-kva" in seen["notify"]
        for line in seen["requests list"].splitlines():
            assert len(line) < 400, line
        for r in json.loads(home.run("requests", "list", running.slug, "--all", "--json").stdout):
            assert not BAD & set(json.dumps(r, ensure_ascii=False)), r
