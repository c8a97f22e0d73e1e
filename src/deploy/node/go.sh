: > "$home/log"
setsid sh "$home/transaction/run" "$home/transaction" "$mode" > "$home/log" 2>&1 < /dev/null &
tail -n +1 -f -s 0.2 --pid=$! "$home/log"
