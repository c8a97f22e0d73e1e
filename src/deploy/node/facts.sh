# What a deployment has to know of a node. Reads only. In: root, vmids, bridges, addresses, storage_paths, paths
# (lines). Out: lines of a kind and fields, separated by tabs.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
LC_ALL=C
export PATH LC_ALL
tab=$(printf '\t')
say() {
    line=$1
    shift
    for field in "$@"; do line=$line$tab$field; done
    printf '%s\n' "$line"
}
prefix() { sed "s|^|$1$tab|"; }

say uid "$(id -u)"
say clock "$(date +%s)"
for tool in pct pvesm pveversion perl zstd tar sha256sum flock setsid; do
    command -v "$tool" > /dev/null && say tool "$tool"
done
command -v pveversion > /dev/null && pveversion -v 2> /dev/null | head -n 200 | prefix version
command -v pvesm > /dev/null && pvesm status --content rootdir 2> /dev/null | tail -n +2 | head -n 200 | prefix storage
for bridge in $bridges; do
    [ -e "/sys/class/net/$bridge" ] && say bridge "$bridge"
done
ip -4 -oneline address show 2> /dev/null | head -n 500 | while read -r _ card _ address _; do
    say own "$card" "${address%/*}"
done
# Every guest of the cluster, as far as an id or an address can collide.
for file in /etc/pve/nodes/*/lxc/*.conf /etc/pve/nodes/*/qemu-server/*.conf; do
    [ -e "$file" ] || continue
    id=${file##*/}
    node=${file#/etc/pve/nodes/}
    say guest "${id%.conf}" "${node%%/*}" "$(printf '%s' "${file%/*}" | sed 's|.*/||')"
    sed -n '/^\[/q;/^#/p;/^net[0-9]*:/p;/^ipconfig[0-9]*:/p;/^lock:/p;/^mp[0-9]*:/p;/^rootfs:/p;/^unused[0-9]*:/p;/^hostname:/p' "$file" |
        head -n 300 | prefix "config$tab${id%.conf}"
done
running=
for vmid in $vmids; do
    # A container of this node; those of others cannot be asked.
    [ -e "/etc/pve/lxc/$vmid.conf" ] || continue
    say here "$vmid"
    if pct status "$vmid" 2> /dev/null | grep -q running; then
        say running "$vmid"
        running="$running $vmid "
    fi
done
for pair in $addresses; do
    case $running in *" ${pair%%=*} "*) continue ;; esac
    ping -c 1 -W 0.5 -q "${pair#*=}" > /dev/null 2>&1 && say answers "${pair#*=}"
done
printf '%s\n' "$paths" | while read -r path; do
    [ -n "$path" ] || continue
    if [ -d "$path" ]; then
        say path "$path" directory "$(stat -c '%u %g %a' "$path")"
    elif [ -c "$path" ]; then
        say path "$path" device -
    elif [ -e "$path" ]; then
        say path "$path" other -
    fi
    # Of what is not there, the nearest directory above that is.
    there=$path
    while [ ! -e "$there" ]; do there=${there%/*}; there=${there:-/}; done
    say room "$path" "$(df -Pk "$there" | awk 'NR == 2 { print $4 }')"
done
printf '%s\n' "$marks" | while IFS= read -r path; do
    [ -n "$path" ] && [ -f "$path" ] && say mark "$path" "$(head -c 200 "$path" | head -n 1)"
done
printf '%s\n' "$states" | while IFS= read -r path; do
    [ -n "$path" ] && [ -d "$path" ] || continue
    say size "$path" "$(du -sk "$path" | cut -f 1)"
    [ -n "$(ls -A "$path" | head -n 1)" ] && say used "$path"
    for copy in "${path%/*}/.${path##*/}".*; do
        [ -d "$copy" ] && say path "$copy" directory "$(stat -c '%u %g %a' "$copy")"
    done
done
for home in "$root"/*/; do
    vmid=$(basename "$home")
    case " $vmids " in
    *" $vmid "*)
        [ -e "$home/history" ] && prefix "history$tab$vmid" < "$home/history"
        [ -e "$home/authorized_keys" ] && say keys "$vmid"
        if [ -e "$home/transaction" ]; then
            if flock -n "$home" true; then say transaction "$vmid" interrupted; else say transaction "$vmid" running; fi
        fi
        ;;
    esac
    for frames in "$home"*/frames; do
        [ -e "$frames" ] || continue
        kept=${frames%/frames}
        file=$(ls "$kept"/*.tar.zst "$kept"/*.part 2> /dev/null | head -n 1)
        [ -n "$file" ] || continue
        say kept "$vmid" "$(basename "$kept")" "$file" "$(stat -c %s "$file")"
        prefix "frame$tab$vmid$tab$(basename "$kept")" < "$frames"
        [ -e "$kept/brings" ] && prefix "brings$tab$vmid$tab$(basename "$kept")" < "$kept/brings"
    done
done
exit 0
