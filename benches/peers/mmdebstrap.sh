# shellcheck shell=bash
# shellcheck disable=SC2016  # what stands in single quotes is for another program to expand
# mmdebstrap for benches/compare: cold from a local repository; a second image from the base's tar and an edit from the
# image's own tar, both with its `tar-in` hook. It remembers nothing itself.

mmdebstrap_command() { # OUTPUT ARGUMENT…
  local output=$1
  shift
  inside bash -c 'set -o pipefail
    level=$1 output=$2; shift 2
    mmdebstrap --quiet --mode=root --variant=custom --aptopt="Acquire::Languages \"none\"" "$@" |
      zstd --quiet "-$level" -f -o "$output"' bash "$level" "$output" "$@"
}
mmdebstrap_source='deb [trusted=yes] copy:/bench/repository trixie main'

mmdebstrap_prepare() {
  mkdir -p "$work/exchange/mmdebstrap"
  local from=/bench/mmdebstrap
  inside mmdebstrap --quiet --mode=root --variant=custom --include="$(names , base)" trixie $from/base.tar "$mmdebstrap_source"
  inside mmdebstrap --quiet --mode=root --variant=custom --include="$(names , qbittorrent)" trixie $from/image.tar \
    "$mmdebstrap_source"
}
mmdebstrap_cold() {
  measured "$work/exchange/mmdebstrap/cold.tar.zst" mmdebstrap_command /bench/mmdebstrap/cold.tar.zst \
    --include="$(names , qbittorrent)" trixie - "$mmdebstrap_source"
}
mmdebstrap_second() {
  measured "$work/exchange/mmdebstrap/second.tar.zst" mmdebstrap_command /bench/mmdebstrap/second.tar.zst \
    --skip=check/empty --setup-hook='tar-in /bench/mmdebstrap/base.tar /' \
    --include="$(names , added)" trixie - "$mmdebstrap_source"
}
mmdebstrap_edit() {
  measured "$work/exchange/mmdebstrap/edit.tar.zst" mmdebstrap_command /bench/mmdebstrap/edit.tar.zst \
    --skip=update,cleanup/apt --setup-hook='tar-in /bench/mmdebstrap/image.tar /' \
    --customize-hook='copy-in /bench/edit/usr /' trixie - ''
}
