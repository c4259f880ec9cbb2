//! Results as text: for people (aligned, expanded, markdown) as psql lays them out, for programs (csv, tsv, json, jsonl, unaligned).
//!
//! Nothing keeps a whole result. The aligned form gathers rows up to [`SAMPLE_BYTES`] to find the widths of columns; a longer result
//! goes on in blocks of that size, whose columns are never narrower than those before. Values for a terminal lose their
//! control characters, so that data cannot steer it.

use std::io::{self, Write};

use unicode_width::UnicodeWidthChar;

use super::client::{Column, Row};

/// Rows are gathered up to this before the first is shown.
const SAMPLE_BYTES: usize = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns side by side, as psql shows them
    Aligned,
    /// One line per value, as psql's \x
    Expanded,
    /// Values with a | between them
    Unaligned,
    /// Comma-separated with a header (RFC 4180)
    Csv,
    /// Tab-separated with a header, escaped as COPY does
    Tsv,
    /// One array of objects per result
    Json,
    /// One object per line
    Jsonl,
    /// A table for documents
    Markdown,
}

impl Format {
    pub const ALL: [(&'static str, Format); 8] = [
        ("aligned", Format::Aligned),
        ("expanded", Format::Expanded),
        ("unaligned", Format::Unaligned),
        ("csv", Format::Csv),
        ("tsv", Format::Tsv),
        ("json", Format::Json),
        ("jsonl", Format::Jsonl),
        ("markdown", Format::Markdown),
    ];

    pub fn named(name: &str) -> Option<Format> {
        Format::ALL.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }

    pub fn name(self) -> &'static str {
        Format::ALL.iter().find(|(_, format)| *format == self).map_or("aligned", |(name, _)| name)
    }

    /// Forms a person reads; only with them command tags and row counts belong into the output.
    pub fn for_people(self) -> bool {
        matches!(self, Format::Aligned | Format::Expanded | Format::Unaligned)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expanded {
    Off,
    On,
    /// When the columns are wider than the screen.
    Auto,
}

#[derive(Clone, Debug)]
pub struct Style {
    pub format: Format,
    pub expanded: Expanded,
    pub null: String,
    pub tuples_only: bool,
    pub footer: bool,
    pub border: u8,
    pub separator: String,
    pub title: Option<String>,
    /// Columns of the screen, if it is one.
    pub screen: Option<usize>,
}

impl Default for Style {
    fn default() -> Style {
        Style {
            format: Format::Aligned,
            expanded: Expanded::Off,
            null: String::new(),
            tuples_only: false,
            footer: true,
            border: 1,
            separator: "|".to_owned(),
            title: None,
            screen: None,
        }
    }
}

/// Types whose values stand at the right: int2, int4, int8, float4, float8, numeric, oid, xid, xid8, cid, money.
fn numeric(type_oid: u32) -> bool {
    matches!(type_oid, 20 | 21 | 23 | 26 | 28 | 29 | 700 | 701 | 790 | 1700 | 5069)
}

/// One result on its way out.
pub struct Table<'a> {
    style: &'a Style,
    columns: Vec<Column>,
    /// Gathered for the widths.
    rows: Vec<Row>,
    bytes: usize,
    widths: Vec<usize>,
    begun: bool,
    expanded: bool,
    count: u64,
}

impl<'a> Table<'a> {
    pub fn new(style: &'a Style, columns: Vec<Column>) -> Table<'a> {
        let expanded =
            style.format == Format::Expanded || (style.expanded == Expanded::On && style.format.for_people());
        Table {
            style,
            columns,
            rows: Vec::new(),
            bytes: 0,
            widths: Vec::new(),
            begun: false,
            expanded,
            count: 0,
        }
    }

    pub fn row(&mut self, row: Row, out: &mut dyn Write) -> io::Result<()> {
        match self.style.format {
            Format::Aligned | Format::Expanded => {
                self.bytes +=
                    row.iter().map(|value| value.as_ref().map_or(0, |value| value.len()) + 32).sum::<usize>();
                self.rows.push(row);
                if self.bytes >= SAMPLE_BYTES { self.block(out) } else { Ok(()) }
            }
            _ => {
                self.begin(out)?;
                self.count += 1;
                self.plain_row(&row, out)
            }
        }
    }

    /// Everything is said; the rest and the row count go out, the note behind it.
    pub fn finish(self, note: &str, out: &mut dyn Write) -> io::Result<()> {
        self.finish_with(&[], note, out)
    }

    /// The same with lines below the table, in place of the row count.
    pub fn finish_with(mut self, footers: &[String], note: &str, out: &mut dyn Write) -> io::Result<()> {
        match self.style.format {
            Format::Aligned | Format::Expanded => self.block(out)?,
            _ => self.begin(out)?,
        }
        match self.style.format {
            Format::Json => writeln!(out, "{}]", if self.count > 0 { "\n" } else { "" }),
            Format::Aligned | Format::Expanded | Format::Unaligned => {
                // An expanded result counts its records itself.
                let counted = (self.expanded && self.count > 0) || !footers.is_empty();
                for line in footers {
                    writeln!(out, "{line}")?;
                }
                if self.style.footer && !self.style.tuples_only && !counted {
                    let rows = if self.count == 1 { "row" } else { "rows" };
                    writeln!(out, "({} {rows}){note}", self.count)?;
                } else if !note.is_empty() {
                    writeln!(out, "{}", note.trim_start())?;
                }
                // psql leaves a line free behind a table.
                if self.style.format == Format::Unaligned {
                    return Ok(());
                }
                writeln!(out)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        let names = || self.columns.iter().map(|column| column.name.as_str());
        let quiet = self.style.tuples_only;
        match self.style.format {
            Format::Csv if !quiet => writeln!(out, "{}", names().map(csv).collect::<Vec<_>>().join(",")),
            Format::Tsv if !quiet => writeln!(out, "{}", names().map(tsv).collect::<Vec<_>>().join("\t")),
            Format::Json => write!(out, "["),
            Format::Unaligned if !quiet && !self.expanded => {
                writeln!(out, "{}", names().collect::<Vec<_>>().join(&self.style.separator))
            }
            Format::Markdown => {
                writeln!(out, "| {} |", names().map(markdown).collect::<Vec<_>>().join(" | "))?;
                let rules =
                    self.columns.iter().map(|column| if numeric(column.type_oid) { "---:" } else { "---" });
                writeln!(out, "| {} |", rules.collect::<Vec<_>>().join(" | "))
            }
            _ => Ok(()),
        }
    }

    fn plain_row(&self, row: &Row, out: &mut dyn Write) -> io::Result<()> {
        let texts = || row.iter().map(|value| value.as_deref().map(String::from_utf8_lossy));
        let null = self.style.null.as_str();
        match self.style.format {
            Format::Csv => {
                for (place, value) in row.iter().enumerate() {
                    if place > 0 {
                        out.write_all(b",")?;
                    }
                    match value {
                        None => out.write_all(null.as_bytes())?,
                        // Most values need no quotes and no copy.
                        Some(value) if !value.iter().any(|byte| b",\"\n\r\\".contains(byte)) => {
                            out.write_all(value)?
                        }
                        Some(value) => out.write_all(csv(&String::from_utf8_lossy(value)).as_bytes())?,
                    }
                }
                out.write_all(b"\n")
            }
            Format::Tsv => {
                let null = if null.is_empty() { "\\N" } else { null };
                for (place, value) in row.iter().enumerate() {
                    if place > 0 {
                        out.write_all(b"\t")?;
                    }
                    match value {
                        None => out.write_all(null.as_bytes())?,
                        Some(value) if !value.iter().any(|byte| b"\t\n\r\\".contains(byte)) => {
                            out.write_all(value)?
                        }
                        Some(value) => out.write_all(tsv(&String::from_utf8_lossy(value)).as_bytes())?,
                    }
                }
                out.write_all(b"\n")
            }
            Format::Markdown => {
                let fields =
                    texts().map(|value| value.map_or_else(|| null.to_owned(), |value| markdown(&value)));
                writeln!(out, "| {} |", fields.collect::<Vec<_>>().join(" | "))
            }
            Format::Json => {
                write!(out, "{}", if self.count == 1 { "\n " } else { ",\n " })?;
                self.object(row, out)
            }
            Format::Jsonl => {
                self.object(row, out)?;
                writeln!(out)
            }
            _ if self.expanded => {
                if self.count > 1 {
                    writeln!(out)?;
                }
                for (column, value) in self.columns.iter().zip(texts()) {
                    let value = value.unwrap_or_else(|| null.into());
                    writeln!(out, "{}{}{value}", column.name, self.style.separator)?;
                }
                Ok(())
            }
            _ => {
                let fields = texts().map(|value| value.unwrap_or_else(|| null.into()));
                writeln!(out, "{}", fields.collect::<Vec<_>>().join(&self.style.separator))
            }
        }
    }

    fn object(&self, row: &Row, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{{")?;
        for (place, (column, value)) in self.columns.iter().zip(row).enumerate() {
            write!(out, "{}{}: ", if place > 0 { ", " } else { "" }, json_string(&column.name))?;
            match value {
                None => write!(out, "null")?,
                Some(value) => {
                    let text = String::from_utf8_lossy(value);
                    write!(out, "{}", json_value(column.type_oid, &text))?;
                }
            }
        }
        write!(out, "}}")
    }

    /// Rows gathered so far, laid out.
    fn block(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let cells: Vec<Vec<Vec<String>>> = rows
            .iter()
            .map(|row| {
                row.iter()
                    .map(|value| match value {
                        None => vec![self.style.null.clone()],
                        Some(value) => lines(&String::from_utf8_lossy(value)),
                    })
                    .collect()
            })
            .collect();
        drop(rows);
        let first = !self.begun;
        self.begun = true;
        if first {
            self.widths = self.columns.iter().map(|column| width(&printable(&column.name))).collect();
        }
        if self.expanded {
            return self.records(&cells, first, out);
        }
        let mut widths = self.widths.clone();
        for row in &cells {
            for (most, cell) in widths.iter_mut().zip(row) {
                *most = cell.iter().map(|line| width(line)).fold(*most, usize::max);
            }
        }
        let between = if self.style.border == 0 { 1 } else { 3 };
        let total = (widths.iter().sum::<usize>() + widths.len() * between).saturating_sub(1);
        if first
            && self.style.expanded == Expanded::Auto
            && self.style.screen.is_some_and(|screen| total > screen)
        {
            self.expanded = true;
            return self.records(&cells, first, out);
        }
        self.widths = widths;
        if first && !self.style.tuples_only {
            self.title(total, out)?;
            self.header(out)?;
        }
        for row in &cells {
            self.count += 1;
            if !row.is_empty() {
                self.aligned_row(row, out)?;
            }
        }
        if self.style.border == 2 {
            self.rule(out)?;
        }
        Ok(())
    }

    fn title(&self, total: usize, out: &mut dyn Write) -> io::Result<()> {
        let Some(title) = &self.style.title else { return Ok(()) };
        let indent = total.saturating_sub(width(title)) / 2;
        writeln!(out, "{}{title}", " ".repeat(indent))
    }

    fn rule(&self, out: &mut dyn Write) -> io::Result<()> {
        let (edge, between, dash) = match self.style.border {
            0 => ("", " ", 0),
            1 => ("", "+", 2),
            _ => ("+", "+", 2),
        };
        let dashes: Vec<String> = self.widths.iter().map(|width| "-".repeat(width + dash)).collect();
        writeln!(out, "{edge}{}{edge}", dashes.join(between))
    }

    fn header(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.columns.is_empty() {
            return writeln!(out, "--");
        }
        if self.style.border == 2 {
            self.rule(out)?;
        }
        let names: Vec<String> = self
            .columns
            .iter()
            .zip(&self.widths)
            .map(|(column, most)| {
                let name = printable(&column.name);
                let space = most.saturating_sub(width(&name));
                format!("{}{name}{}", " ".repeat(space / 2), " ".repeat(space - space / 2))
            })
            .collect();
        match self.style.border {
            0 => writeln!(out, "{} ", names.join(" ").trim_end())?,
            1 => writeln!(out, " {} ", names.join(" | "))?,
            _ => writeln!(out, "| {} |", names.join(" | "))?,
        }
        self.rule(out)
    }

    fn aligned_row(&self, row: &[Vec<String>], out: &mut dyn Write) -> io::Result<()> {
        let height = row.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let last_column = row.len().saturating_sub(1);
        for line in 0..height {
            let mut text = String::new();
            if self.style.border == 2 {
                text.push('|');
            }
            for (place, (cell, most)) in row.iter().zip(&self.widths).enumerate() {
                let content = cell.get(line).map_or("", String::as_str);
                let space = " ".repeat(most.saturating_sub(width(content)));
                let goes_on = line + 1 < cell.len();
                if self.style.border > 0 {
                    text.push(' ');
                }
                if self.columns.get(place).is_some_and(|column| numeric(column.type_oid)) {
                    text.push_str(&space);
                    text.push_str(content);
                } else {
                    text.push_str(content);
                    // Nothing stands behind the last column.
                    if place < last_column || self.style.border == 2 || goes_on {
                        text.push_str(&space);
                    }
                }
                if goes_on {
                    text.push('+');
                } else if place < last_column || self.style.border == 2 {
                    text.push(' ');
                }
                if (place < last_column && self.style.border > 0) || self.style.border == 2 {
                    text.push('|');
                }
            }
            writeln!(out, "{text}")?;
        }
        Ok(())
    }

    /// A record is a line per value below a line with its number.
    fn records(&mut self, rows: &[Vec<Vec<String>>], first: bool, out: &mut dyn Write) -> io::Result<()> {
        let names: Vec<String> = self.columns.iter().map(|column| printable(&column.name)).collect();
        let name_width = names.iter().map(|name| width(name)).max().unwrap_or(0);
        let mut value_width = rows.iter().flatten().flatten().map(|line| width(line)).max().unwrap_or(0);
        if let Some(screen) = self.style.screen {
            // The line must not wrap just because a value does.
            value_width = value_width.min(screen.saturating_sub(name_width + 4));
        }
        if first && !self.style.tuples_only {
            self.title(name_width + value_width + 3, out)?;
        }
        for row in rows {
            self.count += 1;
            if !self.style.tuples_only {
                let label = format!("-[ RECORD {} ]", self.count);
                let mut line: String = label.clone();
                for place in label.chars().count()..name_width + value_width + 3 {
                    line.push(if place == name_width + 1 { '+' } else { '-' });
                }
                writeln!(out, "{line}")?;
            } else if self.count > 1 {
                writeln!(out)?;
            }
            for (name, cell) in names.iter().zip(row) {
                for (number, line) in cell.iter().enumerate() {
                    let label = if number == 0 { name.as_str() } else { "" };
                    let space = " ".repeat(name_width - width(label));
                    if number + 1 < cell.len() {
                        let fill = " ".repeat(value_width.saturating_sub(width(line)));
                        writeln!(out, "{label}{space} | {line}{fill}+")?;
                    } else {
                        writeln!(out, "{label}{space} | {line}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Columns of the screen that a text takes.
pub fn width(text: &str) -> usize {
    text.chars().map(|character| character.width().unwrap_or(0)).sum()
}

/// A value's lines, ready for a terminal.
fn lines(value: &str) -> Vec<String> {
    value.split('\n').map(printable).collect()
}

/// Tabs as blanks, other control characters as psql shows them.
pub fn printable(text: &str) -> String {
    if !text.contains(|character: char| character.is_control()) {
        return text.to_owned();
    }
    let mut shown = String::new();
    for character in text.chars() {
        match character {
            '\t' => shown.push_str(&" ".repeat(8 - width(&shown) % 8)),
            '\r' => shown.push_str("\\r"),
            '\n' => shown.push(' '),
            control if control.is_control() => shown.push_str(&if (control as u32) < 0x80 {
                format!("\\x{:02X}", control as u32)
            } else {
                format!("\\u{:04X}", control as u32)
            }),
            other => shown.push(other),
        }
    }
    shown
}

fn csv(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) || text == "\\." {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn tsv(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

fn markdown(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace("\r\n", "<br>")
        .replace('\n', "<br>")
        .replace('<', "&lt;")
        .replace("&lt;br>", "<br>")
}

fn json_string(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 2);
    shown.push('"');
    for character in text.chars() {
        match character {
            '"' => shown.push_str("\\\""),
            '\\' => shown.push_str("\\\\"),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            control if (control as u32) < 0x20 => shown.push_str(&format!("\\u{:04x}", control as u32)),
            other => shown.push(other),
        }
    }
    shown.push('"');
    shown
}

/// Numbers, Booleans and JSON as such; what JSON has no form for, as a string.
fn json_value(type_oid: u32, text: &str) -> String {
    match type_oid {
        16 if text == "t" => "true".to_owned(),
        16 if text == "f" => "false".to_owned(),
        20 | 21 | 23 | 26 | 700 | 701 | 1700 if text.ends_with(|c: char| c.is_ascii_digit()) => {
            text.to_owned()
        }
        114 | 3802 => text.to_owned(),
        _ => json_string(text),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn show(style: &Style, columns: &[(&str, u32)], rows: &[&[Option<&str>]]) -> String {
        let columns = columns
            .iter()
            .map(|(name, type_oid)| Column { name: (*name).to_owned(), type_oid: *type_oid, typmod: -1 })
            .collect();
        let mut table = Table::new(style, columns);
        let mut out = Vec::new();
        for row in rows {
            let row =
                row.iter().map(|value| value.map(|value| Bytes::copy_from_slice(value.as_bytes()))).collect();
            table.row(row, &mut out).expect("memory");
        }
        table.finish("", &mut out).expect("memory");
        String::from_utf8(out).expect("text")
    }

    const COLUMNS: &[(&str, u32)] = &[("id", 23), ("a name", 25), ("ok", 16)];
    const ROWS: &[&[Option<&str>]] = &[
        &[Some("1"), Some("x|y"), Some("t")],
        &[Some("20"), None, Some("f")],
        &[Some("3"), Some("two\nlines, \"q\""), None],
    ];

    #[test]
    fn every_format() {
        for (format, expected) in [
            (
                Format::Aligned,
                " id |   a name   | ok \n----+------------+----\n  1 | x|y        | t\n 20 |            | f\n  3 | two       +| \n    | lines, \"q\" | \n(3 rows)\n\n",
            ),
            (Format::Unaligned, "id|a name|ok\n1|x|y|t\n20||f\n3|two\nlines, \"q\"|\n(3 rows)\n"),
            (Format::Csv, "id,a name,ok\n1,x|y,t\n20,,f\n3,\"two\nlines, \"\"q\"\"\",\n"),
            (Format::Tsv, "id\ta name\tok\n1\tx|y\tt\n20\t\\N\tf\n3\ttwo\\nlines, \"q\"\t\\N\n"),
            (
                Format::Json,
                "[\n {\"id\": 1, \"a name\": \"x|y\", \"ok\": true},\n {\"id\": 20, \"a name\": null, \"ok\": false},\n {\"id\": 3, \"a name\": \"two\\nlines, \\\"q\\\"\", \"ok\": null}\n]\n",
            ),
            (
                Format::Markdown,
                "| id | a name | ok |\n| ---: | --- | --- |\n| 1 | x\\|y | t |\n| 20 |  | f |\n| 3 | two<br>lines, \"q\" |  |\n",
            ),
        ] {
            let style = Style { format, ..Style::default() };
            assert_eq!(show(&style, COLUMNS, ROWS), expected, "{format:?}");
        }
        let style = Style { format: Format::Json, ..Style::default() };
        assert_eq!(show(&style, COLUMNS, &[]), "[]\n");
        assert_eq!(show(&style, &[("n", 1700)], &[&[Some("NaN")]]), "[\n {\"n\": \"NaN\"}\n]\n");
    }

    #[test]
    fn values_cannot_steer_a_terminal() {
        let shown = show(&Style::default(), &[("v", 25)], &[&[Some("\u{1b}[2Ja\tb\r")]]);
        assert!(shown.contains("\\x1B[2Ja"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert_eq!(width("日本"), 4);
    }
}
