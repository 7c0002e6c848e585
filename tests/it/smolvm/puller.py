"""Fetches an image from a registry as smolvm 0.8.0 does: from inside the guest, under its policy. What
comes is believed for its digest only."""
import hashlib
import http.client
import ipaddress
import json
import os
import socket

TIMEOUT = 20
TEXT_MAX = 4 << 20
LAYER_MAX = 8 << 30
DNS = "1.1.1.1/32"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYERS = ("application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip",
          "application/vnd.oci.image.layer.v1.tar+zstd")


class PullError(Exception):
    pass


def effective(cidrs):
    """What 0.8.0 makes of a policy: its resolver is added, unless all is loopback or it is in there."""
    nets = [ipaddress.ip_network(c) for c in cidrs]
    if nets and all(n.is_loopback for n in nets) or any(ipaddress.ip_network(DNS).subnet_of(n)
                                                        for n in nets if n.version == 4):
        return list(cidrs)
    return list(cidrs) + [DNS]


def may_reach(address, cidrs):
    ip = ipaddress.ip_address(address)
    return any(ip in ipaddress.ip_network(c) for c in cidrs)


def reference(image):
    """(host, port, name, tag or digest) of host[:port]/name[:tag][@digest]."""
    host, slash, rest = image.partition("/")
    if not slash or not ("." in host or ":" in host):
        raise PullError(f"{image}: registries by name are out of this machine's reach")
    name, at, digest = rest.partition("@")
    name, _, tag = name.partition(":")
    address, _, port = host.partition(":")
    return address, int(port or 80), name, digest if at else tag or "latest"


class Puller:
    def __init__(self, image, cidrs):
        self.address, self.port, self.name, self.reference = reference(image)
        try:
            private = ipaddress.ip_address(self.address).is_private
        except ValueError:
            raise PullError(f"cannot resolve {self.address}: 1.1.1.1 does not answer") from None
        if not private:  # plain HTTP is for private addresses only; nothing here speaks TLS
            raise PullError(f"{self.address}: only a private address is spoken to without TLS")
        if not may_reach(self.address, effective(cidrs)):
            raise PullError(f"dial tcp {self.address}:{self.port}: the policy does not allow it")

    def get(self, path, **headers):
        c = http.client.HTTPConnection(self.address, self.port, timeout=TIMEOUT)
        try:
            c.request("GET", path, headers=headers)
            r = c.getresponse()
        except (OSError, http.client.HTTPException, socket.timeout) as e:
            raise PullError(f"GET http://{self.address}:{self.port}{path}: {e}") from None
        if r.status not in (200, 206):
            raise PullError(f"GET {path}: {r.status} {r.read(512).decode(errors='replace').strip()}")
        return r

    def text(self, path, digest=None, **headers):
        r = self.get(path, **headers)
        data = r.read(TEXT_MAX + 1)
        said = r.headers.get("Docker-Content-Digest")
        found = "sha256:" + hashlib.sha256(data).hexdigest()
        if len(data) > TEXT_MAX or any(d is not None and d != found for d in (said, digest)):
            raise PullError(f"{path}: its digest is {found}")
        return data, found, r.headers.get("Content-Type")

    def manifest(self):
        """(manifest, its digest, configuration)"""
        self.text("/v2/")
        digest = self.reference if self.reference.startswith("sha256:") else None
        data, found, kind = self.text(f"/v2/{self.name}/manifests/{self.reference}", digest, Accept=MANIFEST)
        m = json.loads(data)
        if kind != MANIFEST or m.get("schemaVersion") != 2 or m.get("mediaType", MANIFEST) != MANIFEST:
            raise PullError(f"the manifest is of another kind: {kind}")
        if any(layer["mediaType"] not in LAYERS for layer in m["layers"]):
            raise PullError("a layer is of a kind that is not known")
        config, _, _ = self.text(f"/v2/{self.name}/blobs/{m['config']['digest']}", m["config"]["digest"])
        if len(config) != m["config"]["size"]:
            raise PullError("the configuration has another size than the manifest says")
        return m, found, json.loads(config)

    def blob(self, layer, out):
        """Into the file out; where the connection breaks, it goes on from there, twice."""
        path = f"/v2/{self.name}/blobs/{layer['digest']}"
        if not 0 < layer["size"] <= LAYER_MAX:
            raise PullError(f"{path}: {layer['size']} bytes")
        digest, at = hashlib.sha256(), 0
        for _ in range(3):
            r = self.get(path, Range=f"bytes={at}-") if at else self.get(path)
            if at and r.status != 206:
                raise PullError(f"{path}: it cannot be gone on with")
            while piece := r.read(min(1 << 20, layer["size"] + 1 - at)):
                digest.update(piece)
                out.write(piece)
                at += len(piece)
            if at >= layer["size"]:
                break
        out.flush()
        if at != layer["size"] or "sha256:" + digest.hexdigest() != layer["digest"]:
            raise PullError(f"{path}: {at} bytes of digest sha256:{digest.hexdigest()}")


def pull(image, cidrs, folder):
    """Blobs that are not there yet as folder/HEX.tar; what is to be run, written to folder by the caller.
    (manifest, its digest, configuration)"""
    p = Puller(image, cidrs)
    m, digest, config = p.manifest()
    for layer in m["layers"]:
        hexa = layer["digest"].removeprefix("sha256:")
        if not (len(hexa) == 64 and hexa.isalnum()):
            raise PullError("a layer's digest is none")
        if os.path.exists(f"{folder}/{hexa}"):
            continue
        part = f"{folder}/{hexa}.{os.getpid()}.part"
        try:
            with open(part, "wb") as f:
                p.blob(layer, f)
            os.rename(part, f"{folder}/{hexa}.tar")
        finally:
            if os.path.exists(part):
                os.unlink(part)
    return m, digest, config
