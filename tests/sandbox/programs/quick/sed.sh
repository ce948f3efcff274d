# needs: sed
# says: a
# says: c

printf 'a\nb\n' >f && sed -i s/b/c/ f && cat f
