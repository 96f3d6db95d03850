/* A strict reader of JSON (RFC 8259), value by value, without a tree: what a spec or a manifest
 * does not need is skipped, and nothing is allocated.
 *
 *     json_open(&json, text, length);
 *     json_enter(&json, '{');
 *     while (json_key(&json, key, sizeof key)) {
 *         if (strcmp(key, "width") == 0) json_number(&json, &width, &whole);
 *         else json_skip(&json);
 *     }
 *     good = json_close(&json);
 *
 * The first mistake sticks: every later call answers false, so only the end needs a look. Any bytes
 * may be passed; none outside of them are read. Refused beside what the grammar refuses: text that
 * is not UTF-8, half a surrogate pair, the character 0, and more than JSON_DEPTH_MOST levels. */
#ifndef RUNNER_JSON_H
#define RUNNER_JSON_H

#include <stdbool.h>
#include <stddef.h>

/* A spec has 4. */
#define JSON_DEPTH_MOST 64

typedef struct json_reader {
    const char *start, *at, *end;
    bool comma;        /* a value stands before this place, in the same object or list */
    const char *error; /* what was expected where `at` stands; NULL: nothing is wrong yet */
} json_reader;

void json_open(json_reader *json, const char *text, size_t length);

/* Whether one value, and nothing behind it, was read without a mistake. */
bool json_close(json_reader *json);

/* Into an object ('{') or a list ('['). */
bool json_enter(json_reader *json, char kind);

/* To the next key of an object: true with the key in `key`, NUL-terminated and empty if it does
 * not fit (no key that is looked for is that long); false behind the last one. */
bool json_key(json_reader *json, char *key, size_t room);

/* To the next value of a list: false behind the last one. */
bool json_item(json_reader *json);

/* A text, decoded and NUL-terminated, of at most room - 1 bytes; a longer one is a mistake. */
bool json_string(json_reader *json, char *text, size_t room);

/* A number; `whole`: it is written without a fraction and an exponent. */
bool json_number(json_reader *json, double *value, bool *whole);

/* Any value. */
bool json_skip(json_reader *json);

#endif
