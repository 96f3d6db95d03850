/* A plugin of qemu-user that counts the guest's instructions.
 *
 * qemu-aarch64 -plugin count.so,out=FILE[,at=NUMBER][,at=NUMBER] PROGRAM
 *
 * FILE receives whole numbers of 64 bits, in the host's byte order: at each system call of one of
 * the numbers `at`, and at the end of the run, how often each translated block was executed since
 * the time before, as pairs of a block and a count that a pair of UINT64_MAX and 0 ends. A model
 * that is profiled looks at the clock between kernels, so at clock_gettime the differences are the
 * kernels' instructions, without any symbol. One thread only: the sums are not atomic. After the
 * last of them the blocks: number, guest address, count of instructions, and for each instruction
 * its size in bytes << 32 | its bytes, the first one lowest. A block is where QEMU translates at
 * once; blocks overlap, and one may be there twice.
 *
 * The prototypes are declared here, after QEMU's documentation of its plugin interface (version 1,
 * QEMU 4.2 to 8.2), because distributions do not ship the header. */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info_t;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

typedef void (*translated_fn)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*syscall_fn)(qemu_plugin_id_t, unsigned int vcpu, int64_t number, uint64_t, uint64_t,
                           uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
typedef void (*exit_fn)(qemu_plugin_id_t, void *);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *instruction);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *instruction);
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

/* What was translated; kept until the end, because translated code adds to `count`. */
typedef struct block {
    struct block *older;
    uint64_t count, written; /* executions, and how many of them are in the file */
    uint64_t number, address, size;
    uint64_t instructions[];
} block;

static FILE *out;
static int64_t calls[2] = {-1, -1};
static _Atomic(block *) newest; /* other threads may translate at the same time */
static _Atomic(uint64_t) blocks;

static void put(uint64_t number) { fwrite(&number, sizeof number, 1, out); }

static void mark(void) {
    for (block *one = newest; one != NULL; one = one->older) {
        if (one->count != one->written) {
            put(one->number);
            put(one->count - one->written);
            one->written = one->count;
        }
    }
    put(UINT64_MAX);
    put(0);
}

static block *remember(const struct qemu_plugin_tb *translated) {
    size_t size = qemu_plugin_tb_n_insns(translated);
    block *one = calloc(1, sizeof *one + size * sizeof one->instructions[0]);
    if (one == NULL) {
        fputs("count.so: out of memory\n", stderr);
        abort();
    }
    one->number = atomic_fetch_add(&blocks, 1);
    one->address = qemu_plugin_tb_vaddr(translated);
    one->size = size;
    for (size_t i = 0; i < size; i++) {
        const struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(translated, i);
        const uint8_t *bytes = qemu_plugin_insn_data(instruction);
        size_t length = qemu_plugin_insn_size(instruction);
        one->instructions[i] = (uint64_t)length << 32;
        for (size_t k = 0; k < length && k < 4; k++) {
            one->instructions[i] |= (uint64_t)bytes[k] << (8 * k);
        }
    }
    one->older = atomic_load(&newest);
    while (!atomic_compare_exchange_weak(&newest, &one->older, one)) {
    }
    return one;
}

/* A block runs from its first instruction to its last, so it is counted as one. */
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64,
                                             &remember(block)->count, 1);
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
    for (const block *one = newest; one != NULL; one = one->older) {
        put(one->number);
        put(one->address);
        put(one->size);
        fwrite(one->instructions, sizeof one->instructions[0], one->size, out);
    }
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
