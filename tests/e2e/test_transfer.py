# SPDX-License-Identifier: Apache-2.0
"""Transfers by clients that leave them to the daemon: several at once, broken off, through mirrors, with bad content."""

import os
import pathlib
import signal
import ssl
import subprocess
import tarfile
import threading

import pytest

from harness import images, proc
from harness.clients import finish


@pytest.fixture
def client(fresh_ctr):
    if not fresh_ctr.transfers():
        pytest.skip("this generation of ctr transfers by itself")
    return fresh_ctr


def large_image(size=3_000_000):
    """An image with a layer that does not compress, unlike any other's."""
    return images.simple(more=[images.tar([images.entry("data", data=os.urandom(size))])])


def fetchers(daemon):
    """The processes of skiff-fetch that belong to this daemon."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            status = (entry / "stat").read_text().rsplit(")", 1)
            if "(skiff-fetch" in status[0] and int(status[1].split()[1]) == daemon.pid:
                found.append(int(entry.name))
        except (OSError, ValueError, IndexError):
            continue
    return found


@pytest.mark.skiff_only
def test_two_pulls_of_one_image_fetch_it_once(client, plain_registry):
    gate = threading.Event()
    registry = plain_registry(delay=lambda path: "blobs" in path and gate.wait(20))
    image = large_image()
    one, two = registry.put(image, "once"), registry.put(image, "again")
    children = [client.start("images", "pull", "--plain-http", ref) for ref in (one, two)]
    proc.wait_until(lambda: registry.count("GET", "/blobs/") > 0, 20, "a blob")
    gate.set()
    for child in children:
        code, out, err = finish(child)
        assert code == 0, err
    for blob in image.blobs:
        assert registry.count("GET", blob.digest) == 1
    assert {one, two} <= {row[0] for row in client("images", "ls").ok().rows}


def test_many_images_at_once(client, plain_registry):
    registry = plain_registry()
    refs = [registry.put(large_image(300_000), f"many{i}") for i in range(8)]
    children = [client.start("images", "pull", "--plain-http", ref) for ref in refs]
    for child in children:
        code, out, err = finish(child)
        assert code == 0, err
    rows = client("images", "check").ok().rows
    assert sorted(row[0] for row in rows) == sorted(refs)
    assert all("complete" in row and row[-1] == "true" for row in rows)


@pytest.mark.skiff_only
def test_a_pull_that_is_broken_off_leaves_nothing_running_and_goes_on_later(client, daemon, plain_registry):
    gate, begun = threading.Event(), threading.Event()

    def delay(path):
        if image.layers[2].digest in path:
            begun.set()
            gate.wait(20)

    registry = plain_registry(delay=delay)
    image = large_image()
    ref = registry.put(image, "broken")
    child = client.start("images", "pull", "--plain-http", ref)
    assert begun.wait(20)
    assert fetchers(daemon)
    child.send_signal(signal.SIGKILL)
    finish(child)
    proc.wait_until(lambda: not fetchers(daemon), 20, "the end of skiff-fetch")
    gate.set()
    assert ref not in {row[0] for row in client("images", "ls").ok().rows}
    assert not [row for row in client("snapshots", "ls").ok().rows if row[-1] == "Active"]
    client("images", "pull", "--plain-http", ref).ok()
    assert fetchers(daemon) == []


@pytest.mark.skiff_only
def test_bad_content_is_thrown_away_and_fetched_anew(client, plain_registry):
    registry = plain_registry()
    image = large_image()
    ref = registry.put(image, "bad")
    layer = image.layers[2]
    registry.alter[layer.digest] = layer.data[:1000] + bytes([layer.data[1000] ^ 1]) + layer.data[1001:]
    failed = client("images", "pull", "--plain-http", ref).fails("failed commit on ref", layer.digest)
    assert "unexpected commit digest" in failed.err
    assert layer.digest not in {row[0] for row in client("content", "ls").ok().rows}
    registry.alter.clear()
    client("images", "pull", "--plain-http", ref).ok()
    assert client("images", "check").ok().rows[0][-1] == "true"


@pytest.mark.parametrize("change", [-1, 1], ids=["smaller", "larger"])
def test_a_size_that_is_not_true_is_refused(client, plain_registry, change):
    registry = plain_registry()
    image = large_image(100_000)
    image.layers[2].extra["size"] = len(image.layers[2].data) + change
    image.make_manifest()
    ref = registry.put(image, "size")
    client("images", "pull", "--plain-http", ref).fails()
    assert image.layers[2].digest not in {row[0] for row in client("content", "ls").ok().rows}


def test_a_diff_id_that_is_not_true_is_refused(client, plain_registry):
    registry = plain_registry()
    plain = images.simple()
    image = images.Image(plain.tars, diff_ids=[plain.diff_ids[0], images.digest(b"something else")])
    ref = registry.put(image, "diff")
    client("images", "pull", "--plain-http", ref).fails("wrong diff id")
    # The layer below it may have been through by then; of the false one nothing is left.
    assert [row[-1] for row in client("snapshots", "ls").ok().rows] in ([], ["Committed"])


def test_a_mirror_is_asked_before_the_server(client, plain_registry, tmp_path):
    mirror, server = plain_registry(), plain_registry()
    image = images.simple()
    mirror.put(image, "mirrored")
    directory = tmp_path / "example.org_5000_"
    directory.mkdir()
    (directory / "hosts.toml").write_text(
        f'server = "http://{server.address}"\n'
        f'[host."http://{plain_registry().address}"]\ncapabilities = ["pull", "resolve"]\n'
        f'[host."http://{mirror.address}"]\ncapabilities = ["pull", "resolve"]\n'
    )
    client("images", "pull", "--hosts-dir", tmp_path, "example.org:5000/mirrored:latest").ok()
    assert not server.requests
    assert all(path.endswith("?ns=example.org:5000") for _, path, _ in mirror.requests)


def test_a_registry_with_a_certificate_of_its_own(client, plain_registry, tmp_path):
    registry = plain_registry()
    host, port = registry.address.split(":")
    (tmp_path / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    for args in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=CA",
        "req -newkey rsa:2048 -nodes -keyout key.pem -out csr.pem -subj /CN=127.0.0.1",
        "x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -extfile ext",
    ):
        subprocess.run(["openssl", *args.split()], check=True, capture_output=True, cwd=tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    registry.server.socket = context.wrap_socket(registry.server.socket, server_side=True)
    ref = registry.put(images.simple(), "secure")
    directory = tmp_path / "hosts" / f"{host}_{port}_"
    directory.mkdir(parents=True)
    (directory / "hosts.toml").write_text(f'server = "https://{registry.address}"\nskip_verify = false\n')
    client("images", "pull", "--hosts-dir", tmp_path / "hosts", ref).fails("failed to verify certificate")
    (directory / "hosts.toml").write_text(f'server = "https://{registry.address}"\nca = "{tmp_path}/ca.pem"\n')
    client("images", "pull", "--hosts-dir", tmp_path / "hosts", ref).ok()


def test_an_export_of_two_images_holds_each_blob_once(client, tmp_path, plain_registry):
    registry = plain_registry()
    one, two = large_image(200_000), large_image(100_000)
    refs = [registry.put(one, "one"), registry.put(two, "two")]
    for ref in refs:
        client("images", "pull", "--plain-http", ref).ok()
    client("images", "export", tmp_path / "both.tar", *refs).ok()
    with tarfile.open(tmp_path / "both.tar") as archive:
        names = archive.getnames()
        assert names == sorted(set(names))
        wanted = {b.digest[7:] for image in (one, two) for b in (*image.blobs, *image.manifests)}
        assert {n.split("/")[2] for n in names if n.count("/") == 2} == wanted
        for name in (n for n in names if n.count("/") == 2):
            assert images.digest(archive.extractfile(name).read())[7:] == name.split("/")[2]


@pytest.mark.skiff_only
def test_the_same_blob_twice_in_one_image(client, plain_registry):
    registry = plain_registry()
    layer = images.tar([images.entry("twice", data=os.urandom(1000))])
    image = images.simple(more=[layer, layer])
    ref = registry.put(image, "twice")
    client("images", "pull", "--plain-http", ref).ok()
    assert registry.count("GET", image.layers[2].digest) == 1
    assert len(client("snapshots", "ls").ok().rows) == 4
