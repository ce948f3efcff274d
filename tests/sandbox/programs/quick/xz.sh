# needs: xz
# says: same

seq 50000 >f && xz -T2 -k f && xz -dc f.xz | cmp - f && echo same
