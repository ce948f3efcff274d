# needs: strace
# says: 1

strace -f -c -o out sh -c 'true; true' && grep -c execve out
