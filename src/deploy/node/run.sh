#!/bin/sh
# Takes a deployment's steps, each noted on disk before and after it, so that whatever ends this, the next run of it
# knows what has been begun. When a step fails it goes back. In: the directory with the steps, and `forward` or
# `recover`. Out: what the steps say, and lines that begin with `@ `.
set -u
trap '' HUP PIPE
dir=$1
mode=$2
home=${dir%/transaction}
# Whoever began this kept its files to itself; what Proxmox makes is for the container.
umask 022
LC_ALL=C
export LC_ALL
exec 9< "$home" || exit 4
if ! flock -n 9; then
    echo "@ result busy"
    exit 4
fi
cd "$dir" 2> /dev/null || {
    echo "@ result nothing"
    exit 0
}
secrets=/run/build-images/${home##*/}

now() { date +%s%3N; }
note() {
    printf '%s %s\n' "$(now)" "$*" >> journal && sync journal || return 1
    echo "@ $*"
}
noted() { grep -q "^[0-9]* $1\$" journal 2> /dev/null; }
# No step and nothing that it leaves running holds the lock.
step() { sh -eu "$1" 9<&- < /dev/null 2>&1; }

forward() {
    for file in forward/*; do
        name=${file#forward/*-}
        note "begin $name" || return 1
        step "$file" || {
            note "fail $name"
            return 1
        }
        note "end $name" || return 1
    done
}

# Goes back over what was begun. Each step can be taken again.
back() {
    note back
    for file in back/*; do
        [ -e "$file" ] || continue
        name=${file#back/*-}
        after=$(sed -n '1s/^# after: //p' "$file")
        noted "begin $after" || continue
        before=$(sed -n '2s/^# only if done: //p' "$file")
        [ -z "$before" ] || noted "end $before" || continue
        echo "@ begin back-$name"
        step "$file" || {
            echo "@ result stuck $name"
            return 1
        }
        echo "@ end back-$name"
    done
    finish back
}

finish() {
    begun=$(sed -n 's/ begin stop$//p' journal 2> /dev/null | head -n 1)
    ended=$(sed -n 's/ end probe$//p' journal 2> /dev/null | head -n 1)
    [ -z "$begun" ] || echo "@ downtime $((${ended:-$(now)} - begun))"
    rm -rf "$secrets"
    rm -rf "$home/last"
    mv -T "$dir" "$home/last"
    echo "@ result $1"
}

last=
for file in forward/*; do last=${file#forward/*-}; done
attempt() {
    if [ "$mode" = forward ]; then forward; else noted "end $last"; fi
}
if attempt; then
    step commit || {
        echo "@ result stuck commit"
        exit 3
    }
    finish "done"
else
    back
fi
