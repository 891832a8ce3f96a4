/* SPDX-License-Identifier: MIT */
/*
 * Is this JSON, and does it say what it should?
 *
 *   json-check doc FILE [PATH=VALUE...]          the file is one document
 *   json-check lines FILE [WHICH:PATH=VALUE...]  each line is an object; WHICH: a number from 1, "last" or "any"
 *
 * PATH: names and indices joined by dots; VALUE: a string's text, or JSON
 * (null, true, 3).  "PATH#=N" counts an array.  Exits 1 and says what differs.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINES_MAX 4096

static const json_t *lookup(const json_t *json, char *path)
{
        char *name;

        while (json && (name = strsep(&path, ".")))
                json = json_is_array(json) ? json_array_get(json, (size_t)atoi(name)) : json_object_get(json, name);
        return json;
}

static int says(const json_t *json, const char *check, char *actual, size_t size)
{
        char path[512];
        const char *value = strchr(check, '=');
        const json_t *found;
        bool count;
        char *dump;
        int same;

        if (!value || (size_t)(value - check) >= sizeof(path))
                return 0;
        count = value > check && value[-1] == '#';
        snprintf(path, sizeof(path), "%.*s", (int)(value - check) - count, check);
        found = lookup(json, path);
        if (count) {
                snprintf(actual, size, "%zu", json_array_size(found));
                return strcmp(actual, value + 1) == 0;
        }
        if (json_is_string(found)) {
                snprintf(actual, size, "%s", json_string_value(found));
                return strcmp(actual, value + 1) == 0;
        }
        dump = found ? json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
        snprintf(actual, size, "%s", dump ? dump : "(absent)");
        same = dump && strcmp(dump, value + 1) == 0;
        free(dump);
        return same;
}

static int fail(const char *what, const char *check, const char *actual)
{
        fprintf(stderr, "json-check: %s%s%s%s\n", what, check, *actual ? ": it is " : "", actual);
        return 1;
}

int main(int argc, char **argv)
{
        static json_t *documents[LINES_MAX];
        bool lines = argc > 2 && strcmp(argv[1], "lines") == 0;
        char actual[4096] = "", *line = NULL;
        size_t n = 0, size = 0;
        json_error_t error;
        FILE *f = argc > 2 ? fopen(argv[2], "r") : NULL;
        int status = 0;

        if (!f)
                return fail("cannot read ", argc > 2 ? argv[2] : "nothing", "");
        if (lines) {
                while (n < LINES_MAX && getline(&line, &size, f) > 0) {
                        documents[n] = json_loads(line, 0, &error);
                        if (!documents[n++])
                                return fail("no JSON: ", line, error.text);
                }
                free(line);
        } else {
                documents[n++] = json_loadf(f, 0, &error);
                if (!documents[0])
                        return fail("no JSON: ", argv[2], error.text);
        }
        fclose(f);
        for (int i = 3; i < argc && status == 0; i++) {
                char *check = lines ? strchr(argv[i], ':') : NULL;
                bool any = lines && strncmp(argv[i], "any:", 4) == 0, held = false;
                size_t first = 0, last = n;

                if (lines && !any) {
                        first = strncmp(argv[i], "last:", 5) == 0 ? n - 1 : (size_t)atoi(argv[i]) - 1;
                        last = first + 1;
                }
                for (size_t j = first; j < last && j < n && !held; j++)
                        held = says(documents[j], lines ? check + 1 : argv[i], actual, sizeof(actual));
                if (!held)
                        status = fail("not so: ", argv[i], any ? "" : actual);
        }
        for (size_t i = 0; i < n; i++)
                json_decref(documents[i]);
        return status;
}
