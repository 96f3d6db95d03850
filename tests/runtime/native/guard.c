/* What features.c says of each feature named on the command line, and of all of them as a program's. */
#include <stdio.h>
#include <string.h>

#include "cpu/cpu_features.h"
#include "shiftedge.h"

int main(int argc, char **argv) {
    char all[4096] = "";
    for (int i = 1; i < argc; i++) {
        bool known;
        bool present = shiftedge_cpu_has(argv[i], &known);
        printf("%s %s\n", argv[i], !known ? "unknown" : present ? "yes" : "no");
        (void)strncat(all, argv[i], sizeof all - strlen(all) - 2);
        (void)strcat(all, " ");
    }
    int status = shiftedge_check_cpu(all);
    printf("%d %s\n", status, shiftedge_last_error());
    return 0;
}
