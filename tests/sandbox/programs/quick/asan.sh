# needs: gcc
# says: fine
# says: heap-buffer-overflow

cat >a.c <<'END'
#include <stdio.h>
#include <stdlib.h>
int main(int count, char **words) {
    char *p = malloc(9);
    p[8 + (count > 1)] = 1;
    puts("fine");
    free(p);
    return 0;
}
END
gcc -g -fsanitize=address,undefined -o a a.c && ./a
! ./a x 2>errors && grep -o heap-buffer-overflow errors | head -n 1
