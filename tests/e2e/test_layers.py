# SPDX-License-Identifier: Apache-2.0
"""Layers as they should not be: unpacked as containerd unpacks them or refused, and nothing lands outside. And layers
that are merely unusual: every kind of entry, whiteouts, and files whose directories no layer has.

Each layer is unpacked three ways: through Transfer by import, through Transfer by pull, and through Diff.Apply."""

import ctypes
import os
import stat
import subprocess

import grpc
import pytest
from conftest import IMAGE

from harness import env, images, leftovers, proc
from harness.api import Api
from harness.images import entry

MS_RDONLY, MS_BIND, MS_REC = 1, 4096, 16384
BASE = images.tar([entry("etc", "dir"), entry("etc/base", data="base\n"), entry("d", "dir", mode=0o710, uid=7, gid=8), entry("d/old", data="old\n")])


def _mount(m, target):
    """By mount(2): newer mount(8) gives the kernel each option by itself, which may then be 255 bytes long."""
    options = [o for o in m.options if o not in ("rbind", "bind", "ro", "rw")]
    flags = MS_BIND | MS_REC if m.type == "bind" else MS_RDONLY
    done = ctypes.CDLL(None, use_errno=True).mount(
        m.source.encode(), str(target).encode(), m.type.encode(), flags, ",".join(options).encode()
    )
    assert done == 0, os.strerror(ctypes.get_errno())


class Unpacker:
    """Unpacks layers into an image and looks at its files."""

    def __init__(self, client, tmp_path, way):
        self.client, self.tmp_path, self.way = client, tmp_path, way
        self.count = 0

    def unpack(self, *layers, base=BASE, compression="gzip"):
        """True if the image could be unpacked."""
        self.count += 1
        every = [base, *layers] if base else list(layers)
        image = images.Image(every, compression=compression)
        path = images.oci_archive(image, self.tmp_path / f"{self.count}.tar", IMAGE)
        if self.way == "apply":
            self.client("images", "import", "--no-unpack", path).ok()
            return self.apply(image)
        got = self.client("images", "import", path)
        self.error = got.err
        self.top = images.digest((images.digest(every[0]) + " " + images.digest(every[1])).encode()) if len(every) == 2 else None
        return got.code == 0

    def apply(self, image):
        with Api(self.client.daemon, self.client.namespace) as api:
            # Held by a lease until the test is over: what nobody holds may be collected at any moment.
            if not [found for found in api.leases.List().leases if found.id == "test"]:
                api.leases.Create(id="test")
            api.hold("test")
            parent = ""
            for i, layer in enumerate(image.layers):
                mounts = api.snapshots.Prepare(snapshotter="overlayfs", key=f"a{i}", parent=parent).mounts
                request = api.diff.Apply.request(mounts=mounts)
                request.diff.media_type, request.diff.digest, request.diff.size = layer.media_type, layer.digest, len(layer.data)
                try:
                    applied = api.diff.Apply(request).applied
                except grpc.RpcError as error:
                    self.error = error.details()
                    api.snapshots.Remove(snapshotter="overlayfs", key=f"a{i}")
                    return False
                assert applied.digest == image.diff_ids[i]
                parent = f"c{i}"
                api.snapshots.Commit(snapshotter="overlayfs", key=f"a{i}", name=parent)
            self.top = parent
            return True

    def look(self, work):
        """Call work with the mounted file system of what was unpacked."""
        target = self.tmp_path / "look"
        target.mkdir(exist_ok=True)
        if self.way == "apply":
            with Api(self.client.daemon, self.client.namespace) as api:
                hold = (("containerd-lease", "test"),)
                m = api.snapshots.View(snapshotter="overlayfs", key="look", parent=self.top, metadata=hold).mounts[0]
                _mount(m, target)
                try:
                    return work(str(target))
                finally:
                    subprocess.run(["umount", target], check=True)
                    api.snapshots.Remove(snapshotter="overlayfs", key="look")
        self.client("images", "mount", IMAGE, target).ok()
        try:
            return work(str(target))
        finally:
            self.client("images", "unmount", "--rm", target).ok()

    def clear(self):
        if self.way == "apply":
            with Api(self.client.daemon, self.client.namespace) as api:
                for _ in range(5):
                    for info in [i for a in api.snapshots.List(snapshotter="overlayfs") for i in a.info]:
                        try:
                            api.snapshots.Remove(snapshotter="overlayfs", key=info.name)
                        except grpc.RpcError:
                            continue


@pytest.fixture(params=["import", "apply"])
def unpacker(request, daemon, tmp_path):
    from conftest import best_ctr, empty_namespace, _namespace_count

    client = best_ctr(daemon, daemon.namespace_of_its_own(f"l{next(_namespace_count)}"))
    found = Unpacker(client, tmp_path, request.param)
    yield found
    found.clear()
    empty_namespace(client)


@pytest.fixture
def outside(tmp_path):
    """A directory that no layer may reach; its content is compared."""
    target = tmp_path / "outside"
    target.mkdir()
    (target / "file").write_text("untouched")
    yield target
    assert os.listdir(target) == ["file"] and (target / "file").read_text() == "untouched"
    assert stat.S_IMODE(os.stat(target / "file").st_mode) == 0o644
    for name in ("/evil", "/tmp/evil", "/etc/evil"):
        assert not os.path.lexists(name)


UP = "../" * 30


def hostile(outside):
    """Layers that try to get out, by name."""
    out = str(outside)
    return {
        "absolute": [entry("/evil", data="x"), entry("/etc/evil", data="x")],
        "dotdot": [entry(UP + "evil", data="x"), entry("etc/" + UP + "tmp/evil", data="x")],
        "dotdot-dir": [entry(UP + "evil", "dir")],
        "absolute-symlink": [entry("way", "symlink", link=out), entry("way/evil", data="x")],
        "relative-symlink": [entry("way", "symlink", link=UP + out[1:]), entry("way/evil", data="x")],
        "symlink-chain": [
            entry("one", "symlink", link="two"), entry("two", "symlink", link=out), entry("one/evil", data="x"),
        ],
        "symlink-then-dir": [entry("way", "symlink", link=out), entry("way", "dir"), entry("way/evil", data="x")],
        "symlink-overwrite": [entry("way", "symlink", link=out + "/file"), entry("way", data="overwritten")],
        "hardlink-out": [entry("link", "hardlink", link=UP + out[1:] + "/file"), entry("link", data="overwritten")],
        "hardlink-absolute": [entry("link", "hardlink", link=out + "/file"), entry("link", data="overwritten")],
        "hardlink-through-symlink": [
            entry("way", "symlink", link=out), entry("link", "hardlink", link="way/file"), entry("link", data="overwritten"),
        ],
        "hardlink-to-symlink": [
            entry("way", "symlink", link=out + "/file"), entry("link", "hardlink", link="way"), entry("link", data="overwritten"),
        ],
        "whiteout-out": [entry("way", "symlink", link=out), entry("way/.wh.file")],
        "whiteout-dotdot": [entry("etc/.wh..", data=""), entry(".wh...", data="")],
        "opaque-out": [entry("way", "symlink", link=out), entry("way/.wh..wh..opq")],
        "chmod-through-symlink": [entry("way", "symlink", link=out + "/file"), entry("way", "symlink", link=out + "/file", mode=0o777)],
        "xattr-through-symlink": [entry("way", "symlink", link=out + "/file", xattrs={"user.evil": "1"})],
        "fifo-out": [entry("way", "symlink", link=out), entry("way/evil", "fifo")],
        "root-itself": [entry(".", "dir", mode=0o700), entry("./", "symlink", link=out)],
        "empty-name": [entry("", data="x")],
        "long-name": [entry("/".join(["x" * 200] * 30), data="x")],
        "very-long-component": [entry("y" * 300, data="x")],
    }


NAMES = sorted(hostile("/o"))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_lands_outside(unpacker, outside, name):
    if not unpacker.unpack(images.tar(hostile(outside)[name])):
        return
    # Where it was unpacked, what was there before is there, and the layer's own files are inside.
    unpacker.look(lambda d: os.listdir(d))


@pytest.mark.parametrize("name", NAMES)
def test_a_later_layer_does_not_get_out_either(unpacker, outside, name):
    """The way out is laid by one layer and taken by the next."""
    entries = hostile(outside)[name]
    unpacker.unpack(images.tar(entries[:1]), images.tar(entries[1:] or entries[:1]))


def _broken():
    good = images.tar([entry("file", data="x" * 2000)])
    huge = bytearray(good)
    huge[124:136] = b"77777777777\0"
    minus = bytearray(good)
    minus[124:136] = b"\xff" * 12
    for broken in (huge, minus):
        broken[148:156] = b" " * 8
        broken[148:156] = b"%06o\0 " % sum(broken[:512])
    checksum = bytearray(good)
    checksum[0] ^= 1
    pax = images.tar([entry("f", data="x", xattrs={"user.big": "v" * (8 << 20)})])
    return {
        "cut": good[:1500],
        "noise": os.urandom(10240),
        "size-beyond-the-end": bytes(huge),
        "negative-size": bytes(minus),
        "checksum": bytes(checksum),
        "oversized-header": pax,
    }


@pytest.mark.parametrize("name", sorted(_broken()))
def test_broken_archives(unpacker, name):
    """An answer in time and the daemon alive; what could not be read whole is an error."""
    done = unpacker.unpack(_broken()[name])
    if name in ("cut", "size-beyond-the-end", "checksum", "noise"):
        assert not done


def test_broken_compression(unpacker):
    image = images.Image([BASE, images.tar([entry("file", data=os.urandom(100000))])])
    good = image.layers[1]
    for data in (good.data[: len(good.data) // 2], good.data[:100] + bytes(50) + good.data[150:], b"\x1f\x8b" + bytes(100)):
        image.layers[1] = images.Blob(data, good.media_type)
        image.make_manifest()
        path = images.oci_archive(image, unpacker.tmp_path / "broken.tar", IMAGE)
        if unpacker.way == "apply":
            unpacker.client("images", "import", "--no-unpack", path).ok()
            assert not unpacker.apply(image)
            unpacker.clear()
        else:
            unpacker.client("images", "import", path).fails()


def test_a_diff_id_that_is_not_the_layers(unpacker):
    """What does not hash to what the configuration says is not used."""
    if unpacker.way == "apply":
        pytest.skip("Apply is not told a diff id")
    wrong = images.digest(b"something else")
    image = images.Image([BASE], diff_ids=[wrong])
    unpacker.client("images", "import", images.oci_archive(image, unpacker.tmp_path / "w.tar", IMAGE)).fails()
    assert wrong not in unpacker.client("snapshots", "ls").ok().out


def test_a_bomb_ends(unpacker, daemon):
    """A small blob that inflates to very much: refused or unpacked, with bounded memory."""
    # A sparse file would be cheap on any disk; this one is all zeros and deflates to a thousandth.
    layer = images.tar([entry("zeros", data=bytes(300 << 20))])
    unpacker.unpack(layer)
    assert proc.memory_kb(daemon.pid, "Rss") < 250 * 1024


def _kinds():
    return [
        entry("dir", "dir", mode=0o751, uid=5, gid=6),
        entry("dir/file", data="text\n", mode=0o640, uid=1, gid=2),
        entry("setuid", data="x", mode=0o4755, uid=9),
        entry("setgid", data="x", mode=0o2755),
        entry("sticky", "dir", mode=0o1777),
        entry("link", "symlink", link="dir/file", uid=3, gid=4),
        entry("dangling", "symlink", link="/no/such"),
        entry("hard", "hardlink", link="dir/file", mode=0o640, uid=1, gid=2),
        entry("fifo", "fifo", mode=0o620),
        entry("null", "char", mode=0o666, device=(1, 3)),
        entry("disk", "block", mode=0o660, device=(7, 200)),
        entry("attr", data="x", xattrs={"user.name": "value"}),
        entry("cap", data="x", mode=0o755),
        entry("empty"),
        entry("name with blanks and ümläut", data="x"),
        entry("big", data=b"0123456789abcdef" * 100000),
    ]


def test_every_kind_of_entry(unpacker):
    assert unpacker.unpack(images.tar(_kinds())), unpacker.error

    def work(d):
        st = lambda name: os.lstat(os.path.join(d, name))
        read = lambda name: open(os.path.join(d, name), "rb").read()
        assert (stat.S_IMODE(st("dir").st_mode), st("dir").st_uid, st("dir").st_gid) == (0o751, 5, 6)
        assert (stat.S_IMODE(st("dir/file").st_mode), st("dir/file").st_uid, st("dir/file").st_gid) == (0o640, 1, 2)
        assert read("dir/file") == b"text\n" and int(st("dir/file").st_mtime) == 1600000000
        assert int(st("dir").st_mtime) == 1600000000
        assert stat.S_IMODE(st("setuid").st_mode) == 0o4755 and st("setuid").st_uid == 9
        assert stat.S_IMODE(st("setgid").st_mode) == 0o2755
        assert stat.S_IMODE(st("sticky").st_mode) == 0o1777
        assert os.readlink(os.path.join(d, "link")) == "dir/file" and (st("link").st_uid, st("link").st_gid) == (3, 4)
        assert os.readlink(os.path.join(d, "dangling")) == "/no/such"
        assert st("hard").st_ino == st("dir/file").st_ino
        assert stat.S_ISFIFO(st("fifo").st_mode) and stat.S_IMODE(st("fifo").st_mode) == 0o620
        assert stat.S_ISCHR(st("null").st_mode) and st("null").st_rdev == os.makedev(1, 3)
        assert stat.S_ISBLK(st("disk").st_mode) and st("disk").st_rdev == os.makedev(7, 200)
        assert os.getxattr(os.path.join(d, "attr"), "user.name") == b"value"
        assert st("empty").st_size == 0 and os.path.exists(os.path.join(d, "name with blanks and ümläut"))
        assert read("big") == b"0123456789abcdef" * 100000
        assert read("etc/base") == b"base\n"

    unpacker.look(work)


def test_names_that_are_not_utf8(unpacker):
    info, data = entry("caf\udce9", data="x")
    layer = images.tar([(info, data)], images.tarfile.GNU_FORMAT)
    assert unpacker.unpack(layer), unpacker.error
    assert b"caf\xe9" in unpacker.look(lambda d: os.listdir(os.fsencode(d)))


def test_whiteouts(unpacker):
    first = images.tar([
        entry("keep", data="1"), entry("gone", data="1"), entry("gonedir", "dir"), entry("gonedir/x", data="1"),
        entry("opaque", "dir", mode=0o750), entry("opaque/old", data="1"), entry("replaced", "dir"), entry("replaced/x", data="1"),
    ])
    second = images.tar([
        entry(".wh.gone"), entry(".wh.gonedir"), entry("opaque", "dir", mode=0o755), entry("opaque/.wh..wh..opq"),
        entry("opaque/new", data="2"), entry("replaced", data="now a file"), entry(".wh.never-was"),
    ])
    assert unpacker.unpack(first, second), unpacker.error

    def work(d):
        assert sorted(os.listdir(d)) == ["d", "etc", "keep", "opaque", "replaced"]
        assert os.listdir(os.path.join(d, "opaque")) == ["new"]
        assert stat.S_IMODE(os.lstat(os.path.join(d, "opaque")).st_mode) == 0o755
        assert open(os.path.join(d, "replaced"), encoding="ascii").read() == "now a file"

    unpacker.look(work)


def test_directories_without_an_entry(unpacker):
    """d/new without d keeps what the lower layer says of d; what no layer knows becomes a plain directory."""
    assert unpacker.unpack(images.tar([entry("d/new", data="new\n"), entry("x/y/z", data="deep\n")])), unpacker.error

    def work(d):
        st = os.lstat(os.path.join(d, "d"))
        assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o710, 7, 8)
        assert sorted(os.listdir(os.path.join(d, "d"))) == ["new", "old"]
        assert open(os.path.join(d, "x/y/z"), encoding="ascii").read() == "deep\n"
        assert stat.S_IMODE(os.lstat(os.path.join(d, "x/y")).st_mode) == 0o755

    unpacker.look(work)


def test_a_file_that_becomes_a_directory_and_back(unpacker):
    one = images.tar([entry("a", data="file"), entry("b", "dir"), entry("b/x", data="1")])
    two = images.tar([entry("a", "dir"), entry("a/x", data="2"), entry("b", data="file")])
    three = images.tar([entry("a", "symlink", link="b"), entry("b", data="again")])
    assert unpacker.unpack(one, two, three), unpacker.error
    look = lambda d: (os.readlink(os.path.join(d, "a")), open(os.path.join(d, "b"), encoding="ascii").read())
    assert unpacker.look(look) == ("b", "again")


@pytest.mark.parametrize("form", ["USTAR_FORMAT", "GNU_FORMAT", "PAX_FORMAT"])
def test_tar_formats(unpacker, form):
    long = "l" * 90 + "/" + "m" * 90
    name = long if form != "USTAR_FORMAT" else "l" * 90 + "/short"
    layer = images.tar([entry("l" * 90, "dir"), entry(name, data="found")], getattr(images.tarfile, form))
    assert unpacker.unpack(layer), unpacker.error
    assert unpacker.look(lambda d: open(os.path.join(d, name), encoding="ascii").read()) == "found"


def test_sparse_files(unpacker, tmp_path):
    with open(tmp_path / "sparse", "wb") as f:
        f.seek(1 << 20)
        f.write(b"end")
    # containerd refuses the older of the two forms.
    for form in ("posix",) if env.DAEMON == "containerd" else ("gnu", "posix"):
        subprocess.run(["tar", "-C", tmp_path, f"--format={form}", "-S", "-cf", tmp_path / "s.tar", "sparse"], check=True)
        assert unpacker.unpack((tmp_path / "s.tar").read_bytes()), unpacker.error
        assert unpacker.look(lambda d: open(os.path.join(d, "sparse"), "rb").read()) == bytes(1 << 20) + b"end"
        unpacker.clear()
        unpacker.client("images", "rm", "--sync", IMAGE)


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"], ids=["plain", "gzip", "zstd"])
def test_compressions(unpacker, compression):
    assert unpacker.unpack(images.tar([entry("f", data="found" * 1000)]), compression=compression), unpacker.error
    assert unpacker.look(lambda d: open(os.path.join(d, "f"), encoding="ascii").read()) == "found" * 1000


def test_gzip_in_several_members(unpacker, tmp_path):
    data = images.tar([entry("f", data="x" * 100000)])
    image = images.Image([data])
    halves = images.compress(data[:50000], "gzip") + images.compress(data[50000:], "gzip")
    image.layers[0] = images.Blob(halves, image.media["gzip"])
    image.make_manifest()
    path = images.oci_archive(image, tmp_path / "m.tar", IMAGE)
    unpacker.client("images", "import", *(["--no-unpack"] if unpacker.way == "apply" else []), path).ok()
    if unpacker.way == "apply":
        assert unpacker.apply(image), unpacker.error


def test_many_layers(unpacker):
    layers = [images.tar([entry(f"f{i}", data=str(i)), entry("same", data=str(i))]) for i in range(40)]
    assert unpacker.unpack(*layers), unpacker.error
    assert unpacker.look(lambda d: (open(os.path.join(d, "same"), encoding="ascii").read(), len(os.listdir(d)))) == ("39", 43)


def test_no_worker_stays(unpacker, daemon):
    before = set(leftovers.processes(daemon))
    unpacker.unpack(images.tar([entry("f", data="x")]))
    assert set(leftovers.processes(daemon)) == before
