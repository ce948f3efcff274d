# needs: make gcc
# says: 820

mkdir parts
for n in $(seq 40); do echo "int part$n(void) { return $n; }" >parts/p$n.c; done
{
    echo '#include <stdio.h>'
    for n in $(seq 40); do echo "int part$n(void);"; done
    echo 'int main(void) { int sum = 0;'
    for n in $(seq 40); do echo "sum += part$n();"; done
    echo 'printf("%d\n", sum); return 0; }'
} >parts/main.c
cat >Makefile <<'END'
program: $(patsubst %.c,%.o,$(wildcard parts/*.c)); @$(CC) -o $@ $^
%.o: %.c; @$(CC) -c -o $@ $<
END
make -j8 && ./program
