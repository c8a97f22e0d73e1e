# shellcheck shell=bash
# shellcheck disable=SC2016  # what stands in single quotes is for another program to expand
# distrobuilder for benches/compare: cold with debootstrap as its source; a second image from the base's tar with its
# source `rootfs-http`; an edit with `pack-lxc`, which writes files over a kept tree and packs it.

distrobuilder_definition() { # NAME PACKAGES: reads the source's lines from standard input
  mkdir -p "$work/exchange/distrobuilder"
  {
    cat <<EOF
image: { name: $1, distribution: debian, release: trixie, architecture: x86_64, description: $1 }
mappings: { architecture_map: debian }
source:
EOF
    cat
    cat <<EOF
targets:
  lxc: { create_message: "" }
files:
  - { generator: copy, source: /bench/edit/usr/share/qbittorrent/seed/qBittorrent.conf, path: /usr/share/qbittorrent/seed/qBittorrent.conf }
packages:
  manager: apt
  update: false
  cleanup: true
  repositories:
    - { name: sources.list, url: "deb [trusted=yes] $server trixie main" }
  sets:
    - action: install
      flags: [--no-install-recommends]
      packages: [$2]
EOF
  } >"$work/exchange/distrobuilder/$1.yaml"
}
distrobuilder_command() { # NAME SUBCOMMAND PATH…: with options after --
  inside sh -c 'file=/bench/distrobuilder/$1.yaml verb=$2; shift 2
    distrobuilder "$verb" "$file" "$@" --cache-dir /var/tmp/cache >/tmp/log 2>&1 || { tail -n 50 /tmp/log >&2; exit 1; }' sh "$@"
}
distrobuilder_compressed=(--compression="zstd-$level")

distrobuilder_prepare() {
  local from=$work/exchange/distrobuilder debootstrap
  rm -rf "$from"
  mkdir -p "$from/cold" "$from/second" "$from/edit"
  debootstrap="  { downloader: debootstrap, url: \"$server\", suite: trixie, variant: minbase, skip_verification: true }"
  distrobuilder_definition base "$(names ', ' base)" <<<"$debootstrap"
  distrobuilder_definition cold "$(names ', ' qbittorrent)" <<<"$debootstrap"
  distrobuilder_definition second "$(names ', ' added)" \
    <<<'  { downloader: rootfs-http, url: "file:///bench/distrobuilder/base.tar.gz" }'
  distrobuilder_command base build-dir /bench/distrobuilder/base --sources-dir /var/tmp/sources
  tar --numeric-owner --xattrs -C "$from/base" -czf "$from/base.tar.gz" .
  distrobuilder_command cold build-dir /bench/distrobuilder/image --sources-dir /var/tmp/sources
}
distrobuilder_cold() {
  measured "$work/exchange/distrobuilder/cold/rootfs.tar.zst" distrobuilder_command cold build-lxc /bench/distrobuilder/cold \
    --sources-dir /var/tmp/sources "${distrobuilder_compressed[@]}"
}
distrobuilder_second() {
  measured "$work/exchange/distrobuilder/second/rootfs.tar.zst" distrobuilder_command second build-lxc \
    /bench/distrobuilder/second --sources-dir /var/tmp/sources "${distrobuilder_compressed[@]}"
}
distrobuilder_edit() {
  measured "$work/exchange/distrobuilder/edit/rootfs.tar.zst" distrobuilder_command cold pack-lxc /bench/distrobuilder/image \
    /bench/distrobuilder/edit "${distrobuilder_compressed[@]}"
}
