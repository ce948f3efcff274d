# needs: tar cmp
# says: same

mkdir d e && seq 1000 >d/f
tar cf - d | tar xf - -C e && cmp d/f e/d/f && echo same
