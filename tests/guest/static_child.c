/* A program that no library can be loaded into when it is linked statically. Prints "static", exit 5. */
#include <stdio.h>
int main(void) {
    for (volatile long i = 0; i < 1000000; i++) {}
    printf("static\n");
    return 5;
}
