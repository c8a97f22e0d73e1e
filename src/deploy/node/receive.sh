# Puts an archive together from what the node has and what comes on standard input, and checks it. In: home, name, file,
# size, sha256, and on standard input the lengths of the lists, the lists, and the bytes.
set -e
umask 022
LC_ALL=C
export LC_ALL
mkdir -p "$root"
chmod 0700 "$root"
mkdir -p "$home/$name"
cd "$home/$name"
exec 9< "$home"
flock -n 9 || { echo "@ busy"; exit 4; }
read -r pieces frames brings
rm -f "$file" new.pieces
head -c "$pieces" > new.pieces
# What was received before it was cut off can be used again: a part of a file that has the list of its frames.
if [ -e "$file.part" ]; then mv -f "$file.part" old.part; fi
head -c "$frames" > frames
head -c "$brings" > brings
: > "$file.part"
while read -r kind path offset length <&3; do
    case $kind in
    send) head -c "$length" >> "$file.part" ;;
    copy) tail -c "+$((offset + 1))" -- "$path" | head -c "$length" >> "$file.part" ;;
    esac
done 3< new.pieces
rm -f new.pieces old.part
if [ "$(stat -c %s "$file.part")" != "$size" ]; then echo "@ short"; exit 5; fi
if ! printf '%s  %s\n' "$sha256" "$file.part" | sha256sum --check --status; then
    rm -f "$file.part"
    echo "@ differs"
    exit 6
fi
sync "$file.part"
mv -T "$file.part" "$file"
sync .
echo "@ received"
