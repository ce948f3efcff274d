# needs: find xargs
# says: f

mkdir -p a/b/c && touch a/b/c/f && find a -type f -print0 | xargs -0 -n 1 -P 4 basename
