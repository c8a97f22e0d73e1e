#!/bin/sh
@HEADING@
# shellcheck disable=SC2317,SC2329 # which functions are called depends on the images
# A directory that is missing is made. One that is there and empty, or that has the right owner already, gets what it
# lacks. One that holds anything and has another owner is left alone, and the script says so and fails: it may belong to
# something else. See --take-over.
set -eu

usage() {
    cat <<'END'
storage.sh [--dry-run] [--take-over DIRECTORY]... [--root DIR]
  --dry-run               say what would be done and fail when there is anything; do nothing
  --take-over DIRECTORY   this directory, and everything in it, shall belong to its container from now on, whoever
                          owns it now; give it once for each
  --root DIR              treat DIR as the root of the file system
END
}

dry=
root=
taken='
'
while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) dry=yes ;;
    --take-over)
        [ $# -ge 2 ] || { usage >&2; exit 2; }
        shift
        taken="$taken${1%/}
"
        ;;
    --root)
        [ $# -ge 2 ] || { usage >&2; exit 2; }
        shift
        root=${1%/}
        ;;
    --help | -h) usage; exit 0 ;;
    *) echo "storage.sh: unknown option \`$1\`" >&2; usage >&2; exit 2 ;;
    esac
    shift
done
[ -n "$dry" ] || [ "$(id -u)" = 0 ] || { echo "storage.sh: run it as root, or with --dry-run" >&2; exit 2; }

failed=0
changed=0
problem() { echo "problem: $*" >&2; failed=1; }
# Says what is done, and does it.
run() {
    changed=1
    echo "$*"
    [ -n "$dry" ] || "$@"
}

# Proxmox hands no directory to a container that is reached through a symbolic link.
no_links() {
    walked=
    left=${1#/}
    while [ -n "$left" ]; do
        walked=$walked/${left%%/*}
        case $left in */*) left=${left#*/} ;; *) left= ;; esac
        if [ -L "$root$walked" ]; then
            problem "$root$walked is a symbolic link; Proxmox refuses to mount what is behind one. Put a directory there"
            return 1
        fi
        if [ -e "$root$walked" ] && [ ! -d "$root$walked" ]; then
            problem "$root$walked is there and is not a directory"
            return 1
        fi
    done
}

made='
'
# make PATH UID GID MODE, with what is missing above: that belongs to the node.
make() {
    walked=
    left=${1#/}
    while :; do
        walked=$walked/${left%%/*}
        case $left in */*) left=${left#*/} ;; *) break ;; esac
        [ -d "$root$walked" ] || make_one "$walked" 0 0 0755
    done
    make_one "$1" "$2" "$3" "$4"
}
make_one() {
    case $made in
    *"
$1
"*) ;;
    *)
        made="$made$1
"
        run install -d -o "$2" -g "$3" -m "$4" "$root$1"
        ;;
    esac
}

# present PATH: a directory that only has to be there.
present() {
    no_links "$1" || return 0
    [ -d "$root$1" ] || make "$1" 0 0 0755
}

# directory KIND UID GID MODE PATH
directory() {
    kind=$1 uid=$2 gid=$3 mode=$4 path=$5 full=$root$5
    asked="$asked$path
"
    no_links "$path" || return 0
    case $taken in
    *"
$path
"*) take=yes ;;
    *) take= ;;
    esac
    if [ ! -d "$full" ]; then
        make "$path" "$uid" "$gid" "$mode"
        return 0
    fi
    owner=$(stat -c %u:%g "$full")
    if [ "$owner" != "$uid:$gid" ]; then
        if [ -n "$(find "$full" -mindepth 1 -maxdepth 1 -print -quit)" ] && [ -z "$take" ]; then
            problem "$full belongs to $owner, not to $uid:$gid, and is not empty. If what is in it is for this container," \
                "stop whatever uses it, make a copy, and run: storage.sh --take-over $path"
            return 0
        fi
        run chown "$uid:$gid" "$full"
    fi
    [ "$(stat -c %a "$full")" = "$(printf '%o' "0$mode")" ] || run chmod "$mode" "$full"
    if [ -n "$take" ]; then
        contents
    elif [ "$kind" = state ]; then
        foreign=$(find "$full" -xdev -mindepth 1 \( ! -uid +99999 -o -uid +165535 \) -printf . | wc -c)
        [ "$foreign" = 0 ] || problem "$full: $foreign entries in it belong to ids that no container has, so the" \
            "application cannot use them. If they are its state, run: storage.sh --take-over $path"
    fi
}

# Everything in a directory that is taken over. Its own user owns it; what is shared is for the group to read and write.
contents() {
    if [ -n "$(find "$full" -xdev \( ! -uid "$uid" -o ! -gid "$gid" \) -print -quit)" ]; then
        run find "$full" -xdev \( ! -uid "$uid" -o ! -gid "$gid" \) -exec chown -h "$uid:$gid" {} +
    fi
    case $mode in
    2?7?)
        if [ -n "$(find "$full" -xdev -type d ! -perm -2070 -print -quit)" ]; then
            run find "$full" -xdev -type d ! -perm -2070 -exec chmod g+rwxs {} +
        fi
        if [ -n "$(find "$full" -xdev -type f ! -perm -0060 -print -quit)" ]; then
            run find "$full" -xdev -type f ! -perm -0060 -exec chmod g+rw {} +
        fi
        ;;
    esac
}

asked='
'
@DIRECTORIES@

# A directory that is none of these is a typing error, and nothing was taken over.
while read -r path; do
    [ -n "$path" ] || continue
    case $asked in
    *"
$path
"*) ;;
    *) problem "--take-over $path: no container has this directory" ;;
    esac
done <<END
$taken
END
[ "$changed" = 1 ] || [ "$failed" = 1 ] || echo "all directories are as they should be"
[ -z "$dry" ] || [ "$changed" = 0 ] || failed=1
exit "$failed"
