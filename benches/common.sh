# shellcheck shell=bash
# What the benches share; sourced by them. Sets `work`, `tool`, `root`, `project`, `debs` and the functions below.
# shellcheck disable=SC2016,SC2030,SC2031  # what stands in single quotes is for another program to expand
set -euo pipefail
export LC_ALL=C
source_directory=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# The program's own zstd level, given to every peer that can be told.
# shellcheck disable=SC2034  # not every bench uses it
level=3

say() { printf '%s\n' "$*" >&2; }

# need PROGRAM…: stops unless root and all programs are there.
need() {
  local program missing=()
  [ "$(id -u)" = 0 ] || { say "run it as root"; exit 2; }
  for program in "$@"; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  [ "${#missing[@]}" = 0 ] || { say "not there: ${missing[*]} (Debian: mmdebstrap jq time curl procps util-linux zstd)"; exit 2; }
}

work=${BENCH_DIR:-${TMPDIR:-/tmp}/build-images-bench}
mkdir -p "$work"
work=$(cd "$work" && pwd -P)
root=$work/trixie
project=$work/project
store=$work/store

# The program under test: BUILD_IMAGES, or a release build of this source.
find_tool() {
  if [ -n "${BUILD_IMAGES:-}" ]; then
    tool=$(readlink -e "$BUILD_IMAGES") || { say "BUILD_IMAGES is not there: $BUILD_IMAGES"; exit 2; }
  else
    (cd "$source_directory" && cargo build --release --quiet)
    tool=$source_directory/target/release/build-images
  fi
}

# The mirror of the host's own apt configuration.
host_mirror() { apt-get indextargets --format '$(REPO_URI)' | grep -E '/debian/?$' | head -n 1; }

# make_root PACKAGE…: a Debian 13 root with these packages, once per work directory.
make_root() {
  local packages
  packages=$(IFS=,; echo "$*")
  if [ "$(cat "$root.done" 2>/dev/null)" != "$packages" ]; then
    say "making a Debian 13 root with the peers"
    rm -rf "$root" "$root.done"
    mmdebstrap --quiet --variant=apt --include="$packages" trixie "$root" "$(host_mirror)"
    printf '%s\n' "$packages" >"$root.done"
  fi
}

# make_project: a copy of this project's recipes and images, locked anew from the host's mirror so that every .deb can be
# had, with an image of the base alone, and a second copy whose recipe has one small package more.
make_project() {
  [ -e "$work/project.done" ] && return
  say "making the project and locking it"
  rm -rf "$project" "$work/project-small"
  mkdir -p "$project"
  cp -a "$source_directory/recipes" "$source_directory/images" "$project/"
  rm -f "$project/images/jellyfin.toml"
  printf '%s\n' 'description = "Debian 13 alone"' 'recipes = ["debian-13"]' '[container]' 'vmid = 900' 'address = 200' \
    >"$project/images/base.toml"
  "$tool" --root "$project" --store "$store" --quiet update >/dev/null
  cp -a "$project" "$work/project-small"
  sed -i 's/^install = \["qbittorrent-nox"\]/install = ["qbittorrent-nox", "tree"]/' \
    "$work/project-small/recipes/qbittorrent/recipe.toml"
  "$tool" --root "$work/project-small" --store "$store" --quiet lock >/dev/null
  touch "$work/project.done"
}

# Put before what is measured; set by `measured`.
prefix=()

# inside COMMAND…: in the Debian 13 root as a root of its own (several tools refuse a chroot), with /proc, /sys, /dev, and
# /tmp and /var/tmp in memory; `$work/exchange` is its /bench.
inside() {
  mkdir -p "$root/bench" "$work/exchange"
  "${prefix[@]}" env -u http_proxy -u https_proxy unshare --mount --pid --fork --kill-child sh -ec '
    root=$1 exchange=$2; shift 2
    mount --make-rprivate /
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"; mount --rbind /sys "$root/sys"; mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/tmp"; mount -t tmpfs tmpfs "$root/var/tmp"
    mount --bind "$exchange" "$root/bench"
    cd "$root"
    mkdir -p .old
    pivot_root . .old
    cd /
    umount -l /.old
    exec "$@"' sh "$root" "$work/exchange" "$@"
}

# make_repository IMAGE: exchange/repository has the .debs of an image, as a Debian archive without signatures.
make_repository() {
  local repository=$work/exchange/repository
  rm -rf "$repository"
  mkdir -p "$repository/pool" "$repository/dists/trixie/main/binary-amd64"
  jq -r '.packages[] | [.sha256, (.path | split("/") | last)] | @tsv' "$work/$1.json" |
    while IFS=$'\t' read -r hash file; do cp "$store/debs/$hash" "$repository/pool/$file"; done
  inside sh -ec 'cd /bench/repository
    dpkg-scanpackages -m pool >dists/trixie/main/binary-amd64/Packages 2>/dev/null
    gzip -k dists/trixie/main/binary-amd64/Packages
    apt-ftparchive -o APT::FTPArchive::Release::Origin=Debian -o APT::FTPArchive::Release::Suite=stable \
      -o APT::FTPArchive::Release::Codename=trixie -o APT::FTPArchive::Release::Architectures=amd64 \
      -o APT::FTPArchive::Release::Components=main release dists/trixie >/tmp/Release
    mv /tmp/Release dists/trixie/Release'
}

# names SEPARATOR LIST: the packages of `base` or `qbittorrent`, or those that the second adds to the first (`added`).
names() {
  if [ "$2" = added ]; then
    comm -13 <(jq -r '.packages[].name' "$work/base.json" | sort) <(jq -r '.packages[].name' "$work/qbittorrent.json" | sort)
  else
    jq -r '.packages[].name' "$work/$2.json"
  fi | awk -v separator="$1" 'NR > 1 { printf "%s", separator } { printf "%s", $1 }'
}

# A control group whose memory is watched; empty where there is none.
group=''
make_group() {
  if [ -e /sys/fs/cgroup/memory/memory.stat ]; then
    group=/sys/fs/cgroup/memory/build-images-bench anonymous=total_rss shared=total_shmem
  elif grep -qs memory /sys/fs/cgroup/cgroup.controllers; then
    group=/sys/fs/cgroup/build-images-bench anonymous=anon shared=shmem
    echo +memory >/sys/fs/cgroup/cgroup.subtree_control
  else
    say "no memory control group here: memory of all processes together is not measured"
    return
  fi
  mkdir -p "$group"
}

# Set by a signal. Where it is looked at, the script ends; bash does not survive an `exit` in the middle of `read`.
stopped=''
trap 'stopped=yes' INT TERM

# Ends everything that was started, and takes the control group down. unshare ignores anything gentler.
take_down() {
  local process
  for process in $(descendants "$$"); do kill -KILL "$process" 2>/dev/null || true; done
  # It is busy until the last process has gone.
  for _ in 1 2 3 4 5; do
    [ -d "$group" ] || return 0
    rmdir "$group" 2>/dev/null || sleep 0.2
  done
}
# One look at all processes: what is started while looking must not be looked for.
descendants() {
  ps -e -o pid= -o ppid= | awk -v top="$1" '{ parent[$1] = $2 } END {
    for (process in parent) {
      for (above = parent[process]; above != top && above in parent; above = parent[above]);
      if (above == top) print process
    }
  }'
}

# watch PID: until it ends, the most anonymous and shared memory of its control group, and the most that its grandchild
# (time's child: the program itself) had resident, in KiB; looked at every 50 ms without starting a process.
most_anonymous=0 most_shared=0 most_main=0
watch() {
  local key value child idle
  most_anonymous=0 most_shared=0 most_main=0
  exec {idle}<> <(:)
  while kill -0 "$1" 2>/dev/null; do
    if [ -n "$group" ]; then
      while read -r key value; do
        case $key in
          "$anonymous") ((value / 1024 <= most_anonymous)) || most_anonymous=$((value / 1024)) ;;
          "$shared") ((value / 1024 <= most_shared)) || most_shared=$((value / 1024)) ;;
        esac
      done <"$group/memory.stat"
    fi
    child=$1
    for _ in 1 2; do read -r child _ 2>/dev/null <"/proc/${child:-none}/task/${child:-none}/children" || true; done
    [ -z "$child" ] || while read -r key value _; do
      [ "$key" != VmHWM: ] || ((value <= most_main)) || most_main=$value
    done 2>/dev/null <"/proc/$child/status" || true
    read -rt 0.05 -u "$idle" || true
    [ -z "$stopped" ] || exit 130
  done
  exec {idle}>&-
}

# timed COMMAND…: runs a command (a function that begins with "${prefix[@]}") and sets `figures`: wall s, processor s,
# largest process, most anonymous, most shared, most of the program itself (all in KiB). Fails when the command does.
# shellcheck disable=SC2034  # not every bench uses it
figures=''
timed() {
  local pid wall times
  [ -z "$stopped" ] || exit 130
  sync
  (
    [ -z "$group" ] || echo "$BASHPID" >"$group/cgroup.procs"
    prefix=(/usr/bin/time -o "$work/times" -f '%U %S %M')
    begin=$EPOCHREALTIME
    "$@" || exit
    echo "$begin $EPOCHREALTIME" >"$work/clock"
  ) &
  pid=$!
  watch "$pid"
  wait "$pid" || return
  wall=$(awk '{ printf "%.3f", $2 - $1 }' "$work/clock")
  times=$(awk '{ print $1 + $2, $3 }' "$work/times")
  # shellcheck disable=SC2034
  figures="$wall $times $most_anonymous $most_shared $most_main"
}
