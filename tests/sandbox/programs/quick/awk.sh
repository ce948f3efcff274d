# needs: awk
# says: 5050

seq 100 | awk '{ sum += $1 } END { print sum }'
