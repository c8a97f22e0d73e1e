# shellcheck shell=bash
# Writes benches/RESULTS.md from what `runs` and `download.runs` in the work directory hold; sourced by benches/compare.

# column PEER WHAT N: one value of all these runs, sorted.
column() { awk -v peer="$1" -v what="$2" -v n="$3" '$1 == peer && $2 == what { print $n }' "$work/runs" | sort -g; }
median() { column "$@" | middle; }
middle() { awk '{ v[NR] = $1 } END { if (NR) print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
range() { column "$@" | awk -v form="${form:-%.2f}" 'NR == 1 { a = $1 } { b = $1 } END { printf form " to " form, a, b }'; }
rounded() { awk -v value="$1" -v form="$2" -v by="${3:-1}" 'BEGIN { printf form, value / by }'; }
# row PEER WHAT: a line of the table; nothing when it was not measured.
row() {
  [ -n "$(column "$1" "$2" 4)" ] || return 0
  local base
  base=$(median mmdebstrap cold 4)
  echo "| $1 | $(rounded "$(median "$1" "$2" 4)" "${form:-%.2f}") ($(range "$1" "$2" 4)) | $(column "$1" "$2" 4 | grep -c .) |" \
    "$(rounded "$(median "$1" "$2" 4)" %.3f "$base") | $(rounded "$(median "$1" "$2" 5)" %.2f) |" \
    "$(rounded "$(median "$1" "$2" 6)" %.0f 1024) | $(rounded "$(median "$1" "$2" 7)" %.0f 1024) |" \
    "$(rounded "$(median "$1" "$2" 8)" %.0f 1024) | $(rounded "$(median "$1" "$2" 10)" %.1f 1048576) |"
}
table() { # WHAT
  local peer
  echo "| | wall, s (range) | runs | to mmdebstrap, cold | processor, s | largest process, MiB | all processes, MiB | tree in memory, MiB | archive, MiB |"
  echo "|---|---|---|---|---|---|---|---|---|"
  for peer in mmdebstrap mkosi distrobuilder debuerreotype build-images; do row "$peer" "$1"; done
}
# target NAME WHAT LIMIT WORDS: a ratio to mmdebstrap's cold build.
target() {
  local ratio
  ratio=$(awk -v a="$(median build-images "$2" 4)" -v b="$(median mmdebstrap cold 4)" 'BEGIN { printf "%.5f", a / b }')
  echo "| $1 | $4 | 1/$(awk -v r="$ratio" 'BEGIN { printf "%.1f", 1 / r }') ($(rounded "$ratio" %.3f)) | $(met "$ratio" "$3") |"
}
met() { awk -v a="$1" -v b="$2" 'BEGIN { print a <= b ? "yes" : "no" }'; }
# memory NAME N: a target for the most of a column.
memory() {
  local most
  most=$(largest "$2")
  if [ "$most" = 0 ]; then
    echo "| $1 | at most 300 MiB | not measured | |"
  else
    echo "| $1 | at most 300 MiB | $(rounded "$most" %.0f 1024) MiB | $(met "$most" 307200) |"
  fi
}
largest() { awk -v n="$1" '$1 == "build-images" && $n > most { most = $n } END { print most + 0 }' "$work/runs"; }
version() { chroot "$root" dpkg-query -W -f '${Version}' "$1"; }
download() { awk -v what="$1" '$1 == what { print $2 }' "$work/download.runs" | sort -g; }
spread() { download "$1" | awk 'NR == 1 { a = $1 } { b = $1 } END { printf "%.2f to %.2f", a, b }'; }

report() {
  local unchanged count
  count=$(jq '.packages | length' "$work/qbittorrent.json")
  unchanged=$(median build-images unchanged 4)
  cat <<EOF
# Results

Written by \`benches/compare\`: medians and ranges of runs in turn (all tools once, then all again). The image is qBittorrent's,
$count packages, of which $(jq '.packages | length' "$work/base.json") are the base. Its lock was made anew for this, from the
mirror of the day, because older versions cannot be had everywhere. Before each run every .deb is read once: what memory has
lost of them since the last run is no tool's doing.

- machine: $(nproc) cores, $(awk '/model name/ { sub(/.*: /, ""); print; exit }' /proc/cpuinfo), $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), kernel $(uname -r | cut -d. -f1,2)
- in a Debian 13 root: mmdebstrap $(version mmdebstrap), mkosi $(version mkosi), distrobuilder $(version distrobuilder), debuerreotype $(version debuerreotype) with debootstrap $(version debootstrap), zstd $(version zstd), apt $(version apt)
- $("$tool" --version), on the machine itself

## Targets

Ratios are to mmdebstrap's wall time for the same packages in the same runs.

| | target | measured | met |
|---|---|---|---|
$(target "from nothing, .debs at hand" cold 0.2 "at most 1/5")
$(target "a second image on the same base" second 0.125 "at most 1/8")
$(target "one small package added" small 0.125 "at most 1/8")
$(target "one line of a template edited" edit 0.016667 "at most 1/60")
| nothing changed | under 30 ms | $(rounded "$unchanged" %.0f 0.001) ms | $(met "$unchanged" 0.03) |
$(memory "memory of the program, most in any run" 9)
$(memory "memory of all its processes beside the tree, most in any run" 7)
EOF
  if [ -s "$work/download.runs" ]; then
    local ratio
    ratio=$(awk -v a="$(download tool | middle)" -v b="$(download curl | middle)" 'BEGIN { printf "%.2f", a / b }')
    echo "| download, to curl in parallel | at most 1.2 | $ratio | $(met "$ratio" 1.2) |"
  fi
  cat <<EOF

## From nothing, with every .deb at hand

$(table cold)

## A second image, after one of the base alone

$(table second)

## One file edited

$(table edit)

## Nothing changed, and one small package added (build-images)

| | wall, s (range) | runs | to mmdebstrap, cold | processor, s | largest process, MiB | all processes, MiB | tree in memory, MiB | archive, MiB |
|---|---|---|---|---|---|---|---|---|
$(form=%.3f row build-images unchanged | sed 's/^| build-images /| nothing changed /')
$(row build-images small | sed 's/^| build-images /| one package added /')

"All processes" is the most anonymous memory that all processes of a run had together, "tree in memory" the most of shared
memory, which is the tree on tmpfs: both as a memory control group counts them, looked at every 50 ms. "Largest process" is
what \`time\` says of the one with most resident memory, files that it has mapped included.
EOF
  if [ -s "$work/download.runs" ]; then
    cat <<EOF

## Download

Written by \`benches/download\`: $(awk 'NR == 1 { printf "%d files, %.1f MiB", $3, $4 / 1048576 }' "$work/download.runs") from one
mirror over HTTP, into an empty store, $(download tool | grep -c .) runs in turn. build-images hashes every file while it comes and waits for the disk
to have it; \`curl --parallel\` does neither.

| | s (range) |
|---|---|
| curl --parallel | $(rounded "$(download curl | middle)" %.2f) ($(spread curl)) |
| build-images, until the last .deb is in the store | $(rounded "$(download tool | middle)" %.2f) ($(spread tool)) |
| build-images, a whole build from an empty store | $(rounded "$(download build | middle)" %.2f) ($(spread build)) |
EOF
  fi
  cat "$here/peers/notes.md"
}
report >"$work/results.md"
cp "$work/results.md" "$here/RESULTS.md"
cat "$here/RESULTS.md"
