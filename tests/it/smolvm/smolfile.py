"""The Smolfile of smolvm 0.8.0, as far as one may rely on it: the keys of the contract with their types,
and every other key refused, as the real one refuses what it does not know."""
import re

# Other modules where they are needed: a command starts in half the time without them.


class Refused(Exception):
    pass


def text(v):
    return isinstance(v, str)


def texts(v):
    return isinstance(v, list) and all(isinstance(x, str) for x in v)


def unsigned(bits):
    return lambda v: type(v) is int and 0 <= v < 1 << bits


TOP = {
    "image": (text, "a string"),
    "entrypoint": (texts, "a list of strings"),
    "cmd": (texts, "a list of strings"),
    "env": (texts, "a list of strings"),
    "workdir": (text, "a string"),
    "cpus": (unsigned(8), "u8"),
    "memory": (unsigned(32), "u32"),
    "volumes": (texts, "a list of strings"),
}
NETWORK = {"allow_cidrs": (texts, "a list of strings")}

IMAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.:/@_-]{0,511}\Z")


def check(table, schema, where):
    for key, value in table.items():
        if key not in schema:
            raise Refused(f"unknown field `{key}`{where}, expected one of "
                          + ", ".join(f"`{k}`" for k in schema))
        is_good, expected = schema[key]
        if not is_good(value):
            raise Refused(f"invalid type for `{key}`{where}: {value!r}, expected {expected}")


def cidr(s):
    """As normalised; a bare address is one of full length."""
    import ipaddress
    try:
        return str(ipaddress.ip_network(s, strict=False))
    except ValueError:
        raise Refused(f"invalid CIDR '{s}': expected format like 10.0.0.0/8 or 1.1.1.1") from None


def env_pairs(entries):
    for e in entries:
        name, equals, _ = e.partition("=")
        if not name or not equals or "\0" in e:
            raise Refused(f"invalid environment variable '{e}': expected KEY=VALUE")
    return list(entries)


def parse(content):
    """The machine that a Smolfile describes."""
    import tomllib
    try:
        f = tomllib.loads(content)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise Refused(str(e)) from None
    network = f.pop("network", {})
    if not isinstance(network, dict):
        raise Refused("invalid type for `network`, expected a table")
    check(f, TOP, "")
    check(network, NETWORK, " in `network`")
    if "image" in f and not IMAGE.match(f["image"]):
        raise Refused(f"invalid image reference '{f['image']}'")
    if "workdir" in f and not f["workdir"].startswith("/"):
        raise Refused("workdir must be absolute")
    if f.get("volumes"):
        raise Refused("the double shares no folders: no test may come to rely on one")
    return {
        "image": f.get("image"),
        "entrypoint": f.get("entrypoint", []),
        "cmd": f.get("cmd", []),
        "env": env_pairs(f.get("env", [])),
        "workdir": f.get("workdir"),
        "cpus": f.get("cpus", 4),
        "memory": f.get("memory", 8192),
        "allow_cidrs": [cidr(c) for c in network.get("allow_cidrs", [])],
    }


def load(path):
    try:
        with open(path, encoding="utf-8") as f:
            return parse(f.read())
    except (OSError, UnicodeDecodeError) as e:
        raise Refused(f"{path}: {e}") from None
