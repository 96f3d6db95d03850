/* An emulated GPU: runs the blocks of a kernel one after the other, each warp's 32 lanes in lockstep.
 *
 * decode.py makes the instructions: every operand is a register, also what PTX writes as a number or
 * a special register. What an instruction means is one line of OPERATIONS, named as decode.py names
 * it; d, a, b, c are its registers, i the lane.
 *
 * Lanes that part at a branch are levels of a stack (place, mask, where they meet again: the nearest
 * place that all ways lead to). A warp runs until it waits at a barrier or is done.
 *
 * Addresses are made up, so that nothing that is out of bounds can fall into something else: buffer
 * k lies at (k + 1) << 40, a block's shared array k at (k + 1) << 20.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;

enum { LANES = 32, LEVELS = 64, BUFFER_SHIFT = 40, SHARED_SHIFT = 20, SECTOR = 5, LINE = 7 };
#define EVERY 0xffffffffu
#define POISON 0x7fc0dead /* a NaN: what is read where nothing is */
#define SEVERAL 0xfffffffeu

typedef union __attribute__((aligned(64))) {
    u32 u[LANES]; /* predicates: a bit a lane in u[0]; values of 16 bits: the low half */
    s32 s[LANES];
    float f[LANES];
    u64 U[LANES];
    s64 S[LANES];
} Register;

typedef struct {
    u32 op, guard, negated; /* guard: 1 + the predicate's register, or 0 */
    u32 d[8], a, b, c;      /* stores: d is what is stored */
    u32 more[14];           /* operands beside those; of a matrix product a, b and c one after the other */
    s64 offset;
    u32 target, meet; /* of a branch */
    u32 meets;        /* whether some branch's lanes meet here */
    u32 bytes, count; /* of a load or store: of an element, and how many */
} Instruction;

typedef struct {
    u8 *data, *written;    /* whether each byte has a value */
    u32 *writers, *readers; /* by grain of bytes: 1 + the thread, 0 none, or SEVERAL */
    u64 size;
    u32 grain, writable;
} Buffer;

typedef struct {
    const Instruction *code;
    const u32 *constants; /* registers */
    const u64 *values;
    const u8 *wide; /* whether each has 64 bits */
    const u32 *parameters; /* registers; the k-th's value is buffer k's address */
    const u32 *shared;     /* bytes of each array */
    u32 length, registers, n_constants, n_parameters, n_shared;
    s32 tid, ctaid, ntid, nctaid, laneid; /* registers, or -1 */
} Program;

enum { OUT_OF_BOUNDS, READ_ONLY, UNINITIALISED, RACE, PARTIAL_BARRIER, MISALIGNED, ENDLESS, MISSING, FAULTS };
typedef struct {
    u64 count;
    u32 pc, block, thread, unused;
    u64 address;
} Fault;

typedef struct {
    u64 requests, sectors, lines, bytes; /* bytes: asked for, each once */
} Global;
typedef struct {
    u64 requests, phases, wavefronts;
} Shared;
typedef struct {
    Global loads, stores;
    Shared shared_loads, shared_stores;
    u64 branches, divergent;
    Fault faults[FAULTS];
} Report;

typedef struct {
    u32 write_epoch, writer, read_epoch, reader;
} History;
typedef struct {
    u32 pc, meet, mask;
} Level;
typedef struct {
    Level stack[LEVELS];
    s32 top;
    u32 id, all, done;
    Register *registers;
} Warp;
typedef struct {
    u8 *memory, *written;
    History *history; /* of each two bytes */
    u32 *starts;
    u32 bytes, number, threads, epoch;
    Buffer *buffers;
    u32 n_buffers;
    const Program *program;
    Report *report;
    u64 left; /* instructions */
    u64 *counts, *lanes;
} Block;

static float as_float(u32 bits) { float x; memcpy(&x, &bits, 4); return x; }
static float of_half(u32 bits) { u16 h = (u16)bits; _Float16 x; memcpy(&x, &h, 2); return (float)x; }
static u32 to_half(float x) { _Float16 h = (_Float16)x; u16 bits; memcpy(&bits, &h, 2); return bits; }
/* As the device does: of a number and a NaN the number. */
static float least(float x, float y) { return x < y || y != y ? x : y; }
static float largest(float x, float y) { return x > y || y != y ? x : y; }
/* Of halves: a product and a sum of such are exact in double. */
static u32 fma_half(u32 a, u32 b, u32 c) {
    _Float16 h = (_Float16)((double)of_half(a) * of_half(b) + of_half(c));
    u16 bits;
    memcpy(&bits, &h, 2);
    return bits;
}
#define ONE 0x3c003c00u
#define MINUS_ZERO 0x80008000u
#define BOTH(f, a, b, c) (f(a, b, c) | f((a) >> 16, (b) >> 16, (c) >> 16) << 16)
#define BIT(r) ((r)->u[0] >> i & 1)

/* OP(name, kind of the result, value): u of 32 bits, f float, U of 64, p a predicate. */
#define ARITHMETIC(OP) \
    OP(mov_32, u, a->u[i]) OP(mov_64, U, a->U[i]) \
    OP(add_32, u, a->u[i] + b->u[i]) OP(add_64, U, a->U[i] + b->U[i]) \
    OP(sub_32, u, a->u[i] - b->u[i]) OP(sub_64, U, a->U[i] - b->U[i]) \
    OP(mul_32, u, a->u[i] * b->u[i]) OP(mul_64, U, a->U[i] * b->U[i]) \
    OP(mad_32, u, a->u[i] * b->u[i] + c->u[i]) OP(mad_64, U, a->U[i] * b->U[i] + c->U[i]) \
    OP(mul_wide_u32, U, (u64)a->u[i] * b->u[i]) OP(mul_wide_s32, U, (u64)((s64)a->s[i] * b->s[i])) \
    OP(mad_wide_u32, U, (u64)a->u[i] * b->u[i] + c->U[i]) \
    OP(mad_wide_s32, U, (u64)((s64)a->s[i] * b->s[i]) + c->U[i]) \
    OP(mul_hi_u32, u, (u32)((u64)a->u[i] * b->u[i] >> 32)) \
    OP(mul_hi_s32, u, (u32)((u64)((s64)a->s[i] * b->s[i]) >> 32)) \
    OP(and_32, u, a->u[i] & b->u[i]) OP(and_64, U, a->U[i] & b->U[i]) \
    OP(or_32, u, a->u[i] | b->u[i]) OP(or_64, U, a->U[i] | b->U[i]) \
    OP(xor_32, u, a->u[i] ^ b->u[i]) OP(not_32, u, ~a->u[i]) \
    OP(shl_32, u, b->u[i] < 32 ? a->u[i] << b->u[i] : 0) OP(shl_64, U, b->u[i] < 64 ? a->U[i] << b->u[i] : 0) \
    OP(shr_u32, u, b->u[i] < 32 ? a->u[i] >> b->u[i] : 0) OP(shr_u64, U, b->u[i] < 64 ? a->U[i] >> b->u[i] : 0) \
    OP(shr_s32, u, (u32)(a->s[i] >> (b->u[i] < 31 ? b->u[i] : 31))) \
    OP(min_s32, u, (u32)(a->s[i] < b->s[i] ? a->s[i] : b->s[i])) OP(max_s32, u, (u32)(a->s[i] > b->s[i] ? a->s[i] : b->s[i])) \
    OP(min_u32, u, a->u[i] < b->u[i] ? a->u[i] : b->u[i]) OP(max_u32, u, a->u[i] > b->u[i] ? a->u[i] : b->u[i]) \
    /* Registers of 16 bits hold them above zeros. */ \
    OP(add_16, u, (a->u[i] + b->u[i]) & 0xffff) OP(sub_16, u, (a->u[i] - b->u[i]) & 0xffff) \
    OP(mad_16, u, (a->u[i] * b->u[i] + c->u[i]) & 0xffff) OP(cvt_u16_u64, u, (u32)(a->U[i] & 0xffff)) \
    OP(min_u64, U, a->U[i] < b->U[i] ? a->U[i] : b->U[i]) OP(max_u64, U, a->U[i] > b->U[i] ? a->U[i] : b->U[i]) \
    OP(mul_16, u, (a->u[i] * b->u[i]) & 0xffff) OP(mul_hi_u16, u, a->u[i] * b->u[i] >> 16) \
    OP(shl_16, u, b->u[i] < 16 ? a->u[i] << b->u[i] & 0xffff : 0) \
    OP(bfe_u32, u, a->u[i] >> (b->u[i] & 31) & (u32)((1ull << (c->u[i] & 63)) - 1)) \
    OP(add_f32, f, a->f[i] + b->f[i]) OP(sub_f32, f, a->f[i] - b->f[i]) OP(mul_f32, f, a->f[i] * b->f[i]) \
    OP(div_f32, f, a->f[i] / b->f[i]) OP(rcp_f32, f, 1.0f / a->f[i]) OP(sqrt_f32, f, sqrtf(a->f[i])) \
    OP(fma_f32, f, __builtin_fmaf(a->f[i], b->f[i], c->f[i])) OP(ex2_f32, f, exp2f(a->f[i])) \
    OP(min_f32, f, least(a->f[i], b->f[i])) OP(max_f32, f, largest(a->f[i], b->f[i])) \
    OP(neg_f32, u, a->u[i] ^ 0x80000000u) OP(abs_f32, u, a->u[i] & 0x7fffffffu) OP(neg_32, u, 0u - a->u[i]) \
    OP(copysign_f32, u, (a->u[i] & 0x80000000u) | (b->u[i] & 0x7fffffffu)) \
    OP(selp_32, u, BIT(c) ? a->u[i] : b->u[i]) OP(selp_64, U, BIT(c) ? a->U[i] : b->U[i]) \
    OP(cvt_u64_u32, U, a->u[i]) OP(cvt_s64_s32, U, (u64)(s64)a->s[i]) OP(cvt_u32_u64, u, (u32)a->U[i]) \
    OP(low_16, u, a->u[i] & 0xffff) OP(high_16, u, a->u[i] >> 16) OP(low_8, u, a->u[i] & 0xff) \
    OP(sign_16, u, (u32)(s32)(int16_t)a->u[i]) OP(sign_8, u, (u32)(s32)(int8_t)a->u[i]) \
    OP(pack_16, u, (a->u[i] & 0xffff) | b->u[i] << 16) OP(pack_32, U, a->u[i] | (u64)b->u[i] << 32) \
    OP(low_32, u, (u32)a->U[i]) OP(high_32, u, (u32)(a->U[i] >> 32)) \
    OP(cvt_f32_f16, f, of_half(a->u[i])) OP(cvt_f16_f32, u, to_half(a->f[i])) \
    OP(fma_f16, u, fma_half(a->u[i], b->u[i], c->u[i])) OP(fma_f16x2, u, BOTH(fma_half, a->u[i], b->u[i], c->u[i])) \
    OP(add_f16x2, u, BOTH(fma_half, a->u[i], ONE, b->u[i])) OP(mul_f16x2, u, BOTH(fma_half, a->u[i], b->u[i], MINUS_ZERO)) \
    OP(add_f16, u, fma_half(a->u[i], ONE, b->u[i])) OP(mul_f16, u, fma_half(a->u[i], b->u[i], MINUS_ZERO)) \
    OP(cvt_f16x2_f32, u, to_half(b->f[i]) | to_half(a->f[i]) << 16) \
    OP(cvt_f32_s32, f, (float)a->s[i]) OP(cvt_f32_u32, f, (float)a->u[i]) \
    OP(cvt_rzi_f32_f32, f, truncf(a->f[i])) \
    OP(cvt_rzi_s32_f32, u, (u32)(s32)a->f[i]) \
    OP(setp_eq_32, p, a->u[i] == b->u[i]) OP(setp_ne_32, p, a->u[i] != b->u[i]) \
    OP(setp_lt_s32, p, a->s[i] < b->s[i]) OP(setp_le_s32, p, a->s[i] <= b->s[i]) \
    OP(setp_gt_s32, p, a->s[i] > b->s[i]) OP(setp_ge_s32, p, a->s[i] >= b->s[i]) \
    OP(setp_lt_u32, p, a->u[i] < b->u[i]) OP(setp_le_u32, p, a->u[i] <= b->u[i]) \
    OP(setp_gt_u32, p, a->u[i] > b->u[i]) OP(setp_ge_u32, p, a->u[i] >= b->u[i]) \
    OP(setp_eq_64, p, a->U[i] == b->U[i]) OP(setp_ne_64, p, a->U[i] != b->U[i]) \
    OP(setp_lt_s64, p, a->S[i] < b->S[i]) OP(setp_lt_u64, p, a->U[i] < b->U[i]) \
    OP(setp_lt_f32, p, a->f[i] < b->f[i]) OP(setp_le_f32, p, a->f[i] <= b->f[i]) \
    OP(setp_gt_f32, p, a->f[i] > b->f[i]) OP(setp_ge_f32, p, a->f[i] >= b->f[i]) \
    OP(setp_eq_f32, p, a->f[i] == b->f[i]) OP(setp_neu_f32, p, !(a->f[i] == b->f[i])) \
    OP(and_pred, p, BIT(a) & BIT(b)) OP(or_pred, p, BIT(a) | BIT(b)) OP(xor_pred, p, BIT(a) ^ BIT(b)) \
    OP(not_pred, p, !BIT(a)) OP(mov_pred, p, BIT(a))
/* Those that are more than an expression. */
#define OTHERS(OP) OP(load_global,,) OP(store_global,,) OP(load_shared,,) OP(store_shared,,) \
    OP(branch,,) OP(ret,,) OP(barrier,,) OP(shfl_bfly,,) OP(shfl_up,,) OP(shfl_down,,) OP(shfl_idx,,) \
    OP(mma_m16n8k16_f16,,) OP(mma_m16n8k8_f16,,) OP(mma_m8n8k4_f16,,) OP(mma_m16n8k32_s8,,) OP(mma_m8n8k16_s8,,)

#define NAME(name, kind, value) OP_##name,
enum { ARITHMETIC(NAME) OTHERS(NAME) };
#define TEXT(name, kind, value) #name " "
const char *operations(void) { return ARITHMETIC(TEXT) OTHERS(TEXT); }

static void put_u(Register *d, const Register *t, u32 m) {
    if (m == EVERY) memcpy(d->u, t->u, sizeof d->u);
    else for (int i = 0; i < LANES; i++) if (m >> i & 1) d->u[i] = t->u[i];
}
#define put_f put_u
static void put_U(Register *d, const Register *t, u32 m) {
    if (m == EVERY) memcpy(d->U, t->U, sizeof d->U);
    else for (int i = 0; i < LANES; i++) if (m >> i & 1) d->U[i] = t->U[i];
}
#define RUN_u(value) Register t; for (int i = 0; i < LANES; i++) t.u[i] = value; put_u(d, &t, m);
#define RUN_f(value) Register t; for (int i = 0; i < LANES; i++) t.f[i] = value; put_f(d, &t, m);
#define RUN_U(value) Register t; for (int i = 0; i < LANES; i++) t.U[i] = value; put_U(d, &t, m);
#define RUN_p(value) u32 t = 0; for (int i = 0; i < LANES; i++) t |= (u32)(value) << i; d->u[0] = (d->u[0] & ~m) | (t & m);

static void fault(Block *b, int kind, u32 pc, u32 thread, u64 address) {
    Fault *f = &b->report->faults[kind];
    if (!f->count++) f->pc = pc, f->block = b->number, f->thread = thread, f->address = address;
}

/* Another thread that did it before, at one place of a history. */
static int other(u32 who, u32 me) { return who != 0 && who != me; }

static void count_global(Global *g, const u64 *at, u32 m, u32 bytes) {
    u64 sectors[LANES], lines[LANES], places[LANES];
    u32 n_sectors = 0, n_lines = 0, n_places = 0;
#define ONCE(list, n, value) { u64 v_ = (value); s32 k_ = (s32)n - 1; while (k_ >= 0 && list[k_] != v_) k_--; if (k_ < 0) list[n++] = v_; }
    for (int i = 0; i < LANES; i++) if (m >> i & 1) {
        ONCE(sectors, n_sectors, at[i] >> SECTOR)
        ONCE(lines, n_lines, at[i] >> LINE)
        ONCE(places, n_places, at[i])
    }
    g->requests++, g->sectors += n_sectors, g->lines += n_lines, g->bytes += (u64)n_places * bytes;
}

/* A warp's access to global memory. A lane whose address is bad reads POISON and stores nothing. */
static void global(Block *b, Warp *w, const Instruction *in, u32 pc, u32 m, int store) {
    const Register *base = &w->registers[in->a];
    u32 bytes = in->bytes * in->count;
    u64 at[LANES];
    for (int i = 0; i < LANES; i++) at[i] = base->U[i] + (u64)in->offset;
    if (m) count_global(store ? &b->report->stores : &b->report->loads, at, m, bytes);
    for (int i = 0; i < LANES; i++) if (m >> i & 1) {
        u32 thread = w->id * LANES + (u32)i, me = 1 + b->number * b->threads + thread;
        u64 number = at[i] >> BUFFER_SHIFT, offset = at[i] & ((1ull << BUFFER_SHIFT) - 1);
        Buffer *f = number >= 1 && number <= b->n_buffers ? &b->buffers[number - 1] : NULL;
        int good = f && offset + bytes <= f->size;
        if (at[i] % bytes) fault(b, MISALIGNED, pc, thread, at[i]);
        if (!good) fault(b, OUT_OF_BOUNDS, pc, thread, at[i]);
        if (good && store && !f->writable) fault(b, READ_ONLY, pc, thread, at[i]), good = 0;
        int known = 1, raced = 0;
        for (u32 k = 0; good && k < bytes; k++) known &= f->written[offset + k];
        for (u64 k = offset; good && f->writable && k < offset + bytes; k += f->grain) {
            u32 *writer = &f->writers[k / f->grain], *reader = &f->readers[k / f->grain];
            raced |= other(*writer, me) || (store && other(*reader, me));
            if (store) *writer = me;
            else *reader = other(*reader, me) ? SEVERAL : me;
        }
        if (raced) fault(b, RACE, pc, thread, at[i]);
        if (!store && !known) fault(b, UNINITIALISED, pc, thread, at[i]);
        for (u32 k = 0; k < in->count; k++) {
            Register *r = &w->registers[in->d[k]];
            if (store) {
                if (good) memcpy(f->data + offset + k * in->bytes, in->bytes == 8 ? (void *)&r->U[i] : (void *)&r->u[i], in->bytes);
            } else {
                u64 value = POISON;
                if (good) value = 0, memcpy(&value, f->data + offset + k * in->bytes, in->bytes);
                if (in->bytes == 8) r->U[i] = value; else r->u[i] = (u32)value;
            }
        }
        if (good && store) memset(f->written + offset, 1, bytes);
    }
}

/* Wavefronts: of so many lanes as move 128 bytes, the most different words in one of 32 banks. */
static void count_shared(Shared *s, const u32 *place, u32 m, u32 bytes) {
    u32 lanes = bytes == 16 ? 8 : bytes == 8 ? 16 : 32;
    s->requests++;
    for (u32 first = 0; first < LANES; first += lanes) {
        u32 words[32][32], count[32] = {0}, most = 0;
        for (u32 i = first; i < first + lanes; i++) if (m >> i & 1)
            for (u32 k = 0; k < (bytes + 3) / 4; k++) {
                u32 word = place[i] / 4 + k, bank = word & 31, n = 0;
                while (n < count[bank] && words[bank][n] != word) n++;
                if (n == count[bank]) words[bank][count[bank]++] = word;
                if (count[bank] > most) most = count[bank];
            }
        s->phases += most > 0, s->wavefronts += most;
    }
}

static void shared(Block *b, Warp *w, const Instruction *in, u32 pc, u32 m, int store) {
    const Register *base = &w->registers[in->a];
    u32 bytes = in->bytes * in->count, place[LANES], good = 0;
    for (int i = 0; i < LANES; i++) if (m >> i & 1) {
        u64 at = base->U[i] + (u64)in->offset;
        u64 number = at >> SHARED_SHIFT, offset = at & ((1u << SHARED_SHIFT) - 1);
        u32 thread = w->id * LANES + (u32)i;
        if (at % bytes) fault(b, MISALIGNED, pc, thread, at);
        if (number < 1 || number > b->program->n_shared || offset + bytes > b->program->shared[number - 1]) {
            fault(b, OUT_OF_BOUNDS, pc, thread, at);
            continue;
        }
        place[i] = b->starts[number - 1] + (u32)offset;
        good |= 1u << i;
    }
    if (good) count_shared(store ? &b->report->shared_stores : &b->report->shared_loads, place, good, bytes);
    for (int i = 0; i < LANES; i++) if (m >> i & 1) {
        u32 thread = w->id * LANES + (u32)i, me = 1 + thread, raced = 0, known = 1;
        int fine = good >> i & 1;
        for (u32 k = 0; fine && k < bytes; k += 2) {
            History *h = &b->history[(place[i] + k) / 2];
            int wrote = h->write_epoch == b->epoch && other(h->writer, me);
            int read = h->read_epoch == b->epoch && other(h->reader, me);
            raced |= wrote || (store && read);
            known &= b->written[place[i] + k];
            if (store) h->write_epoch = b->epoch, h->writer = me;
            else h->reader = read ? SEVERAL : me, h->read_epoch = b->epoch;
        }
        u64 at = base->U[i] + (u64)in->offset;
        if (raced) fault(b, RACE, pc, thread, at);
        if (!store && !known) fault(b, UNINITIALISED, pc, thread, at);
        for (u32 k = 0; k < in->count; k++) {
            Register *r = &w->registers[in->d[k]];
            if (store) {
                if (fine) memcpy(b->memory + place[i] + k * in->bytes, in->bytes == 8 ? (void *)&r->U[i] : (void *)&r->u[i], in->bytes);
            } else {
                u64 value = POISON;
                if (fine) value = 0, memcpy(&value, b->memory + place[i] + k * in->bytes, in->bytes);
                if (in->bytes == 8) r->U[i] = value; else r->u[i] = (u32)value;
            }
        }
        if (fine && store) memset(b->written + place[i], 1, bytes);
    }
}

/* Values of other lanes. All that are named must be here. */
static void exchange(Block *b, Warp *w, const Instruction *in, u32 pc, u32 m) {
    Register from = w->registers[in->a], *d = &w->registers[in->d[0]];
    const Register *by = &w->registers[in->more[0]], *limit = &w->registers[in->more[1]], *named = &w->registers[in->more[2]];
    for (int i = 0; i < LANES; i++) if (m >> i & 1) {
        u32 lane = (u32)i, shift = by->u[i] & 31, segment = limit->u[i] >> 8 & 31, clamp = limit->u[i] & 31;
        u32 last = (lane & segment) | (clamp & ~segment & 31), first = lane & segment, other = lane;
        int inside = 0;
        switch (in->op) {
        case OP_shfl_bfly: other = lane ^ shift, inside = other <= last; break;
        case OP_shfl_up: other = lane - shift, inside = (s32)other >= (s32)last; break;
        case OP_shfl_down: other = lane + shift, inside = other <= last; break;
        default: other = first | (shift & ~segment & 31), inside = other <= last;
        }
        if (!inside) other = lane;
        if ((named->u[i] & ~m) || !(named->u[i] >> i & 1) || !(m >> other & 1))
            fault(b, MISSING, pc, w->id * LANES + lane, 0);
        d->u[i] = m >> other & 1 ? from.u[other] : POISON;
        if (in->more[3]) {
            Register *p = &w->registers[in->more[3] - 1];
            p->u[0] = (p->u[0] & ~(1u << i)) | (u32)inside << i;
        }
    }
}

/* d = a * b + c of a warp (of each of its 4 groups of 8 lanes, of m8n8k4), in order of k: products of halves are exact,
 * sums are rounded to float once. Which element a lane's register holds: PTX ISA, "Matrix Fragments for mma". */
enum { ROWS = 16, DEPTH = 32 };
typedef struct { u32 m, n, k, per, na, nb, nc, whole; } Shape; /* per: elements of a register of a and b; nc: of c */
static void place_a(const Shape *s, u32 lane, u32 r, u32 h, u32 *row, u32 *k) {
    if (s->k == 4) { *row = lane % 4 + (lane < 16 ? 0 : 4), *k = 2 * r + h; return; }
    *row = lane / 4 + 8 * (r & 1), *k = lane % 4 * s->per + h + 4 * s->per * (r >> 1);
}
static void place_b(const Shape *s, u32 lane, u32 r, u32 h, u32 *k, u32 *column) {
    if (s->k == 4) { *column = lane % 4 + (lane < 16 ? 0 : 4), *k = 2 * r + h; return; }
    *column = lane / 4, *k = lane % 4 * s->per + h + 4 * s->per * r;
}
static void place_c(const Shape *s, u32 lane, u32 i, u32 *row, u32 *column) {
    if (s->k == 4) {
        *row = (lane & 1) + (i & 2) + (lane < 16 ? 0 : 4), *column = (i & 4) + (lane & 2) + (i & 1);
        return;
    }
    *row = lane / 4 + 8 * (i >> 1), *column = lane % 4 * 2 + (i & 1);
}
static double element(const Shape *s, u32 bits, u32 h) {
    return s->whole ? (double)(int8_t)(bits >> 8 * h) : (double)of_half(bits >> 16 * h);
}
static void matrices(Block *b, Warp *w, const Instruction *in, u32 pc, u32 m) {
    static const Shape shapes[] = {
        {16, 8, 16, 2, 4, 2, 4, 0}, {16, 8, 8, 2, 2, 1, 4, 0}, {8, 8, 4, 2, 2, 2, 8, 0},
        {16, 8, 32, 4, 4, 2, 4, 1}, {8, 8, 16, 4, 1, 1, 2, 1}};
    const Shape *s = &shapes[in->op - OP_mma_m16n8k16_f16];
    if (m != EVERY) fault(b, MISSING, pc, w->id * LANES, 0);
    Register made[8];
    for (u32 group = 0; group < (s->k == 4 ? 4u : 1u); group++) {
        double A[ROWS][DEPTH] = {{0}}, B[DEPTH][ROWS] = {{0}};
        u32 row, column, k;
        for (u32 i = 0; i < LANES; i++) if (s->k != 4 || i / 4 % 4 == group) {
            for (u32 r = 0; r < s->na; r++) for (u32 h = 0; h < s->per; h++) {
                place_a(s, i, r, h, &row, &k);
                A[row][k] = element(s, w->registers[in->more[r]].u[i], h);
            }
            for (u32 r = 0; r < s->nb; r++) for (u32 h = 0; h < s->per; h++) {
                place_b(s, i, r, h, &k, &column);
                B[k][column] = element(s, w->registers[in->more[s->na + r]].u[i], h);
            }
        }
        for (u32 i = 0; i < LANES; i++) if (s->k != 4 || i / 4 % 4 == group)
            for (u32 r = 0; r < s->nc; r++) {
                place_c(s, i, r, &row, &column);
                const Register *c = &w->registers[in->more[s->na + s->nb + r]];
                double total = s->whole ? (double)c->s[i] : (double)c->f[i];
                for (k = 0; k < s->k; k++) total += A[row][k] * B[k][column];
                if (s->whole) made[r].u[i] = (u32)(s64)total;
                else made[r].f[i] = (float)total;
            }
    }
    for (u32 r = 0; r < s->nc; r++) put_u(&w->registers[in->d[r]], &made[r], m);
}

/* Until the warp waits (0) or is done (1). */
static int run(Block *b, Warp *w) {
    const Instruction *code = b->program->code;
    for (;;) {
        Level *level = &w->stack[w->top];
        u32 pc = level->pc;
        if (w->top && code[pc].meets && pc == level->meet) { w->top--; continue; }
        const Instruction *in = &code[pc];
        u32 active = level->mask, m = active;
        if (in->guard) {
            u32 bits = w->registers[in->guard - 1].u[0];
            m &= in->negated ? ~bits : bits;
        }
        b->counts[pc]++, b->lanes[pc] += (u64)__builtin_popcount(m);
        if (!b->left) { fault(b, ENDLESS, pc, w->id * LANES, 0); return 1; }
        b->left--;
        level->pc = pc + 1;
        Register *r = w->registers, *d = &r[in->d[0]];
        const Register *a = &r[in->a], *bb = &r[in->b], *c = &r[in->c];
        (void)c;
        switch (in->op) {
#define CASE(name, kind, value) case OP_##name: { const Register *b = bb; (void)b; RUN_##kind(value) break; }
        ARITHMETIC(CASE)
        case OP_load_global: global(b, w, in, pc, m, 0); break;
        case OP_store_global: global(b, w, in, pc, m, 1); break;
        case OP_load_shared: shared(b, w, in, pc, m, 0); break;
        case OP_store_shared: shared(b, w, in, pc, m, 1); break;
        case OP_branch:
            if (in->guard) b->report->branches++;
            if (m == active) { level->pc = in->target; break; }
            if (!m) break;
            b->report->divergent++;
            if (w->top + 2 >= LEVELS) { fault(b, ENDLESS, pc, w->id * LANES, 0); return 1; }
            level->pc = in->meet;
            if (pc + 1 != in->meet) w->stack[++w->top] = (Level){pc + 1, in->meet, active & ~m};
            if (in->target != in->meet) w->stack[++w->top] = (Level){in->target, in->meet, m};
            break;
        case OP_ret:
            for (int k = 0; k <= w->top; k++) w->stack[k].mask &= ~m;
            while (w->top >= 0 && !w->stack[w->top].mask) w->top--;
            if (w->top < 0) return 1;
            break;
        case OP_shfl_bfly: case OP_shfl_up: case OP_shfl_down: case OP_shfl_idx: exchange(b, w, in, pc, m); break;
        case OP_mma_m16n8k16_f16: case OP_mma_m16n8k8_f16: case OP_mma_m8n8k4_f16: case OP_mma_m16n8k32_s8:
        case OP_mma_m8n8k16_s8: matrices(b, w, in, pc, m); break;
        case OP_barrier:
            if (m != w->all) fault(b, PARTIAL_BARRIER, pc, w->id * LANES, 0);
            return 0;
        }
    }
}

/* Fills the report; counts and lanes are by instruction. Returns whether memory was had. */
int launch(const Program *p, u32 blocks, u32 threads, Buffer *buffers, u32 n_buffers, u64 limit,
           Report *report, u64 *counts, u64 *lanes) {
    u32 n_warps = (threads + LANES - 1) / LANES, bytes = 0;
    u32 *starts = calloc(p->n_shared + 1, sizeof *starts);
    for (u32 k = 0; starts && k < p->n_shared; k++) starts[k] = bytes, bytes += (p->shared[k] + 15) / 16 * 16;
    Block b = {.starts = starts, .bytes = bytes, .threads = threads, .buffers = buffers, .n_buffers = n_buffers,
               .program = p, .report = report, .left = limit, .counts = counts, .lanes = lanes};
    b.memory = calloc(bytes + 16, 1), b.written = calloc(bytes + 16, 1), b.history = calloc(bytes / 2 + 8, sizeof *b.history);
    Warp *warps = calloc(n_warps, sizeof *warps);
    u64 size = (u64)p->registers * sizeof(Register);
    Register *registers = aligned_alloc(64, size * n_warps);
    int had = starts && b.memory && b.written && b.history && warps && registers;
    for (u32 number = 0; had && number < blocks; number++) {
        b.number = number, b.epoch++;
        memset(b.written, 0, bytes);
        for (u32 k = 0; k < n_warps; k++) {
            Warp *w = &warps[k];
            w->id = k, w->done = 0, w->top = 0, w->registers = registers + (u64)k * p->registers;
            w->all = threads - k * LANES >= LANES ? EVERY : (1u << (threads - k * LANES)) - 1;
            w->stack[0] = (Level){0, p->length, w->all};
            for (u32 n = 0; n < p->registers; n++) for (int i = 0; i < LANES; i++) w->registers[n].u[i] = POISON;
            for (u32 n = 0; n < p->n_constants; n++) for (int i = 0; i < LANES; i++) {
                Register *r = &w->registers[p->constants[n]];
                if (p->wide[n]) r->U[i] = p->values[n]; else r->u[i] = (u32)p->values[n];
            }
            for (u32 n = 0; n < p->n_parameters; n++) for (int i = 0; i < LANES; i++) w->registers[p->parameters[n]].U[i] = (u64)(n + 1) << BUFFER_SHIFT;
            for (int i = 0; i < LANES; i++) {
                if (p->tid >= 0) w->registers[p->tid].u[i] = k * LANES + (u32)i;
                if (p->laneid >= 0) w->registers[p->laneid].u[i] = (u32)i;
                if (p->ctaid >= 0) w->registers[p->ctaid].u[i] = number;
                if (p->ntid >= 0) w->registers[p->ntid].u[i] = threads;
                if (p->nctaid >= 0) w->registers[p->nctaid].u[i] = blocks;
            }
        }
        for (u32 running = n_warps; running;) {
            u32 waiting = 0;
            for (u32 k = 0; k < n_warps; k++) if (!warps[k].done) {
                warps[k].done = (u32)run(&b, &warps[k]);
                waiting += !warps[k].done;
            }
            if (waiting && waiting != n_warps) fault(&b, PARTIAL_BARRIER, p->length - 1, 0, 0);
            running = waiting, b.epoch++;
        }
    }
    free(starts), free(b.memory), free(b.written), free(b.history), free(warps), free(registers);
    return had;
}
