# needs: busybox
# says: 60b725f1

busybox sh -c 'echo a | busybox md5sum' | cut -c1-8
