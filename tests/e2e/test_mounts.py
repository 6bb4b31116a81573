# SPDX-License-Identifier: Apache-2.0
"""The mount manager by its API: what it mounts itself, what it leaves to the client, and when it takes mounts away."""

import os

import grpc
import pytest

from harness import env, leftovers, proc
from harness.api import Api, fails

Code = grpc.StatusCode


@pytest.fixture
def layers(tmp_path):
    """Two directories with a file each."""
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"from-{name}").write_text(name)
        found.append(str(tmp_path / name))
    return found


def bind(source, **more):
    return {"type": "bind", "source": source, "options": ["rbind", "ro"], **more}


def names(api, **more):
    return [m.info.name for m in api.mounts.List(**more)]


def collect(api):
    api.leases.Create(id="last")
    api.leases.Delete(id="last", sync=True)


def below_state(daemon):
    return [m for m in leftovers.mounts_below(str(daemon.dir)) if "mount-manager" in m]


def test_ordinary_mounts_are_left_to_the_client(held, layers):
    overlay = {"type": "overlay", "source": "overlay", "options": [f"lowerdir={layers[0]}:{layers[1]}"]}
    for mounts in ([bind(layers[0])], [overlay], []):
        text = fails(Code.UNIMPLEMENTED, held.mounts.Activate, name="plain", mounts=mounts)
        assert text == "not implemented"
    assert names(held) == []


def test_temporary_mounts_are_made(held, daemon, layers):
    info = held.mounts.Activate(name="t1", mounts=[bind(layers[0])], temporary=True, labels={"a": "b"}).info
    point = info.active[0].mount_point
    assert (info.name, dict(info.labels), len(info.active)) == ("t1", {"a": "b"}, 1)
    assert info.active[0].mount.type == "bind" and info.active[0].mounted_at.seconds > 0
    assert [(m.type, m.source, list(m.options)) for m in info.system] == [("bind", point, ["rbind"])]
    assert os.listdir(point) == ["from-one"] and below_state(daemon) == [point]
    again = held.mounts.Info(name="t1").info
    assert (again.name, dict(again.labels), again.active[0].mount_point) == ("t1", {"a": "b"}, point)
    assert again.system == info.system
    assert [m.info for m in held.mounts.List()] == [again]
    fails(Code.ALREADY_EXISTS, held.mounts.Activate, name="t1", mounts=[bind(layers[0])], temporary=True)
    held.mounts.Deactivate(name="t1")
    assert below_state(daemon) == [] and not os.path.exists(point)
    fails(Code.NOT_FOUND, held.mounts.Deactivate, name="t1")
    fails(Code.NOT_FOUND, held.mounts.Info, name="t1")
    assert names(held) == []


def test_later_mounts_name_earlier_ones(held, daemon, layers):
    """What needs the daemon is mounted with all before it; the rest goes back with its names filled in."""
    mounts = [bind(layers[0]), bind(layers[1])]
    mounts.append({"type": "format/overlay", "source": "overlay", "options": ["lowerdir={{ overlay 1 0 }}", "ro"]})
    info = held.mounts.Activate(name="f1", mounts=mounts).info
    points = [a.mount_point for a in info.active]
    assert [os.listdir(p) for p in points] == [["from-one"], ["from-two"]]
    assert [m.type for m in info.system] == ["overlay"]
    assert list(info.system[0].options) == [f"lowerdir={points[1]}:{points[0]}", "ro"]
    held.mounts.Deactivate(name="f1")
    assert below_state(daemon) == []


@pytest.mark.containerd_differs("containerd ends by a panic")
def test_temporary_mounts_can_name_earlier_ones(held, daemon, layers):
    mounts = [bind(layers[0]), bind(layers[1])]
    mounts.append({"type": "format/overlay", "source": "overlay", "options": ["lowerdir={{ mount 0 }}:{{mount 1}}"]})
    info = held.mounts.Activate(name="f2", mounts=mounts, temporary=True).info
    assert len(info.active) == 3
    assert sorted(os.listdir(info.active[2].mount_point)) == ["from-one", "from-two"]
    assert list(info.system[0].options) == ["rbind"] and info.system[0].source == info.active[2].mount_point
    held.mounts.Deactivate(name="f2")
    assert below_state(daemon) == []


def test_sources_can_be_named_too(held, layers):
    mounts = [bind(layers[0]), {"type": "format/bind", "source": "{{ source 0 }}/x{{ mount 0 }}", "options": ["ro"]}]
    info = held.mounts.Activate(name="s1", mounts=mounts).info
    assert [m.source for m in info.system] == [f"{layers[0]}/x{info.active[0].mount_point}"]
    held.mounts.Deactivate(name="s1")


@pytest.mark.parametrize("option", ["{{ mount 1 }}", "{{ overlay 0 1 }}", "{{ overlay 1 0 }}", "{{ nothing 0 }}", "{{ mount", "{{ mount x }}"])
def test_what_names_nothing_is_refused_and_undone(held, daemon, layers, option):
    mounts = [bind(layers[0]), {"type": "format/overlay", "source": "overlay", "options": [f"lowerdir={option}"]}]
    # containerd passes the error of a Go template on, which has no class.
    fails(Code.INVALID_ARGUMENT if env.DAEMON == "skiffd" else Code.UNKNOWN, held.mounts.Activate, name="w1", mounts=mounts)
    assert names(held) == [] and below_state(daemon) == []
    # The name is free again.
    mounts[1]["options"] = ["lowerdir={{ mount 0 }}"]
    held.mounts.Activate(name="w1", mounts=mounts)
    held.mounts.Deactivate(name="w1")


def test_directories_are_made_below_the_root(held, daemon, layers):
    inside = daemon.root / "made"
    mounts = [{"type": "mkdir/bind", "source": str(inside), "options": [f"X-containerd.mkdir.path={inside}:0750", "rbind"]}]
    info = held.mounts.Activate(name="m1", mounts=mounts).info
    assert inside.stat().st_mode & 0o777 == 0o750
    assert [(m.type, m.source, list(m.options)) for m in info.system] == [("bind", str(inside), ["rbind"])]
    assert list(info.active) == []
    held.mounts.Deactivate(name="m1")
    inside.rmdir()


def test_directories_elsewhere_are_refused(held, daemon, tmp_path):
    def make(path):
        return [{"type": "mkdir/bind", "source": path, "options": [f"X-containerd.mkdir.path={path}"]}]

    fails(Code.UNIMPLEMENTED, held.mounts.Activate, name="m2", mounts=make(str(tmp_path / "out")))
    (daemon.root / "link").symlink_to("/")
    # containerd makes ROOT/out of the second, which is not outside either.
    for escape in [f"{daemon.root}/link/out", f"{daemon.root}/../out"][: 2 if env.DAEMON == "skiffd" else 1]:
        with pytest.raises(grpc.RpcError):
            held.mounts.Activate(name="m2", mounts=make(escape))
    (daemon.root / "link").unlink()
    bad = [{"type": "mkdir/bind", "source": "x", "options": ["X-containerd.mkdir.mode=0700"]}]
    fails(Code.INVALID_ARGUMENT, held.mounts.Activate, name="m2", mounts=bad)
    assert not (daemon.dir / "out").exists() and not os.path.exists("/out") and not (tmp_path / "out").exists()
    assert names(held) == []


def test_a_failed_mount_undoes_the_others(held, daemon, layers):
    mounts = [bind(layers[0]), {"type": "no-such-filesystem", "source": "x"}]
    text = fails(Code.UNKNOWN, held.mounts.Activate, name="e1", mounts=mounts, temporary=True)
    assert "no such device" in text.lower()
    assert names(held) == [] and below_state(daemon) == []


def test_update_is_not_there(held, layers):
    """As in containerd; labels are given with Activate."""
    held.mounts.Activate(name="u1", mounts=[bind(layers[0])], temporary=True)
    fails(Code.UNIMPLEMENTED, held.mounts.Update, info={"name": "u1", "labels": {"a": "b"}}, update_mask={"paths": ["labels"]})
    held.mounts.Deactivate(name="u1")


def test_names_belong_to_a_namespace(held, daemon, layers):
    held.mounts.Activate(name="n1", mounts=[bind(layers[0])], temporary=True)
    with Api(daemon, daemon.namespace_of_its_own("other")) as other:
        fails(Code.NOT_FOUND, other.mounts.Info, name="n1")
        fails(Code.NOT_FOUND, other.mounts.Deactivate, name="n1")
        assert names(other) == []
    nobody = held.without_namespace()
    fails(Code.FAILED_PRECONDITION, nobody.mounts.Info, name="n1")
    fails(Code.FAILED_PRECONDITION, nobody.mounts.List)
    nobody.close()
    held.mounts.Deactivate(name="n1")


def test_mounts_go_with_their_lease(api, daemon, layers):
    api.leases.Create(id="mounts")
    hold = (("containerd-lease", "mounts"),)
    point = api.mounts.Activate(name="l1", mounts=[bind(layers[0])], temporary=True, metadata=hold).info.active[0].mount_point
    collect(api)
    assert os.listdir(point) == ["from-one"]
    api.leases.Delete(id="mounts", sync=True)
    proc.wait_until(lambda: names(api) == [] and below_state(daemon) == [], 10, "the end of the mounts")


def test_mounts_go_with_what_their_labels_name(api, daemon, layers):
    api.leases.Create(id="making")
    hold = (("containerd-lease", "making"),)
    spec = {"type_url": "types.containerd.io/opencontainers/runtime-spec/1/Spec", "value": b"{}"}
    api.containers.Create(container={"id": "c1", "runtime": {"name": "io.containerd.runc.v2"}, "spec": spec})
    labels = {"containerd.io/gc.bref.container": "c1"}
    api.mounts.Activate(name="b1", mounts=[bind(layers[0])], temporary=True, labels=labels, metadata=hold)
    api.leases.Delete(id="making", sync=True)
    assert names(api) == ["b1"]
    api.containers.Delete(id="c1")
    collect(api)
    proc.wait_until(lambda: names(api) == [] and below_state(daemon) == [], 10, "the end of the mounts")


def test_mounts_survive_the_daemon(own_daemon, layers):
    daemon = own_daemon()
    with Api(daemon) as api:
        api.leases.Create(id="keep")
        hold = (("containerd-lease", "keep"),)
        info = api.mounts.Activate(name="r1", mounts=[bind(layers[0])], temporary=True, metadata=hold).info
    daemon.kill()
    daemon.start()
    with Api(daemon) as api:
        assert [m.info.active[0].mount_point for m in api.mounts.List()] == [info.active[0].mount_point]
        assert os.listdir(info.active[0].mount_point) == ["from-one"]
        api.mounts.Deactivate(name="r1")
        assert below_state(daemon) == []
