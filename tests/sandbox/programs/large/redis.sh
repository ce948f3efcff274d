# needs: redis-server redis-cli
# says: 42

redis-server --port 6400 --daemonize yes --dir "$PWD" --logfile log >/dev/null
until redis-cli -p 6400 ping >/dev/null 2>&1; do sleep 0.1; done
redis-cli -p 6400 set a 42 >/dev/null
redis-cli -p 6400 bgsave >/dev/null
redis-cli -p 6400 get a
redis-cli -p 6400 shutdown
