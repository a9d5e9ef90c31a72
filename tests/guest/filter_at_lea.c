/* Kills the thread that calls anything but read, write, exit_group, then takes the address of aligned data. Prints "done", exit 0. */
#include "filter.h"
static char text[64] __attribute__((aligned(64))) = "done\n";
int main(void) {
    struct filter filter = {.listed = SECCOMP_RET_ALLOW, .others = SECCOMP_RET_KILL_THREAD};
    filter_add_list(&filter, "0,1,231");
    if (filter_install(&filter)) return 2;
    if (write(1, text, 5) != 5) return 3;
    syscall(SYS_exit_group, 0);
    return 1;
}
