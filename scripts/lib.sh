# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts beside it: what they all check, install and prepare. Nothing here needs more than bash and apt.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${SKIFF_BUILD:-$REPO/build}
PEERS=${SKIFF_PEERS:-$BUILD/peers}
CONTAINERD_VERSION=v2.3.4
export LC_ALL=C.UTF-8

BUILD_PACKAGES="build-essential pkg-config meson ninja-build libglib2.0-dev libuv1-dev libnghttp2-dev libprotobuf-c-dev
protobuf-c-compiler protobuf-compiler libprotobuf-dev libsqlite3-dev libjansson-dev libtomlplusplus-dev
nettle-dev libisal-dev zlib1g-dev libzstd-dev libarchive-dev libseccomp-dev libcap-ng-dev"
RUN_PACKAGES="ca-certificates mount util-linux procps"
TEST_PACKAGES="python3 python3-pytest python3-grpcio python3-protobuf protobuf-compiler libprotobuf-dev zstd openssl
binutils xz-utils $RUN_PACKAGES"

# The comment at the head of each script is its help.
print_help() { sed -n '3,/^[^#]/s/^# \{0,1\}//p' "$0"; }
case ${1:-} in -h | --help) print_help && exit ;; esac

say() { printf '%s\n' "$*" >&2; }
fail() { say "$(basename "$0"): $*"; exit 1; }

# Run this script again as root where we are not, by sudo where there is one.
as_root() {
  [ "$(id -u)" = 0 ] && return
  command -v sudo >/dev/null || fail "run this as root (there is no sudo here)"
  exec sudo --preserve-env=IMAGE,SKIFF_BUILD,SKIFF_PEERS,DAEMON,XDG_CACHE_HOME,E2E_RECORD,BASH_ENV -- "$0" "$@"
}

installed() {
  local p
  for p in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || return 1
  done
}

# Install what is missing; nothing is ever removed for it.
apt_install() {
  local p missing=()
  for p in "$@"; do installed "$p" || missing+=("$p"); done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || fail "these packages are missing, and there is no apt-get to install them: ${missing[*]}"
  say "installing: ${missing[*]}"
  local log
  log=$(mktemp)
  apt_lists || true
  if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove "${missing[@]}" >"$log" 2>&1; then
    rm -f "${APT_STAMP:-/nonexistent}"
    if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove \
      "${missing[@]}"; } >"$log" 2>&1; then
      tail -n 15 "$log" >&2
      rm -f "$log"
      return 1
    fi
  fi
  rm -f "$log"
}

# Package lists, fetched where there are none yet.
apt_lists() {
  compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null || apt-get update -q >/dev/null 2>&1
}

# An OCI runtime that is in PATH is taken as it is: Docker's packages conflict with Debian's runc.
install_runtimes() {
  command -v crun >/dev/null || apt_install crun || true
  command -v runc >/dev/null || apt_install runc || true
  command -v crun >/dev/null || command -v runc >/dev/null || fail "there is neither crun nor runc, and none could be installed"
}

# The images of tests and demo are made from a static busybox. Debian's packages of the static and of the dynamic one
# exclude each other: where the dynamic one is installed, the static one is only unpacked.
install_busybox() {
  if installed busybox || ! apt_install busybox-static; then
    "$REPO/scripts/peers" busybox
  fi
}

# Say in plain words why containers cannot run here.
need_rights() {
  local caps where
  caps=$((16#$(sed -n 's/^CapEff:\t*//p' /proc/self/status)))
  if [ $((caps >> 21 & 1)) = 0 ]; then
    fail "no CAP_SYS_ADMIN here, without which nothing can be mounted: run the container with --privileged"
  fi
  where=$(writable_cgroup) || fail "the cgroup file system cannot be written: run the container with --privileged"
  [ -n "$where" ]
}

cgroup_mounts() { awk '{ for (i = 7; i <= NF; i++) if ($i == "-") { print $(i + 1), $5 } }' /proc/self/mountinfo | grep '^cgroup'; }

writable_cgroup() {
  local kind mount probe
  while read -r kind mount; do
    probe=$mount/skiff-probe-$$
    if mkdir "$probe" 2>/dev/null; then
      rmdir "$probe"
      echo "$mount"
      return 0
    fi
  done < <(cgroup_mounts)
  return 1
}

# Nested cgroup v2 (a container): controllers can be handed down only by a group without processes of its own.
leave_cgroup_root() {
  local root=/sys/fs/cgroup pid wanted c
  [ -f $root/cgroup.type ] && [ -f $root/cgroup.subtree_control ] || return 0
  for c in $(cat $root/cgroup.controllers); do
    grep -qw "$c" $root/cgroup.subtree_control || wanted="${wanted:-} +$c"
  done
  [ -n "${wanted:-}" ] || return 0
  mkdir -p $root/skiff-init
  while read -r pid; do echo "$pid" >$root/skiff-init/cgroup.procs 2>/dev/null || true; done <$root/cgroup.procs
  for c in $wanted; do echo "$c" >$root/cgroup.subtree_control 2>/dev/null || true; done
}

# Hierarchies of cgroup v1 that the kernel has and nobody mounted. crun asks for all of them, and refuses a machine where
# one is left to cgroup v2. In a private mount namespace.
mount_missing_hierarchies() {
  local name number groups enabled top=/sys/fs/cgroup
  [ "$(stat -f -c %T $top 2>/dev/null)" = tmpfs ] || return 0
  while read -r name number groups enabled; do
    [ "$enabled" = 1 ] || continue
    awk '{ print $5, $NF }' /proc/self/mountinfo | grep -Eq "^$top/[^ ]* ([^ ]*,)?$name(,|\$)" && continue
    mkdir -p "$top/$name" 2>/dev/null && mount -t cgroup -o "$name" "$name" "$top/$name" 2>/dev/null || true
  done < <(grep -v '^#' /proc/cgroups)
}

# Become this script once more, in mount and process namespaces of its own: what it mounts is seen by nobody else, and
# nothing that it starts outlives it, however it ends.
exec_private() {
  leave_cgroup_root
  SKIFF_PRIVATE=$0 exec unshare --mount --pid --fork --kill-child --propagation private --mount-proc -- "$0" "$@"
}

enter_private() {
  [ "${SKIFF_PRIVATE:-}" = "$0" ] || exec_private "$@"
  unset SKIFF_PRIVATE
  mount_missing_hierarchies
}

# The kernel refuses overlay on overlay, and an overlay's whiteouts there: where /tmp is one, as in a container, tests
# find a tmpfs instead. In a private mount namespace.
overlay_free_tmp() {
  case $(stat -f -c %T "${TMPDIR:-/tmp}") in
    overlay*) mount -t tmpfs -o mode=1777 tmpfs /var/tmp && export TMPDIR=/var/tmp ;;
  esac
}
with_overlay_free_tmp() {
  unshare --mount --propagation private bash -euc '. "$0/scripts/lib.sh"; overlay_free_tmp; exec "$@"' "$REPO" "$@"
}

# Remove what is left of the control groups below these names, once their processes are gone.
remove_cgroups() {
  local kind mount name group tries
  while read -r kind mount; do
    for name in "$@"; do
      [ -d "$mount/$name" ] || continue
      find "$mount/$name" -depth -type d 2>/dev/null | while read -r group; do
        for tries in 1 2 3 4 5 6 7 8 9 10; do rmdir "$group" 2>/dev/null && break || sleep 0.05; done
      done
    done
  done < <(cgroup_mounts)
}

# Configure and compile. BUILD says where; arguments go to meson setup when the directory is new.
compile() {
  configure "$@" && ninja -C "$BUILD"
}

configure() {
  [ -f "$BUILD/build.ninja" ] || meson setup "$BUILD" "$REPO" "$@"
}

# step NAME COMMAND…: run a part of a check, and note under STEPS whether it succeeded and how long it took.
step() {
  local name=$1 begin=$SECONDS status=0
  shift
  say "== $name"
  "$@" || status=$?
  say "== $name: $([ $status = 0 ] && echo ok || echo "FAILED ($status)") after $((SECONDS - begin)) s"
  return $status
}

# unit_tests NAME [what meson test takes]: run the tests of BUILD that need no daemon; results says how they ended.
unit_tests() {
  local name=$1 status=0 log=$BUILD/meson-logs/testlog.json
  shift
  rm -f "$log"
  step "$name" with_overlay_free_tmp meson test -C "$BUILD" --no-rebuild --print-errorlogs "$@" || status=$?
  results+=(--meson "$status=$log")
}

# e2e_tests NAME [what pytest takes]: the same for the end-to-end tests.
e2e_tests() {
  local name=$1 status=0 log=$BUILD/e2e.junit.xml
  shift
  rm -f "$log"
  SKIFF_BUILD=$BUILD SKIFF_PEERS=$PEERS step "$name" "$REPO/scripts/e2e" --junitxml="$log" "$@" || status=$?
  results+=(--pytest "$status=$log")
}
