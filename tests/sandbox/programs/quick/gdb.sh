# needs: gdb
# says: $1 = 42

gdb -q -batch -ex 'print 6*7'
