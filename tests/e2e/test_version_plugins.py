# SPDX-License-Identifier: Apache-2.0
"""Version, Introspection and Health: what clients ask first."""

import json
import os
import re

import grpc

from harness import env, proc
from harness.api import fails, message, to_any

Code = grpc.StatusCode


def test_version_is_one_that_clients_accept(ctr):
    out = ctr("version").ok().out
    server = out[out.index("Server:") :]
    version = re.search(r"Version:\s+(\S+)", server)[1].lstrip("v")
    # nerdctl warns unless the version parses as 1.6 or newer.
    assert tuple(int(n) for n in version.split("-")[0].split("+")[0].split(".")[:2]) >= (1, 6)
    assert re.search(r"UUID:\s+[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", server)


def test_uuid_survives_a_restart(daemon, any_ctr):
    def uuid():
        return re.search(r"UUID:\s+(\S+)", any_ctr("version").ok().out)[1]

    before = uuid()
    daemon.stop()
    daemon.start()
    assert uuid() == before


# What today's clients look up before they do anything.
PLUGINS = """
io.containerd.content.v1 content
io.containerd.snapshotter.v1 native
io.containerd.snapshotter.v1 overlayfs
io.containerd.metadata.v1 bolt
io.containerd.gc.v1 scheduler
io.containerd.differ.v1 walking
io.containerd.runtime.v2 task
io.containerd.grpc.v1 containers
io.containerd.grpc.v1 content
io.containerd.grpc.v1 diff
io.containerd.grpc.v1 events
io.containerd.grpc.v1 healthcheck
io.containerd.grpc.v1 images
io.containerd.grpc.v1 introspection
io.containerd.grpc.v1 leases
io.containerd.grpc.v1 mounts
io.containerd.grpc.v1 namespaces
io.containerd.grpc.v1 snapshots
io.containerd.grpc.v1 streaming
io.containerd.grpc.v1 tasks
io.containerd.grpc.v1 transfer
io.containerd.grpc.v1 version
io.containerd.transfer.v1 local
"""


def test_plugins_have_the_names_that_clients_look_for(ctr):
    rows = {(row[0], row[1]): row[-1] for row in ctr("plugins", "ls").ok().rows}
    for line in PLUGINS.split("\n"):
        if line:
            assert rows.get(tuple(line.split())) == "ok", f"{line}: {rows.get(tuple(line.split()))}"


def test_plugin_details(ctr):
    out = ctr("plugins", "ls", "--detailed", "id==overlayfs").ok().out
    for word in ("Type:", "io.containerd.snapshotter.v1", "ID:", "overlayfs", "Exports:", "root", "Capabilities:"):
        assert word in out


def test_plugins_tell_where_and_how(api):
    """Directories and settings, under the names by which clients know them."""
    exports = {(p.type.split(".")[2], p.id): dict(p.exports) for p in api.introspection.Plugins().plugins}
    root = str(api.daemon.root)
    for kind, plugin in (("content", "content"), ("snapshotter", "native"), ("snapshotter", "overlayfs")):
        assert exports[kind, plugin] == {"root": f"{root}/io.containerd.{kind}.v1.{plugin}"}
    assert exports["metadata", "bolt"]["policy"] == "shared"
    assert os.path.exists(exports["metadata", "bolt"]["path"])
    assert exports["gc", "scheduler"] == {
        "DeletionThreshold": "0", "MutationThreshold": "100", "PauseThreshold": "0.02", "ScheduleDelay": "0s"
    }
    assert exports["runtime", "task"]["log-uri-schemes"] == "fifo,binary,binary-v2,file"


def test_plugin_info(api):
    info = api.introspection.PluginInfo(type="io.containerd.snapshotter.v1", id="overlayfs")
    assert info.plugin.exports["root"].endswith("overlayfs") and not info.HasField("extra")
    text = fails(Code.NOT_FOUND, api.introspection.PluginInfo, type="io.containerd.snapshotter.v1", id="none")
    assert text == "plugin io.containerd.snapshotter.v1.none not found: not found"
    options = to_any(message("containerd.runc.v1.Options")())
    fails(Code.UNIMPLEMENTED, api.introspection.PluginInfo, type="io.containerd.grpc.v1", id="version", options=options)


def test_server_says_who_it_is(api, daemon):
    server = api.introspection.Server()
    assert server.pid == daemon.pid and server.pidns == os.stat(f"/proc/{daemon.pid}/ns/pid").st_ino
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", server.uuid)
    assert api.introspection.Server().uuid == server.uuid


def test_bad_plugin_filters(api):
    assert "parse error" in fails(Code.INVALID_ARGUMENT, api.introspection.Plugins, filters=["type=="])


def test_plugin_filter_with_a_blank_after_the_comma(api):
    found = api.introspection.Plugins(filters=["type==io.containerd.snapshotter.v1, id==overlayfs"]).plugins
    assert [(p.type, p.id) for p in found] == [("io.containerd.snapshotter.v1", "overlayfs")]
    assert found[0].init_err.code == 0
    assert [p.os for p in found[0].platforms] == ["linux"]


def test_runtime_plugin_lists_platforms_for_buildkit(api):
    found = api.introspection.Plugins(filters=["type==io.containerd.runtime.v2"]).plugins
    assert found and found[0].platforms


def test_plugin_filters_are_alternatives(api):
    found = api.introspection.Plugins(filters=["id==overlayfs", "id==native"]).plugins
    assert {p.id for p in found} == {"overlayfs", "native"}


def test_runtime_info(ctr_new, runtime):
    out = ctr_new("plugins", "inspect-runtime", "--runtime=io.containerd.runc.v2", f"--runc-binary={runtime}").ok().out
    info = json.loads(out)
    features = proc.run([runtime, "features"])
    assert info["Options"]["binary_name"] == runtime
    if features.code == 0:
        assert info["Features"]["ociVersionMin"] == json.loads(features.out)["ociVersionMin"]
    else:
        assert info["Features"] is None


def test_info_of_a_runtime_that_is_not_there(ctr_new):
    got = ctr_new("plugins", "inspect-runtime", "--runtime=io.containerd.nothing.v9")
    assert got.code != 0 and 'failed to resolve runtime path' in got.err and '"containerd-shim-nothing-v9"' in got.err


def test_health_is_serving(api):
    assert api.health.Check().status == 1


def test_deprecations_are_answered(ctr_new):
    ctr_new("deprecations", "list").ok()


def test_sigterm_ends_the_daemon_at_once(own_daemon):
    own = own_daemon()
    proc.wait_until(own.answers)
    assert own.kill(15, timeout=10) in (0, -15)


def test_config_default_is_read_again(tmp_path):
    program = env.daemon_program()
    text = proc.run([program, "config", "default"]).ok().out
    assert "version = 3" in text or "version = 4" in text
    path = tmp_path / "config.toml"
    path.write_text(text)
    dumped = proc.run([program, "--config", path, "config", "dump"]).ok().out
    assert "[grpc]" in dumped or "[plugins" in dumped
