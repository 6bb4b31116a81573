# SPDX-License-Identifier: Apache-2.0
"""Images made from the system's static busybox: layers, configs, manifests and indexes as Python values, written as an
OCI layout, as a Docker archive, or pushed to a registry over its HTTP API."""

import dataclasses
import functools
import gzip
import hashlib
import io
import json
import pathlib
import platform
import shutil
import struct
import subprocess
import tarfile
import urllib.error
import urllib.request

from . import env, proc

OCI = {
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "index": "application/vnd.oci.image.index.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
DOCKER = {
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "": "application/vnd.docker.image.rootfs.diff.tar",
    "gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "zstd": "application/vnd.docker.image.rootfs.diff.tar.zstd",
}
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
APPLETS = (
    "sh true false echo cat sleep ls mkdir rm touch id pwd env printf dd head tail wc ps kill test stty seq sha256sum "
    "mount umount grep stat date yes tr cut hostname readlink chmod nc awk find df sync"
).split()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def is_static(path):
    """True for an ELF program that names no interpreter."""
    data = pathlib.Path(path).read_bytes()
    start, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    return all(struct.unpack_from("<I", data, start + i * size)[0] != 3 for i in range(count))


@functools.lru_cache(maxsize=1)
def busybox_path():
    """The system's, if it is the static one, or Debian's static one, unpacked beside the other peers."""
    places = [shutil.which("busybox"), env.PEERS / "deb" / "bin" / "busybox", env.PEERS / "deb" / "usr" / "bin" / "busybox"]
    found = [p for p in places if p and pathlib.Path(p).exists() and is_static(p)]
    assert found, "there is no static busybox (scripts/deps test)"
    return found[0]


def busybox():
    return pathlib.Path(busybox_path()).read_bytes()


def entry(name, kind="file", data=b"", mode=None, uid=0, gid=0, link="", xattrs=None, device=(0, 0), mtime=1600000000):
    """One tar entry: (TarInfo, bytes)."""
    info = tarfile.TarInfo(name)
    kinds = {
        "file": (tarfile.REGTYPE, 0o644),
        "dir": (tarfile.DIRTYPE, 0o755),
        "symlink": (tarfile.SYMTYPE, 0o777),
        "hardlink": (tarfile.LNKTYPE, 0o644),
        "fifo": (tarfile.FIFOTYPE, 0o600),
        "char": (tarfile.CHRTYPE, 0o600),
        "block": (tarfile.BLKTYPE, 0o600),
    }
    info.type, info.mode = kinds[kind]
    if mode is not None:
        info.mode = mode
    info.uid, info.gid, info.linkname, info.mtime = uid, gid, link, mtime
    info.devmajor, info.devminor = device
    data = data.encode() if isinstance(data, str) else data
    info.size = len(data)
    if xattrs:
        info.pax_headers = {f"SCHILY.xattr.{k}": v for k, v in xattrs.items()}
    return info, data


def tar(entries, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def compress(data, how):
    if how == "gzip":
        return gzip.compress(data, 6, mtime=0)
    if how == "zstd":
        return subprocess.run(["zstd", "-q", "-3", "-c"], input=data, capture_output=True, check=True).stdout
    return data


@dataclasses.dataclass
class Blob:
    data: bytes
    media_type: str
    extra: dict = dataclasses.field(default_factory=dict)

    @property
    def digest(self):
        return digest(self.data)

    @property
    def descriptor(self):
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data), **self.extra}


class Image:
    """One manifest with its config and layers. layers: tar bytes; a layer's diff id is that of the tar."""

    def __init__(self, layers, config=None, compression="gzip", media=None, arch=ARCH, osname="linux", diff_ids=None):
        self.media = media or OCI
        self.arch, self.os = arch, osname
        self.tars = layers
        self.diff_ids = diff_ids or [digest(t) for t in layers]
        self.layers = [Blob(compress(t, compression), self.media[compression]) for t in layers]
        text = {
            "created": "2020-01-02T03:04:05Z",
            "architecture": arch,
            "os": osname,
            "config": {"Env": ["PATH=/bin", "FROM=image"], "Cmd": ["sh"], "WorkingDir": "/", **(config or {})},
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
            "history": [{"created": "2020-01-02T03:04:05Z", "created_by": f"layer {i}"} for i in range(len(layers))],
        }
        self.config = Blob(json.dumps(text).encode(), self.media["config"])
        self.make_manifest()

    def make_manifest(self):
        text = {
            "schemaVersion": 2,
            "mediaType": self.media["manifest"],
            "config": self.config.descriptor,
            "layers": [layer.descriptor for layer in self.layers],
        }
        self.manifest = Blob(json.dumps(text).encode(), self.media["manifest"])

    @property
    def top(self):
        return self.manifest

    @property
    def blobs(self):
        return [self.config, *self.layers]

    @property
    def manifests(self):
        return [self.manifest]


class Index:
    """Several images under one name, one for each platform."""

    def __init__(self, images, media=None, extra_manifests=()):
        self.images = images
        self.media = media or OCI
        entries = [
            {**i.manifest.descriptor, "platform": {"architecture": i.arch, "os": i.os}} for i in images
        ] + list(extra_manifests)
        text = {"schemaVersion": 2, "mediaType": self.media["index"], "manifests": entries}
        self.top = Blob(json.dumps(text).encode(), self.media["index"])

    @property
    def blobs(self):
        return [b for i in self.images for b in i.blobs]

    @property
    def manifests(self):
        return [m for i in self.images for m in i.manifests] + [self.top]


def base_entries():
    """A root file system with busybox, users, and the usual empty directories."""
    found = [entry(d, "dir") for d in ("bin", "etc", "proc", "sys", "dev", "root", "home", "mnt")]
    found.append(entry("tmp", "dir", mode=0o1777))
    found.append(entry("etc/passwd", data="root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n"))
    found.append(entry("etc/group", data="root:x:0:\nuser:x:1000:\nextra:x:2000:user\n"))
    found.append(entry("bin/busybox", data=busybox(), mode=0o755))
    found += [entry(f"bin/{a}", "symlink", link="busybox") for a in APPLETS]
    return found


@functools.lru_cache(maxsize=1)
def base_layer():
    return tar(base_entries())


def second_layer():
    return tar([entry("etc/motd", data="hello from the second layer\n"), entry("mnt/.wh..wh..opq", data="")])


def simple(compression="gzip", media=None, arch=ARCH, config=None, more=()):
    """The ordinary image of these tests: busybox and a small second layer."""
    return Image([base_layer(), second_layer(), *more], config, compression, media, arch)


def write_layout(image, directory, name="latest"):
    """An OCI image layout; name becomes org.opencontainers.image.ref.name."""
    directory = pathlib.Path(directory)
    (directory / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    for blob in (*image.blobs, *image.manifests):
        (directory / "blobs" / "sha256" / blob.digest[7:]).write_bytes(blob.data)
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    top = {**image.top.descriptor, "annotations": {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    return directory


def oci_archive(image, path, name="latest"):
    path = pathlib.Path(path)
    directory = write_layout(image, path.with_suffix(".layout"), name)
    with tarfile.open(path, "w") as archive:
        for part in ("oci-layout", "index.json", "blobs"):
            archive.add(directory / part, part)
    shutil.rmtree(directory)
    return path


def docker_archive(image, path, name):
    """What `docker save` of old wrote: manifest.json, config and plain layers, no index."""
    found = []
    layers = []
    for i, data in enumerate(image.tars):
        found.append(entry(f"{i:064x}/layer.tar", data=data))
        layers.append(f"{i:064x}/layer.tar")
    config = json.loads(image.config.data)
    config["rootfs"]["diff_ids"] = [digest(t) for t in image.tars]
    data = json.dumps(config).encode()
    config_name = digest(data)[7:] + ".json"
    found.append(entry(config_name, data=data))
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": layers}]
    found.append(entry("manifest.json", data=json.dumps(manifest)))
    pathlib.Path(path).write_bytes(tar(found))
    return pathlib.Path(path)


def push(image, registry, name, tag="latest"):
    """Push over the registry's HTTP API, and return the reference. No client stands between the test and the bytes."""
    base = f"http://{registry}/v2/{name}"
    for blob in image.blobs:
        try:
            urllib.request.urlopen(urllib.request.Request(f"{base}/blobs/{blob.digest}", method="HEAD"), timeout=30).close()
            continue
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
        with urllib.request.urlopen(urllib.request.Request(f"{base}/blobs/uploads/", method="POST"), timeout=30) as answer:
            where = answer.headers["Location"]
        where = where if where.startswith("http") else f"http://{registry}{where}"
        where += ("&" if "?" in where else "?") + "digest=" + blob.digest
        request = urllib.request.Request(where, data=blob.data, method="PUT", headers={"Content-Type": "application/octet-stream"})
        urllib.request.urlopen(request, timeout=60).close()
    for manifest in image.manifests:
        last = tag if manifest is image.manifests[-1] else manifest.digest
        request = urllib.request.Request(
            f"{base}/manifests/{last}", data=manifest.data, method="PUT", headers={"Content-Type": manifest.media_type}
        )
        urllib.request.urlopen(request, timeout=60).close()
    return f"{registry}/{name}:{tag}"


def skopeo_push(layout, registry, name, tag="latest"):
    """Push an OCI layout by skopeo, where it is installed."""
    ref = f"{registry}/{name}:{tag}"
    proc.run(["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{ref}"]).ok()
    return ref
