# needs: gcc
# says: hello

cat >a.c <<'END'
#include <stdio.h>
int main(void) { puts("hello"); return 0; }
END
gcc -O2 -o a a.c && ./a
