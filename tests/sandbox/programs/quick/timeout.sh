# needs: timeout nice
# says: 124
# says: 5

timeout 0.1 sleep 100 || echo $?
nice -n 5 nice
