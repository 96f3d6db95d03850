#include "json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Digits of one number; more would only tell how some writer rounds. */
#define NUMBER_BYTES_MOST 128

static bool wrong(json_reader *json, const char *expected) {
    if (json->error == NULL) {
        json->error = expected;
    }
    return false;
}

void json_open(json_reader *json, const char *text, size_t length) {
    *json = (json_reader){.start = text, .at = text, .end = text + length};
}

static void space(json_reader *json) {
    while (json->at < json->end && (*json->at == ' ' || *json->at == '\t' || *json->at == '\n' ||
                                    *json->at == '\r')) {
        json->at++;
    }
}

/* The next character that is not white space; 0 at the end. */
static char peek(json_reader *json) {
    space(json);
    return json->at < json->end ? *json->at : '\0';
}

static bool take(json_reader *json, char expected, const char *what) {
    if (json->error != NULL || peek(json) != expected || json->at == json->end) {
        return wrong(json, what);
    }
    json->at++;
    return true;
}

bool json_close(json_reader *json) {
    space(json);
    if (json->error == NULL && (json->at != json->end || !json->comma)) {
        return wrong(json, "the end");
    }
    return json->error == NULL;
}

bool json_enter(json_reader *json, char kind) {
    bool entered = take(json, kind, kind == '{' ? "an object" : "a list");
    json->comma = false;
    return entered;
}

/* To the next member: false at `closing`, which is taken, or after a mistake. */
static bool member(json_reader *json, char closing) {
    if (json->error != NULL) {
        return false;
    }
    if (peek(json) == closing && json->at < json->end) {
        json->at++;
        json->comma = true;
        return false;
    }
    if (json->comma && !take(json, ',', "a comma or the end of the list or object")) {
        return false;
    }
    json->comma = false;
    if (peek(json) == closing) {
        return wrong(json, "another value behind the comma");
    }
    return true;
}

bool json_item(json_reader *json) { return member(json, ']'); }

static int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Four hexadecimal digits, or -1. */
static int32_t four(json_reader *json) {
    if (json->end - json->at < 4) {
        return -1;
    }
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex(json->at[i]);
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    json->at += 4;
    return value;
}

/* What stands behind a backslash and u, or -1. */
static int32_t escaped(json_reader *json) {
    int32_t first = four(json);
    if (first < 0xD800 || first > 0xDFFF) {
        return first == 0 ? -1 : first;
    }
    if (first > 0xDBFF || json->end - json->at < 2 || json->at[0] != '\\' || json->at[1] != 'u') {
        return -1;
    }
    json->at += 2;
    int32_t second = four(json);
    if (second < 0xDC00 || second > 0xDFFF) {
        return -1;
    }
    return 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
}

/* Bytes of `point` in UTF-8. */
static size_t encode(int32_t point, char bytes[4]) {
    static const unsigned char marks[] = {0, 0x00, 0xC0, 0xE0, 0xF0};
    size_t count = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = count; i-- > 1;) {
        bytes[i] = (char)(0x80 | (point & 0x3F));
        point >>= 6;
    }
    bytes[0] = (char)(marks[count] | point);
    return count;
}

/* Length of the UTF-8 sequence at `at`, 0 if it is none (Unicode 15, table 3-7). */
static size_t sequence(const char *at, const char *end) {
    const unsigned char *byte = (const unsigned char *)at;
    size_t room = (size_t)(end - at);
    if (byte[0] < 0x80) {
        return 1;
    }
    size_t count = byte[0] >= 0xC2 && byte[0] <= 0xDF   ? 2
                   : byte[0] >= 0xE0 && byte[0] <= 0xEF ? 3
                   : byte[0] >= 0xF0 && byte[0] <= 0xF4 ? 4
                                                        : 0;
    if (count == 0 || count > room) {
        return 0;
    }
    unsigned char low = byte[0] == 0xE0 ? 0xA0 : byte[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char high = byte[0] == 0xED ? 0x9F : byte[0] == 0xF4 ? 0x8F : 0xBF;
    if (byte[1] < low || byte[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < count; i++) {
        if (byte[i] < 0x80 || byte[i] > 0xBF) {
            return 0;
        }
    }
    return count;
}

/* One character of a text into `bytes`; its length, 0 after a mistake. */
static size_t character(json_reader *json, char bytes[4]) {
    static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    if (json->at == json->end || (unsigned char)*json->at < 0x20) {
        return wrong(json, "a character of a text, or its closing quote");
    }
    if (*json->at != '\\') {
        size_t count = sequence(json->at, json->end);
        if (count == 0) {
            return wrong(json, "text in UTF-8");
        }
        memcpy(bytes, json->at, count);
        json->at += count;
        return count;
    }
    json->at++;
    char name = json->at < json->end ? *json->at++ : '\0';
    if (name == 'u') {
        int32_t point = escaped(json);
        return point < 0 ? wrong(json, "a character's number after \\u") : encode(point, bytes);
    }
    const char *place = name != '\0' ? strchr(names, name) : NULL;
    if (place == NULL) {
        return wrong(json, "a known letter behind the backslash");
    }
    bytes[0] = meanings[place - names];
    return 1;
}

/* A text; `fits` becomes false where it is longer than room - 1 bytes. */
static bool text_of(json_reader *json, char *text, size_t room, bool *fits) {
    size_t used = 0;
    *fits = true;
    if (!take(json, '"', "a text")) {
        return false;
    }
    while (json->at == json->end || *json->at != '"') {
        char bytes[4] = {0};
        size_t count = character(json, bytes);
        if (count == 0) {
            return false;
        }
        if (!*fits || used + count >= room) {
            *fits = false;
        } else {
            memcpy(text + used, bytes, count);
            used += count;
        }
    }
    json->at++;
    json->comma = true;
    if (room > 0) {
        text[*fits ? used : 0] = '\0';
    }
    return true;
}

bool json_string(json_reader *json, char *text, size_t room) {
    bool fits = true;
    return text_of(json, text, room, &fits) && (fits || wrong(json, "a shorter text"));
}

bool json_key(json_reader *json, char *key, size_t room) {
    bool fits = true;
    if (!member(json, '}') || !text_of(json, key, room, &fits) ||
        !take(json, ':', "a colon behind the key")) {
        return false;
    }
    json->comma = false;
    return true;
}

static size_t digits(json_reader *json) {
    const char *begin = json->at;
    while (json->at < json->end && *json->at >= '0' && *json->at <= '9') {
        json->at++;
    }
    return (size_t)(json->at - begin);
}

static bool next_is(json_reader *json, char one, char other) {
    if (json->at < json->end && (*json->at == one || *json->at == other)) {
        json->at++;
        return true;
    }
    return false;
}

bool json_number(json_reader *json, double *value, bool *whole) {
    static const char expected[] = "a number";
    char copy[NUMBER_BYTES_MOST + 1];
    if (json->error != NULL) {
        return false;
    }
    space(json);
    const char *begin = json->at;
    (void)next_is(json, '-', '-');
    bool zero = next_is(json, '0', '0');
    if (!zero && digits(json) == 0) {
        return wrong(json, expected);
    }
    *whole = true;
    if (next_is(json, '.', '.')) {
        *whole = false;
        if (digits(json) == 0) {
            return wrong(json, expected);
        }
    }
    if (next_is(json, 'e', 'E')) {
        *whole = false;
        (void)next_is(json, '+', '-');
        if (digits(json) == 0) {
            return wrong(json, expected);
        }
    }
    size_t length = (size_t)(json->at - begin);
    if (length > NUMBER_BYTES_MOST) {
        return wrong(json, "a number of fewer digits");
    }
    memcpy(copy, begin, length);
    copy[length] = '\0';
    *value = strtod(copy, NULL); /* in the C locale: nothing here sets another */
    json->comma = true;
    return true;
}

static bool word(json_reader *json, const char *name) {
    size_t length = strlen(name);
    if ((size_t)(json->end - json->at) < length || memcmp(json->at, name, length) != 0) {
        return wrong(json, "a value");
    }
    json->at += length;
    json->comma = true;
    return true;
}

static bool skip(json_reader *json, int depth) {
    double number = 0;
    bool ignored = true;
    if (json->error != NULL) {
        return false;
    }
    switch (peek(json)) {
    case '{':
    case '[':
        if (depth == JSON_DEPTH_MOST) {
            return wrong(json, "fewer levels");
        }
        if (*json->at == '{') {
            (void)json_enter(json, '{');
            while (json_key(json, NULL, 0) && skip(json, depth + 1)) {
            }
        } else {
            (void)json_enter(json, '[');
            while (json_item(json) && skip(json, depth + 1)) {
            }
        }
        return json->error == NULL;
    case '"':
        return text_of(json, NULL, 0, &ignored);
    case 't':
        return word(json, "true");
    case 'f':
        return word(json, "false");
    case 'n':
        return word(json, "null");
    default:
        return json_number(json, &number, &ignored);
    }
}

bool json_skip(json_reader *json) { return skip(json, 0); }
