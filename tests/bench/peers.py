"""The benchmark's surroundings: an nginx upstream, and the proxies that it is compared with.

All listen on loopback, run from a scratch folder and are ended by the process that started them.
Each peer has start() -> self, port, pids(), stop().
"""
import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "it"))

NAME = "bench.test"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(port, process, seconds=20, log=None):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.001)
    text = open(log, errors="replace").read()[-2000:] if log and os.path.exists(log) else ""
    raise RuntimeError(f"nothing answers on port {port}: {text}")


def children(pid):
    """pid and all processes below it."""
    out = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in open(f"/proc/{pid}/task/{task}/children").read().split():
                out += children(int(child))
    except (FileNotFoundError, ProcessLookupError):
        pass
    return out


def pss_kib(pids):
    total = 0
    for pid in pids:
        try:
            for line in open(f"/proc/{pid}/smaps_rollup"):
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total


def cpu_seconds(pids):
    ticks = 0
    for pid in pids:
        try:
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return ticks / os.sysconf("SC_CLK_TCK")


class Process:
    process = None

    def spawn(self, argv, log, **kw):
        self.log = log
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=open(log, "ab"),
                                        stderr=subprocess.STDOUT, start_new_session=True, **kw)
        return self.process

    def pids(self):
        return children(self.process.pid)

    def stop(self):
        if not self.process or self.process.poll() is not None:
            return
        group = self.process.pid
        os.killpg(group, signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


class Nginx(Process):
    """TLS upstream: /1k /100k /10m to GET, /post to POST."""

    def __init__(self, folder, certificate):
        self.folder = os.path.join(folder, "nginx")
        os.makedirs(self.folder + "/www")
        self.port = free_port()
        for name, size in (("1k", 1024), ("10k", 10240), ("100k", 102400), ("10m", 10 << 20)):
            # Text of the kind that an API sends: what a scanner has to look at.
            line = b'{"id":%d,"path":"src/module_%d/file.c","text":"a line of ordinary text"}\n'
            text = b"".join(line % (i, i) for i in range(size // 50))
            with open(f"{self.folder}/www/{name}", "wb") as f:
                f.write(text[:size].ljust(size))
        as_root = "user root;" if os.geteuid() == 0 else ""
        with open(self.folder + "/nginx.conf", "w") as f:
            f.write(f"""
{as_root} daemon off; master_process off; pid {self.folder}/pid; error_log {self.folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600; sendfile on; tcp_nodelay on;
  client_body_temp_path {self.folder}/b; proxy_temp_path {self.folder}/p; fastcgi_temp_path {self.folder}/f;
  uwsgi_temp_path {self.folder}/u; scgi_temp_path {self.folder}/s; client_body_buffer_size 64k;
  types {{}} default_type application/json; open_file_cache max=100;
  ssl_certificate {certificate}; ssl_certificate_key {certificate};
  ssl_protocols TLSv1.3 TLSv1.2; ssl_session_cache none; ssl_session_tickets on; ssl_buffer_size 16k;
  server {{ listen 127.0.0.1:{self.port} ssl backlog=4096; root {self.folder}/www;
    # Answered only after the whole body was read: an answer before that makes some proxies drop
    # the connection, which would be measured instead.
    location = /post {{ proxy_pass http://inner/; proxy_pass_request_body off;
      proxy_set_header Content-Length ""; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
  upstream inner {{ server unix:{self.folder}/inner; keepalive 64; keepalive_requests 1000000000; }}
  server {{ listen unix:{self.folder}/inner; return 200 '{{"ok":true}}'; }}
}}""")

    def start(self):
        self.spawn(["nginx", "-p", self.folder, "-c", self.folder + "/nginx.conf"], self.folder + "/log")
        wait_port(self.port, self.process, log=self.log)
        return self


class Squid(Process):
    name = "squid"

    def __init__(self, folder, authority, upstream_port):
        self.folder, self.port = os.path.join(folder, "squid"), free_port()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        self.ca = make_ca(self.folder, "squid bench")
        # Squid refuses to run as root; its package brings this user.
        as_root = "cache_effective_user proxy" if os.geteuid() == 0 else ""
        with open(self.folder + "/hosts", "w") as f:
            f.write(f"127.0.0.1 {NAME}\n")
        with open(self.folder + "/squid.conf", "w") as f:
            f.write(f"""
http_port 127.0.0.1:{self.port} ssl-bump tls-cert={self.folder}/ca-key.pem generate-host-certificates=on dynamic_cert_mem_cache_size=4MB
sslcrtd_program /usr/lib/squid/security_file_certgen -s {self.folder}/db -M 4MB
sslcrtd_children 2 startup=1 idle=1
ssl_bump bump all
tls_outgoing_options cafile={authority.path}
hosts_file {self.folder}/hosts
http_access allow all
cache deny all
cache_mem 8 MB
memory_pools on
access_log stdio:{self.folder}/access.log
cache_log {self.folder}/cache.log
pid_filename {self.folder}/pid
coredump_dir {self.folder}
shutdown_lifetime 0 seconds
pinger_enable off
max_filedescriptors 8192
client_idle_pconn_timeout 10 minutes
server_idle_pconn_timeout 10 minutes
server_pconn_for_nonretriable allow all
visible_hostname bench
{as_root}
""")
        subprocess.run(["/usr/lib/squid/security_file_certgen", "-c", "-s", f"{self.folder}/db", "-M", "4MB"],
                       check=True, capture_output=True)
        if as_root:
            subprocess.run(["chown", "-R", "proxy", self.folder], check=True)

    def start(self):
        self.service = f"cb{os.getpid()}p{self.port}"
        self.spawn(["squid", "-N", "-n", self.service, "-f", self.folder + "/squid.conf"], self.folder + "/log")
        wait_port(self.port, self.process, log=self.folder + "/cache.log")
        return self

    def stop(self):
        super().stop()
        # A squid that is ended hard leaves its shared memory.
        for name in glob.glob(f"/dev/shm/{self.service}*"):
            os.unlink(name)


class Mitmproxy(Process):
    name = "mitmproxy"

    def __init__(self, folder, authority, upstream_port):
        self.folder, self.port, self.authority = os.path.join(folder, "mitm"), free_port(), authority
        self.upstream_port = upstream_port
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        self.ca = self.folder + "/mitmproxy-ca-cert.pem"

    def start(self):
        # /usr/bin/python3 by name: another Python may come first in PATH.
        self.spawn(["/usr/bin/python3", "/usr/bin/mitmdump", "-q", "--listen-host", "127.0.0.1", "-p",
                    str(self.port), "--set", f"confdir={self.folder}", "--set",
                    f"ssl_verify_upstream_trusted_ca={self.authority.path}", "--set",
                    "connection_strategy=lazy", "--set", "stream_large_bodies=5m", "--set",
                    "flow_detail=0", "-s",
                    os.path.join(HERE, "mitm_scan.py")], self.folder + "/log",
                   env=dict(os.environ, BENCH_UPSTREAM_PORT=str(self.upstream_port), BENCH_NAME=NAME))
        wait_port(self.port, self.process, log=self.log)
        return self


def make_ca(folder, name):
    from standin import Authority
    from cryptography.hazmat.primitives import serialization
    a = Authority(folder, name)
    with open(folder + "/ca-key.pem", "wb") as f:
        f.write(a.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                    serialization.NoEncryption()))
        f.write(a.pem.encode())
    return a.path
