# SPDX-License-Identifier: Apache-2.0
"""Checkpoints through the content store. CRIU does not work on every kernel: its part is played by a wrapper around the
OCI runtime, which writes a directory at the checkpoint and wants to find it again at the restore."""

import os

import grpc
import pytest
from conftest import ANY_RUNTIME

from harness import env, proc
from harness.api import fails, message, to_any

Code = grpc.StatusCode
IMAGE_TYPE = "application/vnd.containerd.container.criu.checkpoint.criu.tar"
SPEC_TYPE = "application/vnd.containerd.container.checkpoint.config.v1+proto"

WRAPPER = """#!/bin/sh
global= image= pidfile= bundle= id= command=
while [ $# -gt 0 ]; do
  case "$1" in
    --root|--log|--log-format) global="$global $1 $2"; shift ;;
    --image-path) image=$2; shift ;;
    --pid-file) pidfile=$2; shift ;;
    --bundle) bundle=$2; shift ;;
    --work-path|--parent-path) shift ;;
    checkpoint|restore) command=$1 ;;
    -*) ;;
    *) [ -n "$command" ] || exec {runtime} $global "$@"; id=$1 ;;
  esac
  shift
done
case $command in
  checkpoint) mkdir "$image/deep" && echo memory >"$image/deep/pages-1.img" && {runtime} $global kill "$id" 9 ;;
  restore) grep -q memory "$image/deep/pages-1.img" && exec {runtime} $global run --detach --pid-file "$pidfile" --bundle "$bundle" "$id" ;;
esac
"""


@pytest.fixture
def wrapper(tmp_path):
    path = tmp_path / "runtime"
    path.write_text(WRAPPER.replace("{runtime}", ANY_RUNTIME))
    path.chmod(0o755)
    return path


@pytest.fixture
def running(any_ctr, api, image, wrapper):
    """A container whose task was made by the wrapper; its task's Create with more fields."""
    any_ctr("containers", "create", image, "c1", "sleep", "1000").ok()
    rootfs = list(api.snapshots.Mounts(snapshotter="overlayfs", key="c1").mounts)
    options = to_any(message("containerd.runc.v1.Options")(binary_name=str(wrapper)))

    def create(**fields):
        return api.tasks.Create(container_id="c1", rootfs=rootfs, options=options, **fields)

    create()
    api.tasks.Start(container_id="c1")
    yield create
    any_ctr("tasks", "delete", "-f", "c1")
    any_ctr("containers", "rm", "c1").ok()


def below(directory):
    return [os.path.join(path, name) for path, dirs, files in os.walk(directory) for name in dirs + files]


def test_a_task_is_restored_from_the_content_store(running, any_ctr, api, daemon):
    lease = api.leases.Create(id="checkpoint").lease.id
    held = [("containerd-lease", lease)]
    image, spec = api.tasks.Checkpoint(container_id="c1", metadata=held).descriptors
    assert (image.media_type, spec.media_type) == (IMAGE_TYPE, SPEC_TYPE)
    sizes = {d.digest: api.content.Info(digest=d.digest).info.size for d in (image, spec)}
    assert sizes == {image.digest: image.size, spec.digest: spec.size}
    kept = b"".join(part.data for part in api.content.Read(digest=spec.digest))
    assert message("google.protobuf.Any").FromString(kept) == api.containers.Get(id="c1").container.spec
    api.tasks.Wait(container_id="c1", timeout=20)
    api.tasks.Delete(container_id="c1")
    assert running(checkpoint=image).pid == 0  # nothing runs before the start
    if env.DAEMON == "skiffd":
        api.tasks.Delete(container_id="c1")  # created and deleted: what was unpacked goes, too
        running(checkpoint=image)
    assert api.tasks.Start(container_id="c1").pid > 0
    assert any_ctr("tasks", "exec", "--exec-id", "e", "c1", "echo", "alive").ok().out == "alive\n"
    any_ctr("tasks", "delete", "-f", "c1")
    if env.DAEMON == "skiffd":
        proc.wait_until(lambda: below(daemon.root / "io.containerd.grpc.v1.tasks") == [], 10, "the end of the directories")
    api.leases.Delete(id=lease, sync=True)


def test_ctr_checkpoints_and_restores(ctr_new, image, wrapper):
    ctr_new("run", "-d", "--runc-binary", wrapper, image, "c1", "sleep", "1000").ok()
    ctr_new("containers", "checkpoint", "--task", "c1", "example.com/checkpoint:1").ok()
    ctr_new("tasks", "delete", "-f", "c1")
    ctr_new("containers", "restore", "--live", "c2", "example.com/checkpoint:1").ok()
    assert ctr_new("tasks", "exec", "--exec-id", "e", "c2", "echo", "alive").ok().out == "alive\n"
    ctr_new("tasks", "delete", "-f", "c2")
    ctr_new("containers", "rm", "c1", "c2").ok()
    ctr_new("images", "rm", "--sync", "example.com/checkpoint:1").ok()


def test_what_is_no_checkpoint_is_refused(running, any_ctr, api):
    any_ctr("tasks", "delete", "-f", "c1")
    descriptor = message("containerd.types.Descriptor")
    nothing = "sha256:" + "0" * 64
    text = fails(Code.UNKNOWN, running, checkpoint=descriptor(media_type="text/plain", digest=nothing))
    assert 'unsupported checkpoint type "text/plain"' in text
    # containerd's service forgets the class of this error.
    missing = Code.NOT_FOUND if env.DAEMON == "skiffd" else Code.UNKNOWN
    fails(missing, running, checkpoint=descriptor(media_type=IMAGE_TYPE, digest=nothing))


def test_a_checkpoint_that_fails_says_why_and_leaves_nothing(any_ctr, api, image, runtime, daemon):
    """Without CRIU, or where the kernel is not enough for it, the OCI runtime's error comes through."""
    any_ctr("run", "-d", "--runc-binary", runtime, image, "c1", "sleep", "1000").ok()
    try:
        api.tasks.Checkpoint(container_id="c1")
    except grpc.RpcError as error:
        assert error.code() == Code.UNKNOWN and runtime in error.details() and "criu-dump.log" in error.details()
        assert any_ctr("tasks", "ls").ok().rows[0][2] == "RUNNING"
    if env.DAEMON == "skiffd":
        proc.wait_until(lambda: below(daemon.root / "io.containerd.grpc.v1.tasks") == [], 10, "the end of the directories")
    any_ctr("tasks", "delete", "-f", "c1")
    any_ctr("containers", "rm", "c1").ok()
