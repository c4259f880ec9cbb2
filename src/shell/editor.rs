//! The line editor of the shell: rustyline with completion from the catalog, colours while typing, and a history that keeps
//! statements of several lines whole and passwords out.

use std::borrow::Cow;
use std::path::PathBuf;

use rustyline::completion::{Completer, Pair};
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Helper};

use super::command;
use super::complete::{self, Catalog, KEYWORDS};
use super::input::{Splitter, is_word};

/// What came of asking for a line.
pub enum Line {
    Text(String),
    /// Ctrl-C: the line is given up.
    Interrupted,
    /// Ctrl-D: no more lines.
    End,
}

pub struct Editor {
    inner: rustyline::Editor<Assistant, FileHistory>,
    history: Option<PathBuf>,
}

impl Editor {
    /// With colours if wanted; the history is read from (and appended to) a file.
    pub fn new(colours: bool, history: Option<PathBuf>) -> rustyline::Result<Editor> {
        let config = Config::builder()
            .max_history_size(5000)?
            .completion_type(CompletionType::List)
            .completion_prompt_limit(60)
            .auto_add_history(false)
            .tab_stop(8)
            .build();
        let mut inner = rustyline::Editor::with_config(config)?;
        if !colours {
            inner.set_color_mode(rustyline::ColorMode::Disabled);
        }
        inner.set_helper(Some(Assistant { colours, hinter: HistoryHinter::new(), ..Assistant::default() }));
        if let Some(file) = &history
            && let Err(error) = inner.load_history(file)
            && !matches!(&error, ReadlineError::Io(error) if error.kind() == std::io::ErrorKind::NotFound)
        {
            eprintln!("WARNING: the history \"{}\" could not be read: {error}", file.display());
        }
        Ok(Editor { inner, history })
    }

    /// Reads a line, or several when a statement goes on; `open`: something from before goes on, so every line is complete.
    pub fn read(&mut self, prompt: &str, open: bool) -> rustyline::Result<Line> {
        if let Some(assistant) = self.inner.helper_mut() {
            assistant.open = open;
        }
        match self.inner.readline(prompt) {
            Ok(text) => Ok(Line::Text(text)),
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(error),
        }
    }

    /// Keeps what was typed, unless it holds a password.
    pub fn remember(&mut self, text: &str) {
        if text.trim().is_empty() || holds_password(text) {
            return;
        }
        // A history that cannot be kept must not stop the work.
        let kept = self.inner.add_history_entry(text.trim_end());
        if let (Ok(true), Some(file)) = (kept, &self.history) {
            let _ = self.inner.append_history(file);
        }
    }

    pub fn set_catalog(&mut self, catalog: Catalog) {
        if let Some(assistant) = self.inner.helper_mut() {
            assistant.catalog = catalog;
        }
    }

    /// Columns and rows of the screen.
    pub fn screen(&mut self) -> Option<(usize, usize)> {
        let (columns, rows) = self.inner.dimensions()?;
        Some((usize::from(columns), usize::from(rows)))
    }
}

/// CREATE ROLE .. PASSWORD '..' and its kin.
fn holds_password(text: &str) -> bool {
    let lower = text.to_lowercase();
    lower.contains("password") && lower.contains('\'')
}

#[derive(Default)]
struct Assistant {
    catalog: Catalog,
    hinter: HistoryHinter,
    colours: bool,
    open: bool,
}

impl Helper for Assistant {}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, place: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, words) = complete::complete(&self.catalog, &line[..place], command::NAMES);
        Ok((start, words.into_iter().map(|word| Pair { display: word.clone(), replacement: word }).collect()))
    }
}

impl Hinter for Assistant {
    type Hint = String;

    fn hint(&self, line: &str, place: usize, context: &Context<'_>) -> Option<String> {
        if line.len() < 3 {
            return None;
        }
        self.hinter.hint(line, place, context)
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        if self.open || super::is_farewell(context.input()) || context.input().trim() == "help" {
            return Ok(ValidationResult::Valid(None));
        }
        let mut splitter = Splitter::default();
        let mut commanded = false;
        for line in context.input().split('\n') {
            let pieces = splitter.line(line, &|_| None);
            commanded =
                pieces.last().is_some_and(|piece| matches!(piece, super::input::Piece::Command { .. }));
        }
        if splitter.open() && !commanded {
            Ok(ValidationResult::Incomplete)
        } else {
            Ok(ValidationResult::Valid(None))
        }
    }
}

impl Highlighter for Assistant {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if self.colours { Cow::Owned(coloured(line)) } else { Cow::Borrowed(line) }
    }

    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        if self.colours { Cow::Owned(format!("\x1b[1m{prompt}\x1b[0m")) } else { Cow::Borrowed(prompt) }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        if self.colours { Cow::Owned(format!("\x1b[2m{hint}\x1b[0m")) } else { Cow::Borrowed(hint) }
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        self.colours && kind != CmdKind::MoveCursor
    }
}

const KEYWORD: &str = "\x1b[1;34m";
const STRING: &str = "\x1b[32m";
const NUMBER: &str = "\x1b[36m";
const COMMENT: &str = "\x1b[2m";
const COMMAND: &str = "\x1b[35m";
const PLAIN: &str = "\x1b[0m";

/// A statement with its words coloured. Only colours are added; the characters stay what they are.
fn coloured(line: &str) -> String {
    let mut out = String::with_capacity(line.len() * 2);
    let mut rest = line;
    let mut paint = |colour: &str, text: &str| {
        if colour.is_empty() {
            out.push_str(text);
        } else {
            out.push_str(&format!("{colour}{text}{PLAIN}"));
        }
    };
    while let Some(first) = rest.chars().next() {
        let (colour, length) = if rest.starts_with("--") {
            (COMMENT, rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            (COMMENT, rest.find("*/").map_or(rest.len(), |end| end + 2))
        } else if first == '\'' {
            (STRING, rest[1..].find('\'').map_or(rest.len(), |end| end + 2))
        } else if first == '"' {
            ("", rest[1..].find('"').map_or(rest.len(), |end| end + 2))
        } else if first == '\\' {
            (COMMAND, rest.find(char::is_whitespace).unwrap_or(rest.len()))
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let word = &rest[..length];
            let colour = if first.is_ascii_digit() {
                NUMBER
            } else if is_keyword(word) {
                KEYWORD
            } else {
                ""
            };
            (colour, length)
        } else {
            ("", first.len_utf8())
        };
        paint(colour, &rest[..length]);
        rest = &rest[length..];
    }
    out
}

fn is_keyword(word: &str) -> bool {
    static WORDS: std::sync::LazyLock<std::collections::HashSet<String>> = std::sync::LazyLock::new(|| {
        KEYWORDS
            .iter()
            .chain(complete::FIRST)
            .flat_map(|phrase| phrase.split(' '))
            .map(str::to_lowercase)
            .collect()
    });
    WORDS.contains(&word.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_add_nothing_but_colours() {
        for line in
            ["select 'it''s', \"A\" from t -- x", "/* a", "\\d t", "ü := 'é", "select 1 where a = $1;\nx"]
        {
            let shown = coloured(line);
            let mut plain = shown.clone();
            for colour in [KEYWORD, STRING, NUMBER, COMMENT, COMMAND, PLAIN] {
                plain = plain.replace(colour, "");
            }
            assert_eq!(plain, line);
        }
        assert!(coloured("select 1").starts_with(KEYWORD));
    }

    #[test]
    fn passwords_are_not_kept() {
        assert!(holds_password("ALTER ROLE a PASSWORD 'x'"));
        assert!(!holds_password("select password from t"));
    }
}
