/*
 * 4,096 functions that call each other: more code, branches and return addresses than a CPU's caches and predictors hold.
 *
 * A function's name is four octal digits; it calls those whose digits are its own moved by one place, with the one that comes
 * in from the other side changed, as in a shift register. So few calls lead from any to every other.
 */
#include <stdio.h>
#include <stdlib.h>

/* The digit that comes in: three permutations. */
#define P_0 3
#define P_1 5
#define P_2 0
#define P_3 6
#define P_4 1
#define P_5 7
#define P_6 4
#define P_7 2
#define Q_0 6
#define Q_1 2
#define Q_2 7
#define Q_3 4
#define Q_4 0
#define Q_5 1
#define Q_6 3
#define Q_7 5
#define R_0 1
#define R_1 0
#define R_2 3
#define R_3 2
#define R_4 5
#define R_5 4
#define R_6 7
#define R_7 6

#define NAME(a, b, c, d) f##a##b##c##d
#define FUNCTION(...) NAME(__VA_ARGS__)
#define DECLARE(a, b, c, d) static long NAME(a, b, c, d)(long x, int depth);
#define DEFINE(a, b, c, d) \
    __attribute__((noinline)) static long NAME(a, b, c, d)(long x, int depth) { \
        if (depth == 0) return x * (2 * 0##a##b##c##d + 1) + 0##d##c##b##a; \
        x = FUNCTION(b, c, d, P_##a)(x + 0##a##b##c##d, depth - 1) ^ x >> 3; \
        if (x >> c & 1) x += FUNCTION(b, c, d, Q_##a)(x, depth - 1); \
        else x -= FUNCTION(R_##d, a, b, c)(x ^ 0##b##d, depth - 1); \
        return x * 3 + depth; \
    }

#define EACH_1(what, a, b, c) \
    what(a, b, c, 0) what(a, b, c, 1) what(a, b, c, 2) what(a, b, c, 3) \
    what(a, b, c, 4) what(a, b, c, 5) what(a, b, c, 6) what(a, b, c, 7)
#define EACH_2(what, a, b) \
    EACH_1(what, a, b, 0) EACH_1(what, a, b, 1) EACH_1(what, a, b, 2) EACH_1(what, a, b, 3) \
    EACH_1(what, a, b, 4) EACH_1(what, a, b, 5) EACH_1(what, a, b, 6) EACH_1(what, a, b, 7)
#define EACH_3(what, a) \
    EACH_2(what, a, 0) EACH_2(what, a, 1) EACH_2(what, a, 2) EACH_2(what, a, 3) \
    EACH_2(what, a, 4) EACH_2(what, a, 5) EACH_2(what, a, 6) EACH_2(what, a, 7)
#define EACH(what) \
    EACH_3(what, 0) EACH_3(what, 1) EACH_3(what, 2) EACH_3(what, 3) \
    EACH_3(what, 4) EACH_3(what, 5) EACH_3(what, 6) EACH_3(what, 7)

EACH(DECLARE)
EACH(DEFINE)

int main(int argc, char **argv) {
    const int length = argc > 1 ? atoi(argv[1]) : 1; /* some 0.3 s each */
    long x = 1;
    for (int i = 0; i < 2000 * length; i++) x = f0000(x + i, 12) & 0xffffffff;
    printf("%lx\n", x);
    return 0;
}
