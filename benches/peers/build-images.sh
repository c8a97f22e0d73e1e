# shellcheck shell=bash
# shellcheck disable=SC2016,SC2031  # what stands in single quotes is for another program to expand
# build-images for benches/compare. Before each cold build its layers, frames, scans and results are deleted; the .debs stay.

ours() { # PROJECT IMAGE
  "${prefix[@]}" "$tool" --root "$1" --store "$store" --result "$work/result" --quiet "$2" >/dev/null
}
forget() { rm -rf "$store"/{layers,frames,scans,results,notes} "$work/result"; }
archive="$work/result/qbittorrent/*.tar.zst"
template=$project/recipes/qbittorrent/files/qBittorrent.conf.tera

build_images_prepare() {
  # Fetches what is not there.
  ours "$project" base
  ours "$project" qbittorrent
  ours "$work/project-small" qbittorrent
}
build_images_cold() {
  forget
  measured "$archive" ours "$project" qbittorrent
}
build_images_second() {
  forget
  ours "$project" base
  measured "$archive" ours "$project" qbittorrent
}
# After `second`, in this order.
build_images_unchanged() { measured "$archive" ours "$project" qbittorrent; }
build_images_edit() {
  cp "$template" "$work/template"
  printf '# %s\n' "$(cat "$work/exchange/edit/usr/share/qbittorrent/seed/qBittorrent.conf")" >>"$template"
  measured "$archive" ours "$project" qbittorrent
  cp "$work/template" "$template"
}
build_images_small() { measured "$archive" ours "$work/project-small" qbittorrent; }
