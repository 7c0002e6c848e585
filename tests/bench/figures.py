"""What all measurements of `make bench` share: the lines that are printed, and the client's runs."""
import json
import os
import re
import statistics
import subprocess
import sys
import time

import bottle
import peers

QUICK = "--quick" in sys.argv
ONLY = (sys.argv[sys.argv.index("--only") + 1].split(",") if "--only" in sys.argv else None)
ROUNDS = 1 if QUICK else 3
SECONDS = 1.5 if QUICK else 2.5
LOAD = os.path.join(bottle.build_folder(), "tests", "bench", "load")


def wanted(*names):
    return ONLY is None or any(n.startswith(o) for n in names for o in ONLY)


def note(text):
    print(text, file=sys.stderr, flush=True)


def emit(name, value, unit, peer=None, peer_value=None, is_lower_better=False):
    line = {"name": name, "value": None if value is None else round(value, 4), "unit": unit}
    if peer:
        line["peer"] = peer
        line["peer_value"] = None if peer_value is None else round(peer_value, 4)
        if value and peer_value:
            line["ratio"] = round(peer_value / value if is_lower_better else value / peer_value, 3)
    print(json.dumps(line), flush=True)


def mib(kib):
    return None if kib is None else kib / 1024


def stamped(argv, **kw):
    """Milliseconds from just before argv is started (to the stamp that `date` prints inside, to its
    end)."""
    began, began_ns = time.monotonic(), time.time_ns()
    r = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, **kw)
    whole = (time.monotonic() - began) * 1000
    m = re.search(r"^(\d{18,20})\s*$", r.stdout, re.M)
    if not m:
        raise RuntimeError(f"no stamp: {r.stdout[-200:]} {r.stderr[-500:]}")
    return (int(m.group(1)) - began_ns) / 1e6, whole


def stamp_ms(argv, **kw):
    return stamped(argv, **kw)[0]


def run_load(argv, world):
    if "--target" not in argv:
        argv = [*argv, "--target", world.target]
    return parse_load(subprocess.run(argv, capture_output=True, text=True, timeout=120), world)


def parse_load(r, world):
    lines = [s for s in r.stdout.splitlines() if s.startswith("{")]
    if not lines:
        raise RuntimeError(f"the client said nothing: {r.stdout[-300:]} {r.stderr[-500:]}")
    out = json.loads(lines[-1])
    if out["errors"] or out["refused"]:
        note(f"    ! {out['errors']} errors, {out['refused']} refused: {out['first_error']}")
    return out


def rounds(contestants, *args):
    """{name: median of each figure} over interleaved rounds; with the CPU time per request."""
    results = {c.name: [] for c in contestants}
    for _ in range(ROUNDS):
        for c in contestants:
            pids = c.pids()
            before = peers.cpu_seconds(pids)
            r = c.load(*args, "--seconds", str(SECONDS), "--warmup", "0.3")
            done = r["requests"] + r["per_second"] * 0.3
            r["cpu_us"] = (peers.cpu_seconds(pids) - before) * 1e6 / done if done and pids else 0
            results[c.name].append(r)
    out = {}
    for name, rs in results.items():
        out[name] = {k: statistics.median(r[k] for r in rs) for k in rs[0]
                     if isinstance(rs[0][k], (int, float))}
        note(f"    {name:14} {out[name]['per_second']:10.0f}/s {out[name]['mib_per_second']:8.1f} MiB/s"
             f"  p50 {out[name]['p50_us']:8.0f} us  p99 {out[name]['p99_us']:8.0f} us"
             f"  cpu {out[name]['cpu_us']:6.0f} us")
    return out


def compare(results, name, key, unit, is_lower_better=False, minus_direct=False, ours="claude-bottle"):
    """Of rounds(), ours beside each of the others."""
    def value(who):
        if who not in results:
            return None
        v = results[who][key]
        return max(v - results["direct"][key], 0.1) if minus_direct else v
    others = [n for n in results if n not in ("direct", ours)]
    for peer in others:
        emit(name, value(ours), unit, peer, value(peer), is_lower_better)
    if not others:
        emit(name, value(ours), unit)


def settled_kib(pids):
    """Proportional set size of these processes once it has stopped moving."""
    last = peers.pss_kib(pids)
    for _ in range(10):
        time.sleep(0.2)
        now = peers.pss_kib(pids)
        if abs(now - last) < 64:
            break
        last = now
    return now


def settled_pss(c):
    return settled_kib(c.pids())


def medians(pairs):
    return [statistics.median(column) for column in zip(*pairs)]


def alternating(pairs, ours, peer):
    """(medians of ours, medians of peer) of so many pairs, each after the other in turn; each is a
    function that returns a tuple. A first pair does not count."""
    results = ([], [])
    for i in range(pairs + 1):
        order = ((0, ours), (1, peer)) if i % 2 else ((1, peer), (0, ours))
        for which, measure in order:
            got = measure()
            if i > 0:
                results[which].append(got)
    return medians(results[0]), medians(results[1])


def timed_ms(argv, **kw):
    began = time.monotonic()
    r = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, **kw)
    took = (time.monotonic() - began) * 1000
    if r.returncode != 0:
        raise RuntimeError(f"{argv}: {r.returncode} {r.stderr[-500:]}")
    return (took,)
