//! Text as it is typed or read, line by line, cut into statements and backslash commands.
//!
//! A semicolon ends a statement unless it stands in quotes, a dollar quote, a comment or parentheses, as in psql. A backslash
//! outside of quotes begins a command, which reaches to the next backslash or the end of the line; behind `\\` SQL goes on. Variables
//! (`:name`, `:'name'`, `:"name"`, `:{?name}`) are put in while cutting, because they may hold anything but must not open a quote.

/// What a line of input turned out to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Statement(Statement),
    /// A backslash command, without its backslash.
    Command {
        text: String,
        line: usize,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    pub text: String,
    /// Number of the line it begins on.
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Inside {
    Plain,
    /// `'..'`; with backslash escapes for `E'..'`.
    Quote {
        escapes: bool,
    },
    Name,
    Dollar(String),
    Comment(usize),
}

/// Gives the value of a variable.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// See the module.
#[derive(Clone, Debug)]
pub struct Splitter {
    buffer: String,
    inside: Inside,
    parentheses: usize,
    /// Lines taken so far.
    lines: usize,
    begin: usize,
    /// The line that is being cut, how far it is, and what stands before that place, also over a variable that was put in.
    line: Vec<char>,
    place: usize,
    before: Option<char>,
}

/// Commands whose arguments may hold backslashes: everything to the end of the line is theirs.
const WHOLE_LINE: &[&str] = &["copy", "!", "h", "help"];

impl Default for Splitter {
    fn default() -> Splitter {
        Splitter {
            buffer: String::new(),
            inside: Inside::Plain,
            parentheses: 0,
            lines: 0,
            begin: 0,
            line: Vec::new(),
            place: 0,
            before: None,
        }
    }
}

impl Splitter {
    /// Takes the next line, without its end, and gives what is complete by it.
    pub fn line(&mut self, line: &str, variables: Variables<'_>) -> Vec<Piece> {
        self.take_line(line);
        std::iter::from_fn(|| self.next_piece(variables)).collect()
    }

    /// Takes the next line, without its end; [`Self::next_piece`] gives what is complete by it.
    pub fn take_line(&mut self, line: &str) {
        self.lines += 1;
        self.line = line.chars().collect();
        // The end of the line belongs to the statement, unless none has begun.
        self.line.push('\n');
        self.place = 0;
        self.before = None;
    }

    /// The next statement or command that ends on the line. Between two of them variables may change.
    pub fn next_piece(&mut self, variables: Variables<'_>) -> Option<Piece> {
        let characters = std::mem::take(&mut self.line);
        let piece = self.cut_piece(&characters, variables);
        self.line = characters;
        piece
    }

    fn cut_piece(&mut self, characters: &[char], variables: Variables<'_>) -> Option<Piece> {
        let mut place = self.place;
        let mut before = self.before;
        while let Some(&character) = characters.get(place) {
            let next = characters.get(place + 1).copied();
            match self.inside.clone() {
                Inside::Plain => match (character, next) {
                    ('\'', _) => {
                        let escapes = matches!(before, Some('e' | 'E'))
                            && !self.buffer.chars().rev().nth(1).is_some_and(is_word);
                        self.inside = Inside::Quote { escapes };
                    }
                    ('"', _) => self.inside = Inside::Name,
                    ('-', Some('-')) => {
                        self.take(&characters[place..]);
                        break;
                    }
                    ('/', Some('*')) => {
                        self.take(&['/', '*']);
                        self.inside = Inside::Comment(1);
                        place += 2;
                        continue;
                    }
                    ('$', _) if !before.is_some_and(is_word) => {
                        if let Some(tag) = dollar_tag(&characters[place..]) {
                            self.take(&characters[place..place + tag.chars().count()]);
                            place += tag.chars().count();
                            self.inside = Inside::Dollar(tag);
                            continue;
                        }
                    }
                    ('\\', Some(';')) => {
                        self.take(&[';']);
                        place += 2;
                        before = Some(';');
                        continue;
                    }
                    ('\\', Some('\\')) => {
                        place += 2;
                        continue;
                    }
                    ('\\', _) => {
                        let end = command_end(characters, place + 1);
                        let text: String = characters[place + 1..end].iter().collect();
                        // What follows on the line is no part of a statement that has begun.
                        self.place = end;
                        self.before = None;
                        return Some(Piece::Command { text: text.trim().to_owned(), line: self.lines });
                    }
                    (':', Some(':')) => {
                        self.take(&[':', ':']);
                        place += 2;
                        before = Some(':');
                        continue;
                    }
                    (':', _) => {
                        if let Some((value, length)) = variable(&characters[place..], variables) {
                            let value: Vec<char> = value.chars().collect();
                            self.take(&value);
                            place += length;
                            before = value.last().copied();
                            continue;
                        }
                    }
                    ('(', _) => self.parentheses += 1,
                    (')', _) => self.parentheses = self.parentheses.saturating_sub(1),
                    (';', _) if self.parentheses == 0 => {
                        self.take(&[';']);
                        place += 1;
                        before = None;
                        if let Some(statement) = self.cut() {
                            self.place = place;
                            self.before = None;
                            return Some(Piece::Statement(statement));
                        }
                        continue;
                    }
                    _ => {}
                },
                Inside::Quote { escapes } => match character {
                    '\\' if escapes => {
                        self.take(&characters[place..(place + 2).min(characters.len())]);
                        place += 2;
                        continue;
                    }
                    // A doubled quote closes and opens again, which comes to the same.
                    '\'' => self.inside = Inside::Plain,
                    _ => {}
                },
                Inside::Name => {
                    if character == '"' {
                        self.inside = Inside::Plain;
                    }
                }
                Inside::Dollar(tag) => {
                    let end: Vec<char> = tag.chars().collect();
                    if characters[place..].starts_with(&end) {
                        self.take(&end);
                        place += end.len();
                        self.inside = Inside::Plain;
                        before = Some('$');
                        continue;
                    }
                }
                Inside::Comment(depth) => match (character, next) {
                    ('*', Some('/')) => {
                        self.take(&['*', '/']);
                        self.inside = if depth == 1 { Inside::Plain } else { Inside::Comment(depth - 1) };
                        place += 2;
                        before = Some('/');
                        continue;
                    }
                    ('/', Some('*')) => {
                        self.take(&['/', '*']);
                        self.inside = Inside::Comment(depth + 1);
                        place += 2;
                        continue;
                    }
                    _ => {}
                },
            }
            self.take(&[character]);
            before = Some(character);
            place += 1;
        }
        self.place = characters.len();
        None
    }

    /// What was gathered since `kept` was copied from this one is forgotten; lines are not read again.
    pub fn go_back_to(&mut self, kept: &Splitter) {
        self.buffer.clone_from(&kept.buffer);
        self.inside = kept.inside.clone();
        self.parentheses = kept.parentheses;
        self.begin = kept.begin;
    }

    fn take(&mut self, characters: &[char]) {
        for character in characters {
            if self.buffer.is_empty() {
                if character.is_whitespace() {
                    continue;
                }
                self.begin = self.lines;
            }
            self.buffer.push(*character);
        }
    }

    /// What has been gathered, as a statement.
    fn cut(&mut self) -> Option<Statement> {
        self.inside = Inside::Plain;
        self.parentheses = 0;
        let text = std::mem::take(&mut self.buffer);
        let text = text.trim_end();
        // A lone semicolon, or comments alone, is nothing to send.
        is_something(text).then(|| Statement { text: text.to_owned(), line: self.begin })
    }

    /// The statement that has begun but not ended, taken out: at the end of the input, and for `\g`.
    pub fn rest(&mut self) -> Option<Statement> {
        self.cut()
    }

    /// Whether a statement (or a quote, a comment) has begun and not ended.
    pub fn open(&self) -> bool {
        self.inside != Inside::Plain || is_something(&self.buffer)
    }

    /// Whether the end of the input would cut off a quote or a comment: what it is.
    pub fn unterminated(&self) -> Option<&'static str> {
        match self.inside {
            Inside::Plain => None,
            Inside::Quote { .. } => Some("quoted string"),
            Inside::Name => Some("quoted identifier"),
            Inside::Dollar(_) => Some("dollar-quoted string"),
            Inside::Comment(_) => Some("comment"),
        }
    }

    /// What has been gathered so far, for `\p`.
    pub fn gathered(&self) -> &str {
        self.buffer.trim_end()
    }

    /// Lines are counted here; those that went elsewhere (data of a COPY) are reported.
    pub fn skip_lines(&mut self, count: usize) {
        self.lines += count;
    }
}

/// Where the command that begins at `start`, behind its backslash, ends.
fn command_end(characters: &[char], start: usize) -> usize {
    let name_end = match characters.get(start) {
        Some('!' | '?') => start + 1,
        _ => (start..characters.len())
            .find(|place| characters[*place].is_whitespace() || matches!(characters[*place], '(' | '\\'))
            .unwrap_or(characters.len()),
    };
    let name: String = characters[start..name_end].iter().collect();
    let arguments = (name_end..characters.len()).find(|place| !characters[*place].is_whitespace());
    let piped = arguments.is_some_and(|place| characters[place] == '|');
    if WHOLE_LINE.contains(&name.as_str()) || piped {
        return characters.len();
    }
    let mut quote = None;
    let mut place = name_end;
    while let Some(&character) = characters.get(place) {
        match (quote, character) {
            (None, '\\') => return place,
            (None, '\'' | '"') => quote = Some(character),
            (Some('\''), '\\') => place += 1,
            (Some(open), _) if open == character => quote = None,
            _ => {}
        }
        place += 1;
    }
    characters.len()
}

pub fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_' || character == '$'
}

/// `$tag$` at the beginning of the text.
fn dollar_tag(characters: &[char]) -> Option<String> {
    let end = characters.iter().skip(1).position(|character| *character == '$')? + 1;
    let tag = &characters[1..end];
    let starts_well = tag.first().is_none_or(|first| !first.is_ascii_digit());
    (starts_well && tag.iter().all(|character| character.is_alphanumeric() || *character == '_'))
        .then(|| characters[..=end].iter().collect())
}

/// A variable at the beginning of the text: what stands for it, and how many characters it takes. Unknown ones stay as they are.
fn variable(characters: &[char], variables: Variables<'_>) -> Option<(String, usize)> {
    if characters.get(1..3) == Some(&['{', '?']) {
        let end = characters.iter().position(|character| *character == '}')?;
        let name: String = characters[3..end].iter().collect();
        let known = if variables(&name).is_some() { "TRUE" } else { "FALSE" };
        return Some((known.to_owned(), end + 1));
    }
    let quote = characters.get(1).copied().filter(|quote| matches!(quote, '\'' | '"'));
    let start = if quote.is_some() { 2 } else { 1 };
    let name: String = characters[start.min(characters.len())..]
        .iter()
        .take_while(|character| character.is_alphanumeric() || **character == '_')
        .collect();
    if name.is_empty() {
        return None;
    }
    let length = start + name.chars().count();
    match quote {
        None => Some((variables(&name)?, length)),
        Some(quote) if characters.get(length) == Some(&quote) => {
            let value = variables(&name)?;
            let text = if quote == '"' { quoted(&value, '"') } else { literal(&value) };
            Some((text, length + 1))
        }
        Some(_) => None,
    }
}

/// A text as an SQL literal.
pub fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        quoted(text, '\'')
    }
}

fn quoted(text: &str, quote: char) -> String {
    let doubled: String = [quote, quote].iter().collect();
    format!("{quote}{}{quote}", text.replace(quote, &doubled))
}

/// Whether there is more than blanks, comments and semicolons.
fn is_something(text: &str) -> bool {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
        } else if rest.starts_with("/*") {
            let Some(length) = comment_length(rest) else { return true };
            rest = &rest[length..];
        } else {
            return !rest.is_empty();
        }
    }
}

fn comment_length(text: &str) -> Option<usize> {
    let (mut depth, mut place) = (0usize, 0);
    let bytes = text.as_bytes();
    while place + 1 < bytes.len() {
        match (bytes[place], bytes[place + 1]) {
            (b'/', b'*') => {
                depth += 1;
                place += 2;
            }
            (b'*', b'/') => {
                depth -= 1;
                place += 2;
                if depth == 0 {
                    return Some(place);
                }
            }
            _ => place += 1,
        }
    }
    None
}

/// The arguments of a command: words, `'..'` with doubled quotes and backslash escapes, `"..."` kept for names.
pub fn arguments(text: &str, variables: Variables<'_>) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut current: Option<String> = None;
    let mut place = 0;
    while let Some(&character) = characters.get(place) {
        if character.is_whitespace() {
            found.extend(current.take());
            place += 1;
            continue;
        }
        let word = current.get_or_insert_default();
        match character {
            '\'' => {
                place += 1;
                while let Some(&character) = characters.get(place) {
                    place += 1;
                    match (character, characters.get(place)) {
                        ('\'', Some('\'')) => {
                            word.push('\'');
                            place += 1;
                        }
                        ('\'', _) => break,
                        ('\\', Some(escaped)) => {
                            word.push(match escaped {
                                'n' => '\n',
                                't' => '\t',
                                other => *other,
                            });
                            place += 1;
                        }
                        _ => word.push(character),
                    }
                }
                continue;
            }
            '"' => {
                word.push('"');
                place += 1;
                while let Some(&character) = characters.get(place) {
                    word.push(character);
                    place += 1;
                    if character == '"' {
                        break;
                    }
                }
                continue;
            }
            ':' => {
                if let Some((value, length)) = variable(&characters[place..], variables) {
                    word.push_str(&value);
                    place += length;
                    continue;
                }
                word.push(':');
            }
            other => word.push(other),
        }
        place += 1;
    }
    found.extend(current);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<(usize, String)> {
        let variables = |name: &str| (name == "v").then(|| "it's".to_owned());
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        let mut add = |piece| match piece {
            Piece::Statement(statement) => found.push((statement.line, statement.text)),
            Piece::Command { text, line } => found.push((line, format!("\\{text}"))),
        };
        for line in text.lines() {
            splitter.line(line, &variables).into_iter().for_each(&mut add);
        }
        splitter.rest().map(Piece::Statement).into_iter().for_each(&mut add);
        found
    }

    #[test]
    fn statements_end_at_semicolons_outside_of_everything() {
        for (text, expected) in [
            ("select 1; select 2", vec![(1, "select 1;"), (1, "select 2")]),
            ("\n\n  select\n1;\n", vec![(3, "select\n1;")]),
            ("select ';', E'\\';', ';' ;", vec![(1, "select ';', E'\\';', ';' ;")]),
            ("select 'a\\';select 2;", vec![(1, "select 'a\\';"), (1, "select 2;")]),
            ("select \";\";", vec![(1, "select \";\";")]),
            ("select $$;$$, $a$;$$;$a$; x", vec![(1, "select $$;$$, $a$;$$;$a$;"), (1, "x")]),
            ("select $1;x$y;", vec![(1, "select $1;"), (1, "x$y;")]),
            ("a /* ; /* ; */ ; */ b; -- c;\nd;", vec![(1, "a /* ; /* ; */ ; */ b;"), (1, "-- c;\nd;")]),
            ("-- only\n;;\n/* comments */", vec![]),
            ("f(a; b); c", vec![(1, "f(a; b);"), (1, "c")]),
            ("select 1\\; select 2;", vec![(1, "select 1; select 2;")]),
            ("\\d x\nselect 1 \\gx\n", vec![(1, "\\d x"), (2, "\\gx"), (2, "select 1")]),
            (
                "\\x \\echo 'a\\'b' c\\\\ select 1;",
                vec![(1, "\\x"), (1, "\\echo 'a\\'b' c"), (1, "select 1;")],
            ),
            ("\\copy t from f delimiter E'\\t'", vec![(1, "\\copy t from f delimiter E'\\t'")]),
            ("select 1 \\g | grep '\\.'", vec![(1, "\\g | grep '\\.'"), (1, "select 1")]),
            ("select :{?v}, :{?w};", vec![(1, "select TRUE, FALSE;")]),
            (
                "select :v, :'v', :\"v\", ':v', x::v, :w, a[1:2];",
                vec![(1, "select it's, 'it''s', \"it's\", ':v', x::v, :w, a[1:2];")],
            ),
        ] {
            let got = cut(text);
            let expected: Vec<(usize, String)> =
                expected.into_iter().map(|(line, text)| (line, text.to_owned())).collect();
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn what_is_open_is_known() {
        for (text, open, unterminated) in [
            ("", false, None),
            ("select 1", true, None),
            ("select 1;", false, None),
            ("-- x", false, None),
            ("select '", true, Some("quoted string")),
            ("/* x", true, Some("comment")),
            ("select $a$ $$", true, Some("dollar-quoted string")),
        ] {
            let mut splitter = Splitter::default();
            splitter.line(text, &|_| None);
            assert_eq!((splitter.open(), splitter.unterminated()), (open, unterminated), "{text}");
        }
    }

    #[test]
    fn arguments_of_commands() {
        let none = |_: &str| None;
        assert_eq!(arguments("a  'b c' d''e \"x y\".z", &none), ["a", "b c", "de", "\"x y\".z"]);
        assert_eq!(arguments("'it''s\\n'", &none), ["it's\n"]);
        assert_eq!(arguments(":v x:v", &|_| Some("1".to_owned())), ["1", "x1"]);
        assert!(arguments("  ", &none).is_empty());
    }
}
