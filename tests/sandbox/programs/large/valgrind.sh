# needs: valgrind
# says: clean

valgrind -q true && echo clean
