//! `startdb sql`: a shell for people and a runner of scripts, over the wire like every other client.
//!
//! [`Shell`] holds the session and how results are shown. A line goes `input` -> statement or command -> `client` -> `output`;
//! `command` is the backslash commands, `describe` what they ask the catalogs, `editor` and `complete` the interactive part. Scripts,
//! `-c` and the first start's initdb.d go the same way with another source of lines.

mod client;
mod command;
mod complete;
mod condition;
mod describe;
mod editor;
mod input;
mod output;
mod screen;
mod target;
mod tls;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub use client::{Client, Failure, Rows};
use client::{Event, Report};
use condition::Conditions;
use editor::{Editor, Line};
use input::{Piece, Splitter};
pub use output::Format;
use output::{Style, Table};
use screen::{Redirect, Screen};
pub use target::{Endpoint, Host, SslMode, Surroundings, Target};

/// A statement that takes longer than this shows that it runs.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);
/// Scripts that include themselves end here.
const DEEPEST_INCLUDE: usize = 64;

/// Exit codes, as documented in `startdb sql --help`.
pub mod exit {
    pub const USAGE: u8 = 1;
    pub const CONNECTION: u8 = 2;
    pub const STATEMENT: u8 = 3;
    pub const INTERRUPTED: u8 = 130;
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Action {
    /// `-c`
    Command(String),
    /// `-f`
    File(PathBuf),
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub target: Option<String>,
    pub data_dir: PathBuf,
    pub actions: Vec<Action>,
    pub format: Option<Format>,
    pub quiet: bool,
    pub single_transaction: bool,
    pub tuples_only: bool,
    pub variables: Vec<(String, String)>,
}

/// What went wrong was reported already; this says how the process ends if it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop(pub u8);

type Outcome = Result<(), Stop>;

/// Runs `startdb sql`; gives the exit code.
pub fn run(options: Options) -> u8 {
    match start(options) {
        Ok(()) => 0,
        Err(Stop(code)) => code,
    }
}

fn start(options: Options) -> Outcome {
    let around =
        Surroundings { variable: &|name| std::env::var(name).ok(), data_dir: options.data_dir.clone() };
    let target = Target::resolve(options.target.as_deref(), &around).map_err(|error| {
        eprintln!("startdb sql: {error}");
        Stop(exit::USAGE)
    })?;
    let interactive = options.actions.is_empty() && io::stdin().is_terminal();
    let client = Client::connect(&target, &mut ask_password).map_err(|failure| {
        report_connection(&failure, &target);
        Stop(exit::CONNECTION)
    })?;
    client::watch_interrupts(!interactive).map_err(|error| {
        eprintln!("startdb sql: Ctrl-C cannot be watched: {error}");
        Stop(exit::USAGE)
    })?;
    let mut shell = Shell::new(client);
    shell.interactive = interactive;
    shell.quiet = options.quiet;
    shell.style.tuples_only = options.tuples_only;
    shell.variables.extend(options.variables.iter().cloned());
    if let Some(format) = options.format {
        shell.style.format = format;
    }
    if interactive {
        return shell.converse();
    }
    if options.single_transaction {
        shell.execute("BEGIN", &Place::default(), &mut NoLines)?;
    }
    if options.actions.is_empty() {
        shell.script(Box::new(io::stdin()), "<stdin>")?;
    }
    for action in &options.actions {
        match action {
            Action::Command(text) => shell.argument(text)?,
            Action::File(file) => shell.file(file)?,
        }
    }
    if options.single_transaction {
        shell.execute("COMMIT", &Place::default(), &mut NoLines)?;
    }
    shell.close_output()
}

/// Asks on the terminal; nobody is asked when there is none.
fn ask_password(user: &str) -> Option<String> {
    // The terminal itself is used, so that a script may come from the standard input.
    File::options().read(true).write(true).open("/dev/tty").ok()?;
    rpassword::prompt_password(format!("Password for user {user}: ")).ok()
}

fn report_connection(failure: &Failure, target: &Target) {
    eprintln!("startdb sql: {failure}");
    if let (Failure::Lost(text), [endpoint]) = (failure, target.endpoints.as_slice()) {
        if text.starts_with("could not connect") && text.contains("refused") {
            eprintln!("  hint: Is a server running there? Start one with: startdb start");
        } else if text.contains("none was given") {
            eprintln!("  hint: Set PGPASSWORD, or keep the password in ~/.pgpass ({}).", endpoint.shown());
        }
    }
}

/// Where a piece of a script stands.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The script's name; none for what a person types.
    name: Option<String>,
    line: usize,
}

/// Where a COPY FROM STDIN finds its data.
trait Lines {
    /// The next line with its end; none at the end of the input.
    fn data_line(&mut self) -> io::Result<Option<Vec<u8>>>;
}

struct NoLines;

impl Lines for NoLines {
    fn data_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

/// Lines of a script.
struct Script {
    reader: BufReader<Box<dyn Read>>,
    taken: usize,
}

impl Lines for Script {
    fn data_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        if self.reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        self.taken += 1;
        Ok(Some(line))
    }
}

impl Lines for Editor {
    fn data_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.read(">> ", true) {
            Ok(Line::Text(text)) => Ok(Some((text + "\n").into_bytes())),
            Ok(Line::End) => Ok(None),
            Ok(Line::Interrupted) => Err(io::ErrorKind::Interrupted.into()),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// The running of a statement as the progress line sees it.
#[derive(Default)]
struct Progress {
    shown: AtomicBool,
    rows: AtomicU64,
    wanted: AtomicBool,
}

impl Progress {
    fn tick(&self, elapsed: Duration) {
        if !self.wanted.load(Ordering::Relaxed) || elapsed < PROGRESS_AFTER {
            return;
        }
        let rows = match self.rows.load(Ordering::Relaxed) {
            0 => String::new(),
            rows => format!(", {rows} rows so far"),
        };
        self.shown.store(true, Ordering::Relaxed);
        eprint!("\r\x1b[Krunning for {:.1} s{rows} (Ctrl-C cancels)", elapsed.as_secs_f64());
    }

    fn clear(&self) {
        if self.shown.swap(false, Ordering::Relaxed) {
            eprint!("\r\x1b[K");
        }
    }
}

pub struct Shell {
    client: Option<Client>,
    /// To connect again when the connection is lost.
    target: Target,
    style: Style,
    timing: bool,
    quiet: bool,
    interactive: bool,
    variables: BTreeMap<String, String>,
    last_query: String,
    last_error: Option<Report>,
    redirect: Option<Redirect>,
    screen_size: Option<(usize, usize)>,
    progress: Arc<Progress>,
    /// Scripts that are being read, the innermost last.
    scripts: Vec<PathBuf>,
    /// Of the script that is being read, or of what is typed.
    conditions: Conditions,
    /// Names of the catalog may have changed since the editor learned them.
    catalog_stale: bool,
    ended: bool,
    /// Rows go here instead of the output while this is set.
    collected: Option<Rows>,
}

impl Shell {
    pub fn new(client: Client) -> Shell {
        let progress = Arc::new(Progress::default());
        let target = client.target().clone();
        let mut shell = Shell {
            client: None,
            target,
            style: Style::default(),
            timing: false,
            quiet: false,
            interactive: false,
            variables: BTreeMap::new(),
            last_query: String::new(),
            last_error: None,
            redirect: None,
            screen_size: None,
            progress,
            scripts: Vec::new(),
            conditions: Conditions::default(),
            catalog_stale: true,
            ended: false,
            collected: None,
        };
        shell.adopt(client);
        shell
    }

    /// Less is said: no command tags.
    pub fn set_quiet(&mut self) {
        self.quiet = true;
    }

    fn adopt(&mut self, mut client: Client) {
        let progress = self.progress.clone();
        client.watcher = Some(Box::new(move |elapsed| progress.tick(elapsed)));
        self.target = client.target().clone();
        self.client = Some(client);
        self.catalog_stale = true;
    }

    /// The session, or a report that there is none.
    fn client(&mut self) -> Result<&mut Client, Stop> {
        if self.client.is_none() {
            eprintln!("You are currently not connected to a database; \\c connects again.");
        }
        self.client.as_mut().ok_or(Stop(exit::CONNECTION))
    }

    // -- reading ------------------------------------------------------------------------------------------------------------

    /// With a person, until they leave.
    fn converse(mut self) -> Outcome {
        let terminal = std::env::var("TERM").unwrap_or_default();
        let colours =
            std::env::var_os("NO_COLOR").is_none() && terminal != "dumb" && io::stdout().is_terminal();
        let history = match std::env::var_os("STARTDB_HISTORY") {
            Some(file) if file.is_empty() => None,
            Some(file) => Some(PathBuf::from(file)),
            None => std::env::var_os("HOME").map(|home| Path::new(&home).join(".startdb_history")),
        };
        let mut editor = Editor::new(colours, history).map_err(|error| {
            eprintln!("startdb sql: {error}");
            Stop(exit::USAGE)
        })?;
        self.timing = true;
        self.progress.wanted.store(io::stderr().is_terminal(), Ordering::Relaxed);
        if !self.quiet
            && let Some(client) = &self.client
        {
            let tls = client.encryption().map(|tls| format!(" over {tls}")).unwrap_or_default();
            println!(
                "startdb {} connected to {} ({}){tls}\nType SQL, \\? for commands, \\q to leave.",
                env!("CARGO_PKG_VERSION"),
                client.endpoint().shown(),
                client.parameter("server_version"),
            );
        }
        let mut splitter = Splitter::default();
        while !self.ended {
            self.refresh(&mut editor);
            let prompt = self.prompt(splitter.open());
            let text = match editor.read(&prompt, splitter.open()) {
                Ok(Line::Text(text)) => text,
                Ok(Line::Interrupted) => {
                    splitter = Splitter::default();
                    if self.conditions.escape() {
                        eprintln!("\\if: escaped");
                    }
                    continue;
                }
                Ok(Line::End) => {
                    println!("\\q");
                    break;
                }
                Err(error) => {
                    eprintln!("startdb sql: {error}");
                    return Err(Stop(exit::USAGE));
                }
            };
            editor.remember(&text);
            // A Ctrl-C from before belongs to nothing that is to come.
            client::interrupted();
            if is_farewell(&text) && !splitter.open() {
                break;
            }
            if text.trim() == "help" && !splitter.open() {
                println!(
                    "Type SQL, ended by a semicolon; \\? lists the commands, \\h the syntax of SQL commands, \\q leaves."
                );
                continue;
            }
            for line in text.split('\n') {
                self.line(line, &mut splitter, &Place::default(), &mut editor, true)?;
                if self.ended {
                    break;
                }
            }
        }
        self.close_output()
    }

    /// What the screen and the catalog are now, for the editor.
    fn refresh(&mut self, editor: &mut Editor) {
        self.screen_size = editor.screen();
        self.style.screen = self.screen_size.map(|(columns, _)| columns);
        if !self.catalog_stale {
            return;
        }
        if let Some(client) = self.client.as_mut().filter(|client| client.status() == b'I') {
            self.catalog_stale = false;
            let watcher = client.watcher.take();
            // Without rights to the catalogs there is nothing to offer, which is no error of what the person does.
            if let Ok(catalog) = complete::Catalog::load(client) {
                editor.set_catalog(catalog);
            }
            client.watcher = watcher;
        }
    }

    fn prompt(&self, open: bool) -> String {
        let Some(client) = &self.client else { return "startdb[not connected]> ".to_owned() };
        if !self.conditions.active() {
            return format!("startdb[{}]@> ", client.target().database);
        }
        let transaction = match client.status() {
            b'T' => "*",
            b'E' => "!",
            _ => "",
        };
        let database = &client.target().database;
        format!("startdb[{database}]{transaction}{} ", if open { "->" } else { ">" })
    }

    /// One line from any source. With `carry_on` an error ends the line, not the run.
    fn line(
        &mut self,
        line: &str,
        splitter: &mut Splitter,
        place: &Place,
        lines: &mut dyn Lines,
        carry_on: bool,
    ) -> Outcome {
        splitter.take_line(line);
        loop {
            let (variables, active) = (&self.variables, self.conditions.active());
            let variable = |name: &str| variables.get(name).filter(|_| active).cloned();
            let Some(piece) = splitter.next_piece(&variable) else { break };
            let outcome = match piece {
                Piece::Statement(_) if !active => {
                    if self.interactive {
                        eprintln!("query ignored; use \\endif or Ctrl-C to leave the \\if");
                    }
                    Ok(())
                }
                Piece::Statement(statement) => {
                    let place = Place { line: statement.line, ..place.clone() };
                    self.last_query.clone_from(&statement.text);
                    self.execute(&statement.text, &place, lines)
                }
                Piece::Command { text, line } => {
                    let place = Place { line, ..place.clone() };
                    command::run(self, &text, splitter, &place, lines)
                }
            };
            match outcome {
                Ok(()) => {}
                Err(_) if carry_on => break,
                Err(Stop(exit::STATEMENT)) if self.goes_on_after_errors() => {}
                Err(stop) => return Err(stop),
            }
            if self.ended {
                break;
            }
        }
        Ok(())
    }

    /// Scripts stop at the first error, unless they say otherwise in psql's words.
    fn goes_on_after_errors(&self) -> bool {
        let set = self.variables.get("ON_ERROR_STOP").map(|text| text.to_lowercase());
        matches!(set.as_deref(), Some("off" | "0" | "false" | "no"))
    }

    /// A file, or the standard input for `-`.
    pub fn file(&mut self, file: &Path) -> Outcome {
        if file == Path::new("-") {
            return self.script(Box::new(io::stdin()), "<stdin>");
        }
        let failed = |error: io::Error| {
            eprintln!("startdb sql: {}: {error}", file.display());
            Stop(exit::USAGE)
        };
        if self.scripts.len() >= DEEPEST_INCLUDE {
            eprintln!("startdb sql: {}: scripts include each other too deeply", file.display());
            return Err(Stop(exit::USAGE));
        }
        let reader = File::open(file).map_err(failed)?;
        if reader.metadata().map_err(failed)?.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        self.scripts.push(file.to_owned());
        let outcome = self.script(Box::new(reader), &file.display().to_string());
        self.scripts.pop();
        outcome
    }

    /// A script that is read from elsewhere (decompressed, say) but known as that file.
    pub fn run_script(&mut self, reader: Box<dyn Read>, file: &Path) -> Outcome {
        self.scripts.push(file.to_owned());
        let outcome = self.script(reader, &file.display().to_string());
        self.scripts.pop();
        outcome.and_then(|()| self.close_output())
    }

    /// A script to its end, or to its first error.
    pub fn script(&mut self, reader: Box<dyn Read>, name: &str) -> Outcome {
        let mut script = Script { reader: BufReader::with_capacity(64 << 10, reader), taken: 0 };
        let outer = std::mem::take(&mut self.conditions);
        let outcome = self.script_lines(&mut script, name);
        let unfinished = !self.conditions.is_empty();
        self.conditions = outer;
        if unfinished && outcome.is_ok() && !self.ended {
            eprintln!("{name}:{}: ERROR: the file ends before \\endif", script.taken);
            return Err(Stop(exit::STATEMENT));
        }
        outcome
    }

    fn script_lines(&mut self, script: &mut Script, name: &str) -> Outcome {
        let mut splitter = Splitter::default();
        let place = Place { name: Some(name.to_owned()), line: 0 };
        loop {
            let before = script.taken;
            let line = script.data_line().map_err(|error| {
                eprintln!("{name}:{}: {error}", before + 1);
                Stop(exit::USAGE)
            })?;
            let Some(line) = line else { break };
            let text = std::str::from_utf8(&line).map_err(|_| {
                eprintln!("{name}:{}: ERROR: the line is not UTF-8", script.taken);
                Stop(exit::STATEMENT)
            })?;
            let text = text.trim_end_matches(['\n', '\r']);
            let text = if script.taken == 1 { text.trim_start_matches('\u{feff}') } else { text };
            let text = text.to_owned();
            let taken = script.taken;
            self.line(&text, &mut splitter, &place, script, false)?;
            splitter.skip_lines(script.taken - taken);
            if self.ended {
                return Ok(());
            }
        }
        if let Some(what) = splitter.unterminated() {
            let line = splitter.rest().map_or(script.taken, |statement| statement.line);
            eprintln!("{name}:{line}: ERROR: the {what} of the statement that begins here is not closed");
            return Err(Stop(exit::STATEMENT));
        }
        match splitter.rest() {
            Some(statement) if self.conditions.active() => {
                let place = Place { line: statement.line, ..place };
                self.last_query.clone_from(&statement.text);
                self.execute(&statement.text, &place, script)
            }
            _ => Ok(()),
        }
    }

    /// The text of `-c`: one command, or statements that are sent as one string, in one transaction, as psql does.
    fn argument(&mut self, text: &str) -> Outcome {
        let mut stdin = Script { reader: BufReader::new(Box::new(io::stdin())), taken: 0 };
        if text.trim_start().starts_with('\\') {
            let mut splitter = Splitter::default();
            for line in text.lines() {
                self.line(line, &mut splitter, &Place::default(), &mut stdin, false)?;
            }
            return Ok(());
        }
        self.last_query = text.to_owned();
        self.execute(text, &Place::default(), &mut stdin)
    }

    // -- running ------------------------------------------------------------------------------------------------------------

    /// Sends a string and shows all that comes back.
    fn execute(&mut self, text: &str, place: &Place, lines: &mut dyn Lines) -> Outcome {
        self.client()?;
        let Some(mut client) = self.client.take() else { return Err(Stop(exit::CONNECTION)) };
        client::set_running(true);
        let ran = self.conduct(&mut client, text, place, lines);
        client::set_running(false);
        self.progress.clear();
        self.progress.rows.store(0, Ordering::Relaxed);
        match ran {
            Ok(outcome) => {
                self.client = Some(client);
                outcome
            }
            Err(failure) => {
                let prefix = prefix(place, 0);
                eprintln!("{prefix}{failure}");
                drop(client);
                if self.interactive {
                    self.reconnect();
                }
                Err(Stop(exit::CONNECTION))
            }
        }
    }

    /// The server may have been started anew in between; one attempt is made.
    fn reconnect(&mut self) {
        let target = self.target.clone();
        match Client::connect(&target, &mut ask_password) {
            Ok(client) => {
                eprintln!(
                    "The connection was made again; settings and transactions of the old session are gone."
                );
                self.adopt(client);
            }
            Err(failure) => eprintln!("A new connection failed: {failure}\n\\c tries again."),
        }
    }

    fn conduct(
        &mut self,
        client: &mut Client,
        text: &str,
        place: &Place,
        lines: &mut dyn Lines,
    ) -> Result<Outcome, Failure> {
        client.query(text)?;
        let style = self.style.clone();
        let mut table: Option<Table<'_>> = None;
        let mut screen = Screen::new(self.screen_size.filter(|_| self.interactive));
        let mut outcome = Ok(());
        let mut given_up = false;
        loop {
            let event = client.event()?;
            if !matches!(event, Event::Row(_)) {
                self.progress.clear();
            }
            let mut written = Ok(());
            match event {
                Event::Columns(columns) => {
                    if let Some(collected) = &mut self.collected {
                        *collected = Rows { columns: columns.clone(), rows: Vec::new() };
                    }
                    table = Some(Table::new(&style, columns));
                }
                Event::Row(row) => {
                    self.progress.rows.fetch_add(1, Ordering::Relaxed);
                    if let Some(collected) = &mut self.collected {
                        let text = |value: &Option<bytes::Bytes>| {
                            value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned())
                        };
                        collected.rows.push(row.iter().map(text).collect());
                    } else if let (Some(table), false) = (&mut table, given_up) {
                        written = table.row(row, self.out(&mut screen));
                    }
                }
                Event::Complete(tag) => {
                    let note = if self.timing {
                        format!("  OK ({})", duration(client.elapsed()))
                    } else {
                        String::new()
                    };
                    if !tag.starts_with("SELECT") && self.interactive {
                        self.catalog_stale |= changes_names(&tag);
                    }
                    match table.take() {
                        Some(table) if self.collected.is_none() && !given_up => {
                            let out = self.out(&mut screen);
                            written = table.finish(&note, out);
                            // RETURNING gives rows and has changed some.
                            let changed = ["INSERT", "UPDATE", "DELETE", "MERGE"]
                                .iter()
                                .any(|verb| tag.starts_with(verb));
                            if changed && style.format.for_people() && !style.tuples_only && !self.quiet {
                                written = written.and_then(|()| writeln!(self.out(&mut screen), "{tag}"));
                            }
                        }
                        Some(_) => {}
                        None if self.collected.is_some() || self.quiet || self.style.tuples_only => {}
                        None if self.style.format.for_people() => {
                            written = writeln!(self.out(&mut screen), "{tag}{note}");
                        }
                        None if self.interactive => eprintln!("{tag}{note}"),
                        None => {}
                    }
                }
                // The cancel that the output's end asked for.
                Event::Error(_) if given_up => table = None,
                Event::Error(report) => {
                    // What was shown before the error comes before it.
                    let shown = std::mem::replace(&mut screen, Screen::new(None));
                    if let Err(error) = shown.finish() {
                        eprintln!("startdb sql: the output failed: {error}");
                    }
                    table = None;
                    self.report(&report, text, place);
                    outcome =
                        Err(Stop(if client.take_cancelled() { exit::INTERRUPTED } else { exit::STATEMENT }));
                    self.last_error = Some(*report);
                }
                Event::Notice(report) => self.notice(&report, place),
                Event::Notification { channel, payload, process } => {
                    let payload =
                        if payload.is_empty() { payload } else { format!(" with payload \"{payload}\"") };
                    eprintln!(
                        "Asynchronous notification \"{channel}\"{payload} received from server process with PID {process}."
                    );
                }
                Event::CopyIn => send_lines(client, lines)?,
                Event::CopyOut | Event::CopyDone | Event::Empty => {}
                Event::CopyData(data) if !given_up => written = self.out(&mut screen).write_all(&data),
                Event::CopyData(_) => {}
                Event::Ready => break,
            }
            if let Err(error) = written
                && !given_up
            {
                // The reader of the output has gone: the rest is not wanted.
                given_up = true;
                if error.kind() != io::ErrorKind::BrokenPipe {
                    eprintln!("startdb sql: the output failed: {error}");
                    outcome = Err(Stop(exit::USAGE));
                } else if !self.interactive {
                    outcome = Err(Stop(exit::USAGE));
                }
                client.cancel()?;
            }
        }
        client.take_cancelled();
        if let Err(error) = screen.finish()
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            eprintln!("startdb sql: the output failed: {error}");
            outcome = outcome.and(Err(Stop(exit::USAGE)));
        }
        Ok(outcome)
    }

    fn out<'a>(&'a mut self, screen: &'a mut Screen) -> &'a mut dyn Write {
        match &mut self.redirect {
            Some(redirect) => redirect,
            None => screen,
        }
    }

    fn close_output(&mut self) -> Outcome {
        match self.redirect.take().map(Redirect::close) {
            Some(Err(error)) => {
                eprintln!("startdb sql: the output failed: {error}");
                Err(Stop(exit::USAGE))
            }
            _ => Ok(()),
        }
    }

    /// Runs a query and keeps its rows instead of showing them.
    fn collect(&mut self, text: &str, place: &Place, lines: &mut dyn Lines) -> Result<Rows, Stop> {
        self.collected = Some(Rows::default());
        let outcome = self.execute(text, place, lines);
        let rows = self.collected.take().unwrap_or_default();
        outcome.map(|()| rows)
    }

    /// Shows a text that is a command's whole output.
    fn say(&mut self, text: &str) -> Outcome {
        let mut screen = Screen::new(self.screen_size.filter(|_| self.interactive));
        let written = self.out(&mut screen).write_all(text.as_bytes());
        if let Err(error) = written.and_then(|()| screen.finish())
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            eprintln!("startdb sql: the output failed: {error}");
            return Err(Stop(exit::USAGE));
        }
        Ok(())
    }

    // -- errors -------------------------------------------------------------------------------------------------------------

    /// An error with the place it points to: the line, a caret below it, detail and hint.
    fn report(&self, report: &Report, text: &str, place: &Place) {
        let excerpt =
            report.position().and_then(|position| excerpt(text, position, self.style.screen.unwrap_or(100)));
        let line = excerpt.as_ref().map_or(0, |excerpt| excerpt.line);
        let mut message = format!(
            "{}{} {}: {}",
            prefix(place, line),
            report.severity(),
            report.state(),
            output::printable(report.message())
        );
        if let Some(excerpt) = excerpt {
            let label = format!("LINE {}: ", excerpt.line + 1);
            message.push_str(&format!(
                "\n{label}{}\n{}^",
                excerpt.text,
                " ".repeat(label.len() + excerpt.column)
            ));
        }
        for (label, text) in
            [("DETAIL", report.detail()), ("HINT", report.hint()), ("CONTEXT", report.context())]
        {
            if !text.is_empty() {
                message.push_str(&format!("\n{label}:  {text}"));
            }
        }
        eprintln!("{message}");
    }

    fn notice(&self, report: &Report, place: &Place) {
        let mut message =
            format!("{}{}:  {}", prefix(place, 0), report.severity(), output::printable(report.message()));
        for (label, text) in [("DETAIL", report.detail()), ("HINT", report.hint())] {
            if !text.is_empty() {
                message.push_str(&format!("\n{label}:  {text}"));
            }
        }
        eprintln!("{message}");
    }
}

/// What people type who do not know `\q` yet.
fn is_farewell(text: &str) -> bool {
    matches!(text.trim().trim_end_matches(';'), "exit" | "quit")
}

/// `file:line: ` for scripts, nothing for people; `within` is the line inside the statement.
fn prefix(place: &Place, within: usize) -> String {
    match &place.name {
        Some(name) => format!("{name}:{}: ", place.line + within),
        None => String::new(),
    }
}

/// Whether a statement of that tag may have made or removed names.
fn changes_names(tag: &str) -> bool {
    ["CREATE", "DROP", "ALTER", "ROLLBACK", "COMMIT", "SET"].iter().any(|start| tag.starts_with(start))
}

/// The line of a statement that an error points to.
struct Excerpt {
    /// From 0, within the statement.
    line: usize,
    text: String,
    /// Screen columns before the caret.
    column: usize,
}

fn excerpt(text: &str, position: usize, screen: usize) -> Option<Excerpt> {
    let place = text.char_indices().nth(position - 1).map_or(text.len(), |(place, _)| place);
    let start = text[..place].rfind('\n').map_or(0, |end| end + 1);
    let end = text[place..].find('\n').map_or(text.len(), |length| place + length);
    let line = text[..start].matches('\n').count();
    let (before, after) = (output::printable(&text[start..place]), output::printable(&text[place..end]));
    // A long line is cut so that the caret stays on the screen.
    let room = screen.saturating_sub(16).max(40);
    let mut shown = String::new();
    let mut column = output::width(&before);
    if column > room / 2 && column + output::width(&after) > room {
        let mut kept: Vec<char> = before.chars().rev().take(room / 2).collect();
        kept.reverse();
        shown.push_str("...");
        shown.extend(kept);
        column = output::width(&shown);
    } else {
        shown.push_str(&before);
    }
    for (width, character) in (column..).zip(after.chars()) {
        if width >= room {
            shown.push_str("...");
            break;
        }
        shown.push(character);
    }
    Some(Excerpt { line, text: shown, column })
}

/// As people read it: `2.3 ms`, `1.25 s`, `3 min 4 s`.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1000.0)
    } else if seconds < 60.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

/// Data for COPY FROM STDIN: lines up to `\.` or the end of the input.
fn send_lines(client: &mut Client, lines: &mut dyn Lines) -> Result<(), Failure> {
    let mut gathered = Vec::new();
    loop {
        match lines.data_line() {
            Ok(Some(line)) if matches!(line.as_slice(), b"\\.\n" | b"\\.\r\n" | b"\\.") => break,
            Ok(Some(line)) => {
                gathered.extend_from_slice(&line);
                if gathered.len() > 60 << 10 {
                    client.copy_data(&gathered)?;
                    gathered.clear();
                }
            }
            Ok(None) => break,
            Err(error) => return client.copy_fail(&format!("canceled by user: {error}")),
        }
    }
    client.copy_data(&gathered)?;
    client.copy_done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_point_at_the_character() {
        let text = "select 1,\n\tfrom x";
        let found = excerpt(text, 12, 80).expect("a place");
        assert_eq!((found.line, found.text.as_str(), found.column), (1, "        from x", 8));
        let found = excerpt("select", 7, 80).expect("a place");
        assert_eq!((found.line, found.column), (0, 6));
        let long = format!("select {}, nothing, {}", "a".repeat(200), "b".repeat(200));
        let found = excerpt(&long, 210, 80).expect("a place");
        assert!(found.text.starts_with("...") && found.text.ends_with("..."), "{}", found.text);
        assert_eq!(found.text.chars().nth(found.column), Some('n'));
    }

    #[test]
    fn times_for_people() {
        assert_eq!(duration(Duration::from_micros(2345)), "2.3 ms");
        assert_eq!(duration(Duration::from_millis(1250)), "1.25 s");
        assert_eq!(duration(Duration::from_secs(184)), "3 min 4 s");
    }
}
