"""The peer's addon: mitmproxy scanning URL, headers and body with 61 credential-shaped expressions,
and blocking on a match: the plain way to build what pipelock is."""
import os
import re

from mitmproxy import http

SHAPES = [
    r"sk-ant-[a-z0-9]{3,8}-[A-Za-z0-9_-]{20,}", r"sk-[A-Za-z0-9]{32,}", r"sk-proj-[A-Za-z0-9_-]{20,}",
    r"AKIA[0-9A-Z]{16}", r"ASIA[0-9A-Z]{16}", r"ghp_[A-Za-z0-9]{36}", r"gho_[A-Za-z0-9]{36}",
    r"ghu_[A-Za-z0-9]{36}", r"ghs_[A-Za-z0-9]{36}", r"github_pat_[A-Za-z0-9_]{60,}",
    r"glpat-[A-Za-z0-9_-]{20}", r"xox[baprs]-[A-Za-z0-9-]{10,}", r"AIza[0-9A-Za-z_-]{35}",
    r"ya29\.[0-9A-Za-z_-]{20,}", r"npm_[A-Za-z0-9]{36}", r"pypi-[A-Za-z0-9_-]{50,}",
    r"dop_v1_[a-f0-9]{64}", r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}", r"key-[0-9a-f]{32}",
    r"sk_live_[0-9a-zA-Z]{24,}", r"rk_live_[0-9a-zA-Z]{24,}", r"pk_live_[0-9a-zA-Z]{24,}",
    r"sq0atp-[0-9A-Za-z_-]{22}", r"sq0csp-[0-9A-Za-z_-]{43}", r"EAACEdEose0cBA[0-9A-Za-z]+",
    r"-----BEGIN (?:RSA |EC |OPENSSH |DSA )?PRIVATE KEY-----", r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.",
    r"hvs\.[A-Za-z0-9_-]{24,}", r"hvb\.[A-Za-z0-9_-]{24,}", r"dckr_pat_[A-Za-z0-9_-]{27}",
    r"lin_api_[A-Za-z0-9]{40}", r"secret_[A-Za-z0-9]{43}", r"ntn_[A-Za-z0-9]{40,}",
    r"shpat_[a-fA-F0-9]{32}", r"shpss_[a-fA-F0-9]{32}", r"hf_[A-Za-z0-9]{34}", r"r8_[A-Za-z0-9]{37}",
    r"gsk_[A-Za-z0-9]{48,}", r"xai-[A-Za-z0-9]{70,}", r"pplx-[A-Za-z0-9]{40,}", r"tfp_[A-Za-z0-9]{40,}",
    r"CCIPAT_[A-Za-z0-9]{22}_[a-f0-9]{40}", r"bkua_[a-z0-9]{40}", r"dapi[a-f0-9]{32}",
    r"NRAK-[A-Z0-9]{27}", r"glsa_[A-Za-z0-9]{32}_[a-f0-9]{8}", r"sntrys_[A-Za-z0-9_=-]{40,}",
    r"phc_[A-Za-z0-9]{40,}", r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}", r"rubygems_[a-f0-9]{48}",
    r"CFPAT-[A-Za-z0-9_-]{43}", r"sbp_[a-f0-9]{40}", r"vercel_[A-Za-z0-9]{24}", r"fly_[A-Za-z0-9]{40,}",
    r"figd_[A-Za-z0-9_-]{40,}", r"ATATT3[A-Za-z0-9_=-]{180,}", r"pul-[a-f0-9]{40}",
    r"AGE-SECRET-KEY-1[0-9A-Z]{58}", r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}",
    r"https://hooks\.slack\.com/services/T[A-Z0-9]+/B[A-Z0-9]+/[A-Za-z0-9]{24}",
    r"[MN][A-Za-z0-9]{23}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27}",
]
assert len(SHAPES) == 61
COMPILED = [re.compile(s.encode()) for s in SHAPES]


def has_match(data):
    return any(r.search(data) for r in COMPILED)


def server_connect(data):
    if data.server.address and data.server.address[0] == os.environ["BENCH_NAME"]:
        data.server.address = ("127.0.0.1", int(os.environ["BENCH_UPSTREAM_PORT"]))


def request(flow):
    r = flow.request
    head = "\n".join([r.path] + [f"{k}: {v}" for k, v in r.headers.items()]).encode()
    if has_match(head) or (r.raw_content and has_match(r.raw_content)):
        flow.response = http.Response.make(403, b"blocked")


def response(flow):
    if flow.response.raw_content and has_match(flow.response.raw_content):
        flow.response = http.Response.make(403, b"blocked")
