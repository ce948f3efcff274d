# needs: gcc
# says: 5050

cat >a.c <<'END'
#include <stdio.h>
int main(void) {
    int sum = 0;
#pragma omp parallel for reduction(+ : sum)
    for (int n = 0; n < 101; n++)
        sum += n;
    printf("%d\n", sum);
    return 0;
}
END
gcc -fopenmp -o a a.c && ./a
