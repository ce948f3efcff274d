# needs: sort
# says: 20000

seq 20000 | sort -R -S 1M --parallel=2 | sort -n | tail -n 1
