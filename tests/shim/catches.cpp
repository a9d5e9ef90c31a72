// Catches what tests/shim/throws.cpp throws out of read, with a destructor in between.
#include <cstdio>
#include <unistd.h>

static int destroyed;

struct Guard {
    ~Guard() { destroyed++; }
};

static ssize_t guarded() {
    Guard guard;
    char byte;
    return read(-77, &byte, 1);
}

int main() {
    int caught = 0;
    for (int i = 0; i < 1000; i++) {
        try {
            guarded();
        } catch (int value) {
            caught += value == 7;
        }
    }
    if (destroyed != 1000) return 1;
    std::printf("caught %d\n", caught);
    return 0;
}
