#!/bin/sh
@HEADING@
# shellcheck disable=SC2317,SC2329 # which functions are called depends on the images
set -eu

usage() {
    cat <<'END'
verify.sh [--proxy ADDRESS] [--insecure] [--wait SECONDS] [IMAGE]...
  --proxy ADDRESS   the reverse proxy, if it is not @PROXY@
  --insecure        take any certificate of the proxy
  --wait SECONDS    ask again for that long while something starts or is silent; 0 by default
Exit code: 0 when every check is good, 1 when one is not.
END
}

proxy=@PROXY@
insecure=
patience=0
while [ $# -gt 0 ]; do
    case $1 in
    --proxy | --wait)
        [ $# -ge 2 ] || { usage >&2; exit 2; }
        if [ "$1" = --proxy ]; then proxy=$2; else patience=$2; fi
        shift
        ;;
    --insecure) insecure=--insecure ;;
    --help | -h) usage; exit 0 ;;
    -*) echo "verify.sh: unknown option \`$1\`" >&2; usage >&2; exit 2 ;;
    *) break ;;
    esac
    shift
done
command -v curl > /dev/null || { echo "verify.sh: curl is missing" >&2; exit 2; }
known='@IMAGES@'
images=${*:-$known}
for image in $images; do
    case " $known " in
    *" $image "*) ;;
    *) echo "verify.sh: no image \`$image\`; there are: $known" >&2; exit 2 ;;
    esac
done

here=$(dirname "$0")
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
trap 'exit 130' INT TERM HUP
begun=$(date +%s)
failed=0
good() { echo "ok      $1: $2"; }
todo() { echo "todo    $1: $2"; }
wrong() { echo "WRONG   $1: $2"; failed=1; }
wanted() { case " $images " in *" $1 "*) ;; *) return 1 ;; esac; }

# Sends a request for a path to `base`; leaves status and body. Fails when nobody answers.
base=
resolve=
ask() {
    # shellcheck disable=SC2086 # two words each, or none
    status=$(curl --silent --noproxy '*' --max-time 10 --max-filesize 1048576 $insecure $resolve \
        --output "$scratch/body" --write-out '%{http_code}' "$base$1") || status=000
    echo "$status" > "$scratch/status"
    [ "$status" != 000 ]
}
# is STATUSES KIND TEXT: whether the last answer is so. Line breaks at the end do not count.
is() {
    case ${1:-$status} in
    "$status" | "$status "* | *" $status" | *" $status "*) ;;
    *) return 1 ;;
    esac
    case $2 in
    any) ;;
    exactly) [ "$(tr -d '\000' < "$scratch/body" | sed '$ s/\r*$//')" = "$3" ] ;;
    contains) grep -qF -e "$3" "$scratch/body" ;;
    esac
}

@JUDGES@
# settle JUDGE: what it says, asked again while that may change.
settle() {
    while :; do
        said=$("$1")
        # The proxy takes a moment to notice that an application is ready.
        case $said:$resolve:$(cat "$scratch/status") in
        failed:-*:50[234]) said=unready ;;
        esac
        case $said in
        silent | starting | unready) [ $(($(date +%s) - begun)) -lt "$patience" ] || break ;;
        *) break ;;
        esac
        sleep 1
    done
}
# tell IMAGE WHERE
tell() {
    case $said in
    healthy) good "$1" "healthy, $2" ;;
    unset) todo "$1" "works, $2, but nobody has set it up yet" ;;
    starting) wrong "$1" "still starting, $2" ;;
    silent) wrong "$1" "no answer, $2" ;;
    unready) wrong "$1" "the proxy finds nothing that is ready, $2" ;;
    *) wrong "$1" "answers something that it should not, $2" ;;
    esac
}

running() {
    if ! command -v pct > /dev/null; then
        todo "$1" "not looked at: there is no pct here, this is not the node"
    elif [ "$(pct status "$2" 2> /dev/null)" = "status: running" ]; then
        good "$1" "container $2 runs"
    else
        wrong "$1" "container $2 does not run"
    fi
}
direct() {
    base=$3
    resolve=
    settle "$2"
    tell "$1" "asked at $base"
}
proxied() {
    base=https://$3
    resolve="--resolve $3:443:$proxy"
    settle "$2"
    tell "$1" "asked at $base through $proxy"
}
guarded() {
    base=https://$2
    resolve="--resolve $2:443:$proxy"
    ask / || status=000
    case $status in
    302 | 401 | 403) good "$1" "$base asks who it is" ;;
    *) wrong "$1" "$base answers $status to somebody who is not signed in" ;;
    esac
}
hidden() {
    base=https://$2
    resolve="--resolve $2:443:$proxy"
    ask "$3" || status=000
    if [ "$status" = 403 ]; then
        good "$1" "$base$3 is for nobody"
    else
        wrong "$1" "$base$3 answers $status, not 403"
    fi
}
resolves() {
    if getent ahosts "$2" > /dev/null; then
        good "$1" "$2 has an address"
    else
        wrong "$1" "$2 has no address; see dns/"
    fi
}

if [ -x "$here/storage.sh" ]; then
    if "$here/storage.sh" --dry-run > "$scratch/storage" 2>&1; then
        good node "directories have the right owners"
    else
        wrong node "directories: $(head -n 1 "$scratch/storage"); see storage.sh --dry-run"
    fi
fi
@CHECKS@
exit "$failed"
