/* SPDX-License-Identifier: MIT */
/*
 * Tables for people: cells are kept as given and cleaned, cut and wrapped when
 * printed.  Invariant: no printed line is wider than the terminal, unless the
 * terminal is too narrow for even four characters of each column.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/table.h"

#define COLUMNS_MAX 12
#define GAP 2                           /* spaces between columns */
#define SENTENCE_MIN 32                 /* narrower than this, the sentence goes under its row */
#define NOTE_INDENT 4
#define CELL_MIN 4

struct cell {
        char *text;                     /* as given */
        enum style style;
};

struct row {
        struct cell cells[COLUMNS_MAX];
        size_t n;
};

struct table {
        const char *headings[COLUMNS_MAX];
        size_t n_columns;
        struct row *rows;
        size_t n_rows;
};

struct table *table_new(const char *const *headings)
{
        struct table *table = calloc(1, sizeof(*table));

        if (!table)
                return NULL;
        while (headings[table->n_columns] && table->n_columns < COLUMNS_MAX) {
                table->headings[table->n_columns] = headings[table->n_columns];
                table->n_columns++;
        }
        return table;
}

struct table *table_free(struct table *table)
{
        if (!table)
                return NULL;
        for (size_t r = 0; r < table->n_rows; r++)
                for (size_t c = 0; c < table->rows[r].n; c++)
                        free(table->rows[r].cells[c].text);
        free(table->rows);
        free(table);
        return NULL;
}

int table_row(struct table *table)
{
        struct row *rows = reallocarray(table->rows, table->n_rows + 1, sizeof(*rows));

        if (!rows)
                return -ENOMEM;
        table->rows = rows;
        rows[table->n_rows++] = (struct row){ .n = 0 };
        return 0;
}

int table_cell(struct table *table, enum style style, const char *text)
{
        struct row *row = &table->rows[table->n_rows - 1];

        if (row->n == table->n_columns)
                return -EINVAL;
        row->cells[row->n].text = strdup(text);
        if (!row->cells[row->n].text)
                return -ENOMEM;
        row->cells[row->n++].style = style;
        return 0;
}

static const char *cell_text(const struct row *row, size_t column)
{
        return column < row->n ? row->cells[column].text : "";
}

static void spaces(FILE *to, size_t n)
{
        (void)fprintf(to, "%*s", (int)n, "");
}

/* Which columns are shown and how wide: the widest gives way first until the rest of the terminal is enough. */
struct shape {
        bool shown[COLUMNS_MAX];
        size_t width[COLUMNS_MAX];
        size_t left;                    /* all but the sentences, with gaps */
        size_t sentence;                /* columns beside; 0: under the row (or unlimited) */
};

static void shape_of(const struct table *table, const struct terminal *terminal, struct shape *shape)
{
        size_t last = table->n_columns - 1, widest;

        *shape = (struct shape){ .left = 0 };
        for (size_t c = 0; c <= last; c++) {
                shape->width[c] = text_width(table->headings[c]);
                for (size_t r = 0; r < table->n_rows; r++) {
                        const char *text = cell_text(&table->rows[r], c);

                        if (*text) {
                                shape->shown[c] = true;
                                shape->width[c] = MAX(shape->width[c], text_width(text));
                        }
                }
                if (c < last && shape->shown[c])
                        shape->left += shape->width[c] + GAP;
        }
        if (terminal->columns == TEXT_UNLIMITED)
                return;
        while (shape->left > terminal->columns + GAP) {
                widest = last;
                for (size_t c = 0; c < last; c++)
                        if (shape->shown[c] && shape->width[c] > CELL_MIN &&
                            (widest == last || shape->width[c] > shape->width[widest]))
                                widest = c;
                if (widest == last)
                        break;
                shape->width[widest]--;
                shape->left--;
        }
        if (shape->shown[last] && shape->left + SENTENCE_MIN <= terminal->columns)
                shape->sentence = terminal->columns - shape->left;
        /* All sentences are short enough although there is little room. */
        if (shape->shown[last] && shape->left + shape->width[last] <= terminal->columns)
                shape->sentence = terminal->columns - shape->left;
}

static int print_cell(FILE *to, const struct terminal *terminal, const struct cell *cell, size_t width, bool pad)
{
        _cleanup_free_ char *text = text_cut(*cell->text ? cell->text : "-", width, terminal->utf8);

        if (!text)
                return -ENOMEM;
        (void)fprintf(to, "%s%s%s", style_on(terminal, cell->style), text, style_off(terminal, cell->style));
        if (pad)
                spaces(to, width - MIN(width, text_width(text)) + GAP);
        return 0;
}

static void print_wrapped(FILE *to, const struct terminal *terminal, const struct cell *cell, size_t indent, size_t width)
{
        const char *rest = cell->text;
        bool first = true;

        while (*rest) {
                size_t next, n = text_line(rest, width, &next);

                if (!first)
                        spaces(to, indent);
                (void)fprintf(to, "%s%.*s%s\n", style_on(terminal, cell->style), (int)n, rest, style_off(terminal, cell->style));
                rest += next;
                first = false;
        }
}

static int print_row(const struct table *table, const struct row *row, FILE *to, const struct terminal *terminal,
                     const struct shape *shape)
{
        size_t last = table->n_columns - 1, last_shown = last;
        const struct cell *sentence = row->n > last ? &row->cells[last] : NULL;
        bool beside = sentence && *sentence->text && (shape->sentence > 0 || terminal->columns == TEXT_UNLIMITED);

        if (sentence && !*sentence->text)
                sentence = NULL;
        for (size_t c = 0; c < last; c++)
                if (shape->shown[c])
                        last_shown = c;
        for (size_t c = 0; c < last; c++) {
                static const struct cell empty = { .text = (char *)"" };
                int r;

                if (!shape->shown[c])
                        continue;
                r = print_cell(to, terminal, c < row->n ? &row->cells[c] : &empty, shape->width[c], beside || c != last_shown);
                if (r < 0)
                        return r;
        }
        if (!sentence) {
                (void)fputc('\n', to);
        } else if (terminal->columns == TEXT_UNLIMITED) {
                (void)fprintf(to, "%s\n", sentence->text);
        } else if (beside) {
                print_wrapped(to, terminal, sentence, shape->left, shape->sentence);
        } else {
                (void)fputc('\n', to);
                spaces(to, NOTE_INDENT);
                print_wrapped(to, terminal, sentence, NOTE_INDENT,
                              terminal->columns > 2 * NOTE_INDENT ? terminal->columns - NOTE_INDENT : NOTE_INDENT);
        }
        return 0;
}

/* Cells are made printable once, before anything is measured. */
static int clean_cells(struct table *table, bool utf8)
{
        for (size_t r = 0; r < table->n_rows; r++)
                for (size_t c = 0; c < table->rows[r].n; c++) {
                        struct cell *cell = &table->rows[r].cells[c];
                        char *clean = text_clean(cell->text, utf8);

                        if (!clean)
                                return -ENOMEM;
                        free(cell->text);
                        cell->text = clean;
                }
        return 0;
}

static void print_headings(const struct table *table, FILE *to, const struct terminal *terminal, const struct shape *shape)
{
        size_t last = table->n_columns - 1, pending = 0;
        bool sentences = shape->shown[last] && (shape->sentence > 0 || terminal->columns == TEXT_UNLIMITED);

        (void)fputs(style_on(terminal, STYLE_BOLD), to);
        for (size_t c = 0; c < last; c++) {
                size_t n;

                if (!shape->shown[c])
                        continue;
                spaces(to, pending);
                n = text_prefix(table->headings[c], shape->width[c]);
                (void)fprintf(to, "%.*s", (int)n, table->headings[c]);
                pending = shape->width[c] - n + GAP;
        }
        if (sentences) {
                spaces(to, pending);
                (void)fputs(table->headings[last], to);
        }
        (void)fprintf(to, "%s\n", style_off(terminal, STYLE_BOLD));
}

int table_print(struct table *table, FILE *to, const struct terminal *terminal)
{
        struct shape shape;
        int r;

        r = clean_cells(table, terminal->utf8);
        if (r < 0)
                return r;
        shape_of(table, terminal, &shape);
        print_headings(table, to, terminal, &shape);
        for (size_t i = 0; i < table->n_rows; i++) {
                r = print_row(table, &table->rows[i], to, terminal, &shape);
                if (r < 0)
                        return r;
        }
        return ferror(to) ? -EIO : 0;
}
