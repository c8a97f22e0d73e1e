# shellcheck shell=bash
# shellcheck disable=SC2016  # what stands in single quotes is for another program to expand
# debuerreotype for benches/compare: its scripts in the order of its README. A second image and an edit begin with a copy
# of a kept tree, which is what its own examples do for variants.

debuerreotype_command() { # NAME BEGIN INSTALL: a tree from BEGIN (`-`: from nothing), packages, /bench/edit, a tar
  inside bash -c 'set -euo pipefail
    name=$1 begin=$2 packages=$3 server=$4 level=$5 tree=/tmp/rootfs
    {
      if [ "$begin" = - ]; then
        debuerreotype-init --non-debian --no-check-gpg $tree trixie "$server"
        debuerreotype-minimizing-config $tree
        echo "deb [trusted=yes] $server trixie main" >$tree/etc/apt/sources.list
        debuerreotype-apt-get $tree update -qq
      else
        cp -a "$begin" $tree
      fi
      [ -z "$packages" ] || debuerreotype-apt-get $tree install -yqq --no-install-recommends $packages
      cp -r /bench/edit/usr $tree/
    } >/tmp/log 2>&1 || { tail -n 50 /tmp/log >&2; exit 1; }
    if [ "${name%.kept}" != "$name" ]; then
      cp -a $tree "/bench/debuerreotype/$name"
    else
      debuerreotype-tar $tree - | zstd --quiet "-$level" -f -o "/bench/debuerreotype/$name.tar.zst"
    fi' bash "$@" "$server" "$level"
}

debuerreotype_prepare() {
  rm -rf "$work/exchange/debuerreotype"
  mkdir -p "$work/exchange/debuerreotype"
  debuerreotype_command base.kept - "$(names ' ' base)"
  debuerreotype_command image.kept /bench/debuerreotype/base.kept "$(names ' ' added)"
}
debuerreotype_cold() {
  measured "$work/exchange/debuerreotype/cold.tar.zst" debuerreotype_command cold - "$(names ' ' qbittorrent)"
}
debuerreotype_second() {
  measured "$work/exchange/debuerreotype/second.tar.zst" debuerreotype_command second /bench/debuerreotype/base.kept \
    "$(names ' ' added)"
}
debuerreotype_edit() {
  measured "$work/exchange/debuerreotype/edit.tar.zst" debuerreotype_command edit /bench/debuerreotype/image.kept ''
}
