/* A plugin of qemu-user that counts the guest's instructions.
 *
 * qemu-aarch64 -plugin count.so,out=FILE[,at=NUMBER][,at=NUMBER] PROGRAM
 *
 * FILE receives whole numbers of 64 bits, in the host's byte order: the instructions executed when
 * the guest made one of the system calls named by their numbers, each time, and last those of the
 * whole run. A model that is profiled looks at the clock between kernels, so at clock_gettime the
 * differences are the kernels' instructions, without any symbol. One thread only: the sum is not
 * atomic.
 *
 * The prototypes are declared here, after QEMU's documentation of its plugin interface (version 1,
 * QEMU 4.2 to 8.2), because distributions do not ship the header. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_info_t;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

typedef void (*translated_fn)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*syscall_fn)(qemu_plugin_id_t, unsigned int vcpu, int64_t number, uint64_t, uint64_t,
                           uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
typedef void (*exit_fn)(qemu_plugin_id_t, void *);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, translated_fn call);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, enum qemu_plugin_op op,
                                              void *where, uint64_t add);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, syscall_fn call);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, exit_fn call, void *data);

/* QEMU reads and calls these two by name. */
extern EXPORT int qemu_plugin_version;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int count,
                               char **words);

int qemu_plugin_version = 1;

static uint64_t executed;
static FILE *out;
static int64_t calls[2] = {-1, -1};

static void mark(void) { fwrite(&executed, sizeof executed, 1, out); }

/* A block runs from its first instruction to its last, so it is counted as one. */
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &executed,
                                             qemu_plugin_tb_n_insns(block));
}

static void on_syscall(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1,
                       uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6,
                       uint64_t a7, uint64_t a8) {
    (void)id, (void)vcpu, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7;
    (void)a8;
    if (number == calls[0] || number == calls[1]) {
        mark();
    }
}

static void finish(qemu_plugin_id_t id, void *data) {
    (void)id, (void)data;
    mark();
    fclose(out);
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int count,
                        char **words) {
    (void)info;
    int known = 0;
    for (int i = 0; i < count; i++) {
        if (strncmp(words[i], "out=", 4) == 0 && out == NULL) {
            out = fopen(words[i] + 4, "wb");
        } else if (strncmp(words[i], "at=", 3) == 0 && known < 2) {
            calls[known++] = atoll(words[i] + 3);
        } else {
            fprintf(stderr, "count.so: cannot use %s\n", words[i]);
            return 1;
        }
    }
    if (out == NULL) {
        perror("count.so: out=FILE");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    qemu_plugin_register_atexit_cb(id, finish, NULL);
    return 0;
}
