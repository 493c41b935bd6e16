//! A table in a box, as wide as its contents.

/// Longest cell, in characters; more is cut, so that a guest's output cannot take the table apart.
const LONGEST: usize = 40;

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its heading, in two lines.
    pub heading: [&'static str; 2],
    /// Numbers stand at the right.
    pub number: bool,
    /// Its cells are what the eye should find first.
    pub bright: bool,
}

const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const OFF: &str = "\x1b[0m";

/// Draws the table; a row has a cell for each column.
pub fn draw(columns: &[Column], rows: &[Vec<String>], colours: bool) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| clean(cell)).collect())
        .collect();
    let width = |(at, column): (usize, &Column)| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(String::as_str);
        let widths = cells.chain(column.heading).map(|text| text.chars().count());
        widths.max().unwrap_or(0)
    };
    let pen = Pen {
        widths: columns.iter().enumerate().map(width).collect(),
        columns,
        colours,
    };

    let mut lines = vec![pen.border(["╭", "┬", "╮"])];
    for part in 0..2 {
        let cells: Vec<&str> = columns.iter().map(|column| column.heading[part]).collect();
        lines.push(pen.line(&cells, |_| BOLD));
    }
    lines.push(pen.border(["├", "┼", "┤"]));
    for row in &rows {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        lines.push(pen.line(&cells, |column| if column.bright { GREEN } else { "" }));
    }
    lines.push(pen.border(["╰", "┴", "╯"]));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// One line without control characters.
fn clean(text: &str) -> String {
    let mut short: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect();
    if text.chars().count() > LONGEST {
        short.pop();
        short.push('…');
    }
    short
}

struct Pen<'a> {
    columns: &'a [Column],
    widths: Vec<usize>,
    colours: bool,
}

impl Pen<'_> {
    fn paint(&self, text: &str, colour: &str) -> String {
        if self.colours && !colour.is_empty() {
            format!("{colour}{text}{OFF}")
        } else {
            text.to_owned()
        }
    }

    fn border(&self, [left, middle, right]: [&str; 3]) -> String {
        let parts: Vec<String> = self.widths.iter().map(|width| "─".repeat(width + 2)).collect();
        self.paint(&format!("{left}{}{right}", parts.join(middle)), DIM)
    }

    fn line(&self, cells: &[&str], colour: impl Fn(&Column) -> &'static str) -> String {
        let bar = self.paint("│", DIM);
        let mut line = bar.clone();
        for (at, (column, width)) in self.columns.iter().zip(&self.widths).enumerate() {
            let cell = cells.get(at).copied().unwrap_or_default();
            let padded = if column.number {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            };
            line.push_str(&format!(" {} {bar}", self.paint(&padded, colour(column))));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 2] = [
        Column {
            heading: ["image", ""],
            number: false,
            bright: false,
        },
        Column {
            heading: ["start", "ms"],
            number: true,
            bright: true,
        },
    ];

    fn row(name: &str, number: &str) -> Vec<String> {
        vec![name.into(), number.into()]
    }

    #[test]
    fn a_table_is_as_wide_as_its_widest_cells() {
        let drawn = draw(&COLUMNS, &[row("hello-component", "7.5"), row("é", "123456")], false);
        let expected = "\
╭─────────────────┬────────╮
│ image           │  start │
│                 │     ms │
├─────────────────┼────────┤
│ hello-component │    7.5 │
│ é               │ 123456 │
╰─────────────────┴────────╯
";
        assert_eq!(drawn, expected);
    }

    #[test]
    fn colours_change_no_character_of_the_table() {
        let rows = [row("hello", "7.5")];
        let mut painted = draw(&COLUMNS, &rows, true);
        assert!(painted.contains(GREEN));
        for code in [DIM, BOLD, GREEN, OFF] {
            painted = painted.replace(code, "");
        }
        assert_eq!(painted, draw(&COLUMNS, &rows, false));
    }

    #[test]
    fn output_that_is_long_or_holds_control_characters_cannot_break_the_table() {
        let drawn = draw(&COLUMNS, &[row(&"x".repeat(99), "\x1b[2J\n")], false);
        assert!(drawn.contains('…') && !drawn.contains('\x1b'));
        let widths: Vec<usize> = drawn.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{widths:?}");
    }
}
