# shellcheck shell=bash
# shellcheck disable=SC2016  # what stands in single quotes is for another program to expand
# mkosi for benches/compare: a second image from `BaseTrees=`, an edit with `Incremental=` from the image it keeps after
# installing packages (in a cache of its own: a build without `Incremental=` drops it). With an output there it does nothing unless forced, whatever changed.

mkosi_configuration() { # NAME PACKAGES LINE…: /bench/mkosi/NAME/mkosi.conf
  local name=$1 packages=$2
  shift 2
  mkdir -p "$work/exchange/mkosi/$name" "$work/exchange/mkosi/output"
  cat >"$work/exchange/mkosi/$name/mkosi.conf" <<EOF
[Distribution]
Distribution=debian
Release=trixie
LocalMirror=file:///bench/repository
RepositoryKeyCheck=no
[Output]
Output=$name
OutputDirectory=/bench/mkosi/output
CompressOutput=zstd
CompressLevel=$level
[Content]
Packages=$packages
WithRecommends=no
WithDocs=yes
Bootable=no
CleanPackageMetadata=no
[Build]
WorkspaceDirectory=/var/tmp
CacheDirectory=/bench/mkosi/cache/$name
PackageCacheDirectory=/bench/mkosi/packages
$(printf '%s\n' "$@")
EOF
}
mkosi_command() { # NAME ARGUMENT…
  local name=$1
  shift
  mkdir -p "$work/exchange/mkosi/cache/$name" "$work/exchange/mkosi/packages"
  inside sh -c 'cd "/bench/mkosi/$1"; shift; exec mkosi "$@" >/tmp/log 2>&1 || { cat /tmp/log >&2; exit 1; }' sh "$name" \
    --force "$@" build
}

mkosi_prepare() {
  rm -rf "$work/exchange/mkosi"
  mkosi_configuration base "$(names , base)" "[Output]" "Format=directory" "CompressOutput=no"
  mkosi_configuration cold "$(names , qbittorrent)" "[Output]" "Format=tar"
  mkosi_configuration second "$(names , added)" "[Output]" "Format=tar" "[Content]" "BaseTrees=/bench/mkosi/output/base"
  mkosi_configuration edit "$(names , qbittorrent)" "[Output]" "Format=tar" "[Content]" "ExtraTrees=/bench/edit" "[Build]" \
    "Incremental=yes"
  mkosi_command base
  mkosi_command edit
}
mkosi_cold() { measured "$work/exchange/mkosi/output/cold.tar.zst" mkosi_command cold; }
mkosi_second() { measured "$work/exchange/mkosi/output/second.tar.zst" mkosi_command second; }
mkosi_edit() { measured "$work/exchange/mkosi/output/edit.tar.zst" mkosi_command edit; }
