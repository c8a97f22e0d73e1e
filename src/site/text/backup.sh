#!/bin/sh
@HEADING@
# shellcheck disable=SC2317,SC2329 # which functions are called depends on the images
set -eu

usage() {
    cat <<'END'
backup.sh list
backup.sh save [--live] [--root DIR] DIRECTORY [IMAGE]...
backup.sh restore [--live] [--root DIR] ARCHIVE
  save      writes one archive for each image, all by default, to DIRECTORY. The container is stopped meanwhile: what
            is copied under a running application may be of two minds
  --live    do not stop it; for a trial restore below another root
  restore   puts an archive's state in place of what is there, which is kept beside it
  --root DIR  treat DIR as the root of the file system
END
}
fail() { echo "backup.sh: $*" >&2; exit 1; }
bad() { echo "backup.sh: $*" >&2; usage >&2; exit 2; }

# with_state IMAGE FUNCTION: calls the function with the image's directories; `image` and `vmid` say whose they are.
with_state() {
    image=$1
    action=$2
    case $image in
@STATES@
    *) bad "no image \`$image\` has state to keep; there are: @IMAGES@" ;;
    esac
    "$action" "$@"
}

stopped=
start_again() {
    [ -z "$stopped" ] || { pct start "$stopped"; stopped=; }
}
# Stops the container unless it does not run; it starts again at the end, also after a failure.
stop() {
    [ -z "$live" ] || return 0
    command -v pct > /dev/null || fail "there is no pct here; run this on the node"
    case $(pct status "$vmid" 2> /dev/null || :) in
    *running*) ;;
    *) return 0 ;;
    esac
    stopped=$vmid
    pct shutdown "$vmid" --timeout 300
}

partial=
names=
new=
cleanup() {
    [ -z "$partial" ] || rm -f -- "$partial"
    [ -z "$names" ] || rm -f -- "$names"
    [ -z "$new" ] || rm -rf -- "$new"
    start_again
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

show() {
    for source do printf '%s\t%s\t%s\n' "$image" "$vmid" "$source"; done
}

save() {
    for source do
        [ -d "$root$source" ] || fail "$root$source is not there; run storage.sh and start the container once"
    done
    name=state-$image-$(date -u +%Y%m%dT%H%M%SZ).tar.zst
    [ ! -e "$directory/$name" ] || fail "$directory/$name is there already"
    partial=$directory/.$name.partial
    (umask 077 && : > "$partial")
    stop
    for source do
        shift
        set -- "$@" ".$source"
    done
    tar -C "$root/" --numeric-owner --acls --xattrs --sparse --zstd -cpf "$partial" -- "$@"
    start_again
    sync "$partial"
    mv -T "$partial" "$directory/$name"
    partial=
    (cd "$directory" && sha256sum "$name" > "$name.sha256")
    echo "$directory/$name"
}

restore() {
    # Nothing but these directories may be in it.
    names=$(mktemp)
    tar --zstd -tf "$archive" > "$names" || fail "$archive cannot be read"
    while read -r member; do
        good=
        for source do
            case $member in ".$source"/*) good=yes ;; esac
        done
        case $member in */../* | */..) good= ;; esac
        [ -n "$good" ] || fail "$archive has \`$member\`, which is no state of $image"
    done < "$names"
    for source do
        [ -d "$root$source" ] || fail "$root$source is not there; run storage.sh first"
        ! mountpoint -q "$root$source" || fail "$root$source is a file system of its own, so nothing can be put in its \
place; unpack $archive by hand"
    done
    stop
    stamp=$(date -u +%Y%m%dT%H%M%SZ)
    for source do
        # Beside it, so that putting it in place is a rename.
        new=$root$source.new-$stamp
        mkdir "$new"
        count=$(printf '%s' "${source#/}" | tr -cd / | wc -c)
        tar -C "$new" --numeric-owner --acls --xattrs --zstd -xpf "$archive" --strip-components=$((count + 2)) -- ".$source"
        chown --reference="$root$source" "$new"
        chmod --reference="$root$source" "$new"
        sync -f "$new"
        mv -T "$root$source" "$root$source.before-$stamp"
        mv -T "$new" "$root$source"
        new=
        echo "$root$source is of $archive; what was there is in $root$source.before-$stamp"
    done
    start_again
}

command=${1:-}
[ $# -eq 0 ] || shift
live=
root=
while [ $# -gt 0 ]; do
    case $1 in
    --live) live=yes ;;
    --root)
        [ $# -ge 2 ] || bad "--root needs a directory"
        shift
        root=${1%/}
        ;;
    --*) bad "unknown option \`$1\`" ;;
    *) break ;;
    esac
    shift
done

case $command in
list)
    for image in @IMAGES@; do with_state "$image" show; done
    ;;
save)
    [ $# -ge 1 ] || bad "save: where to?"
    directory=$1
    shift
    [ -d "$directory" ] || fail "$directory is no directory"
    [ $# -gt 0 ] || set -- @IMAGES@
    for image do with_state "$image" save; done
    ;;
restore)
    [ $# -eq 1 ] || bad "restore: which archive?"
    archive=$1
    [ -f "$archive" ] || fail "there is no $archive"
    name=${archive##*/}
    case $name in
    state-*-*.tar.zst) ;;
    *) fail "$name is not named as \`backup.sh save\` names archives: state-IMAGE-TIME.tar.zst" ;;
    esac
    [ -f "$archive.sha256" ] || fail "there is no $archive.sha256, which says whether the archive is whole"
    (cd "$(dirname "$archive")" && sha256sum --quiet -c "$name.sha256") || fail "$archive is damaged"
    image=${name#state-}
    with_state "${image%-*}" restore
    ;;
help | --help | -h) usage ;;
*) bad "say list, save or restore" ;;
esac
