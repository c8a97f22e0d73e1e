# Waits for the deployment that runs, if one does, and says what it said. In: home, and the word that it was given.
[ -d "$home" ] && flock -w 3600 "$home" true
if [ -n "$nonce" ] && [ "$(cat "$home/log.id" 2> /dev/null)" != "$nonce" ]; then
    echo "@ result not-begun"
    exit 0
fi
cat "$home/log" 2> /dev/null
grep -qs '^@ result' "$home/log" || echo "@ result interrupted"
exit 0
