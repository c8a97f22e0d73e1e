# Takes a deployment's steps from standard input, each file after a line with its length and name, and begins it; it
# goes on whatever becomes of this connection. In: root, home, secrets, and a word that only this one has.
set -e
umask 077
LC_ALL=C
export LC_ALL
mkdir -p "$root" "$home"
cd "$home"
exec 9< .
flock -n 9 || { echo "@ result busy"; exit 4; }
if [ -e transaction ]; then
    echo "@ result interrupted"
    exit 4
fi
# Unless all of it arrives, nothing of it stays.
trap 'rm -rf "$home/transaction.new" "$secrets"' EXIT
rm -rf transaction.new "$secrets"
mkdir -p transaction.new/forward transaction.new/back "$secrets"
while read -r length path && [ "$length" != end ]; do head -c "$length" > "$path"; done
if [ "$length" != end ]; then
    echo "@ result cut"
    exit 5
fi
sync -f transaction.new
rm -f log
printf '%s\n' "$nonce" > log.id
mv -T transaction.new transaction
trap - EXIT
exec 9<&-
