//! Backslash commands. One row of [`COMMANDS`] is a command's name, its arguments, what `\?` says about it, and what it does; to
//! add one, add a row.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use super::client::{self, Client};
use super::condition::{self, Conditions};
use super::describe::{self, Found};
use super::input::{self, Splitter};
use super::output::{Expanded, Format, Table};
use super::screen::Redirect;
use super::target::{Surroundings, Target};
use super::{Lines, NoLines, Outcome, Place, Shell, Stop, ask_password, exit, prefix};

/// What a command may look at.
struct Call<'a> {
    name: &'a str,
    /// Everything behind the name, as it was written.
    text: &'a str,
    arguments: Vec<String>,
    splitter: &'a mut Splitter,
    place: &'a Place,
    lines: &'a mut dyn Lines,
}

type Run = fn(&mut Shell, Call<'_>) -> Result<(), Trouble>;

/// Why a command did not do its work.
enum Trouble {
    /// To be said, with the command's name before it.
    Says(String),
    /// Said already.
    Stop(Stop),
}

impl From<Stop> for Trouble {
    fn from(stop: Stop) -> Trouble {
        Trouble::Stop(stop)
    }
}

impl From<String> for Trouble {
    fn from(text: String) -> Trouble {
        Trouble::Says(text)
    }
}

/// names, arguments, what it does.
const COMMANDS: &[(&[&str], &str, &str, Run)] = &[
    (&["?", "help"], "", "shows this list", |shell, _| Ok(shell.say(&overview())?)),
    (&["h"], "[COMMAND]", "shows the syntax of an SQL command", syntax),
    (&["q", "quit"], "", "leaves", |shell, _| {
        shell.ended = true;
        Ok(())
    }),
    (
        &["c", "connect"],
        "[DATABASE [USER [HOST [PORT]]] | URL]",
        "connects to another database, or again",
        connect,
    ),
    (&["conninfo"], "", "shows where the session is", connection),
    (&["d", "d+"], "[PATTERN]", "lists relations, or describes those that fit", list),
    (
        &["dt", "di", "dv", "dm", "ds"],
        "[PATTERN]",
        "lists tables, indexes, views, materialized views, sequences",
        list,
    ),
    (&["dn"], "[PATTERN]", "lists schemas", list),
    (&["du", "dg"], "[PATTERN]", "lists roles", list),
    (
        &["df", "dT", "dx", "dp", "z"],
        "[PATTERN]",
        "lists functions, types, extensions, access privileges",
        list,
    ),
    (
        &["db", "dconfig", "drds"],
        "[PATTERN]",
        "lists tablespaces, settings that are not as built in, settings of roles and databases",
        list,
    ),
    (&["sv", "sf"], "NAME", "shows the definition of a view or function", definition),
    (&["l", "list"], "[PATTERN]", "lists databases", list),
    (&["x"], "[on|off|auto]", "one line per value instead of columns side by side", expanded),
    (&["timing"], "[on|off]", "shows how long statements take", |shell, call| {
        shell.timing = switch(&call, shell.timing)?;
        tell(shell, &format!("Timing is {}.", on_off(shell.timing)))
    }),
    (&["a"], "", "switches between aligned and unaligned output", |shell, _| {
        shell.style.format =
            if shell.style.format == Format::Aligned { Format::Unaligned } else { Format::Aligned };
        tell(shell, &format!("Output format is {}.", shell.style.format.name()))
    }),
    (&["t"], "[on|off]", "shows rows only", |shell, call| {
        shell.style.tuples_only = switch(&call, shell.style.tuples_only)?;
        tell(shell, &format!("Tuples only is {}.", on_off(shell.style.tuples_only)))
    }),
    (
        &["pset"],
        "[NAME [VALUE]]",
        "sets format, null, border, expanded, tuples_only, footer, fieldsep, title",
        print_setting,
    ),
    (&["f"], "[SEPARATOR]", "sets what stands between unaligned values", |shell, call| {
        if let Some(separator) = call.arguments.first() {
            shell.style.separator.clone_from(separator);
        }
        tell(shell, &format!("Field separator is \"{}\".", shell.style.separator))
    }),
    (&["C"], "[TITLE]", "sets the title of tables", |shell, call| {
        shell.style.title = call.arguments.first().cloned();
        Ok(())
    }),
    (&["i", "include", "ir"], "FILE", "runs a file (\\ir: beside the one that is running)", include),
    (
        &["copy"],
        "TABLE|(QUERY) FROM|TO FILE|STDIN|STDOUT|PROGRAM 'X' [OPTIONS]",
        "copies between a table and a file here",
        copy,
    ),
    (&["watch"], "[SECONDS] [c=COUNT]", "runs the query again and again", watch),
    (&["g"], "[FILE|\\|PROGRAM]", "runs the query (and sends its result somewhere)", go),
    (&["gx"], "", "runs the query, one line per value", go),
    (&["gset"], "[PREFIX]", "runs the query and keeps its row in variables", go_set),
    (&["gexec"], "", "runs the query, then each value of its result as a statement", go_execute),
    (&["gdesc"], "", "shows the columns of the query's result without running it", go_describe),
    (&["p", "print"], "", "shows the statement typed so far", |shell, call| {
        let text = match call.splitter.gathered() {
            "" => shell.last_query.clone(),
            text => text.to_owned(),
        };
        Ok(shell.say(&format!("{text}\n"))?)
    }),
    (&["r", "reset"], "", "forgets the statement typed so far", |shell, call| {
        call.splitter.rest();
        tell(shell, "Query buffer reset (cleared).")
    }),
    (&["e", "edit"], "[FILE]", "edits the last statement (or a file) with $EDITOR, then runs it", edit),
    (&["s"], "", "shows the history", |shell, _| {
        let file = std::env::var_os("STARTDB_HISTORY")
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".startdb_history")));
        let text = file.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| *line != "#V2").collect();
        Ok(shell.say(&format!("{}\n", lines.join("\n")))?)
    }),
    (&["o", "out"], "[FILE|\\|PROGRAM]", "sends results to a file or program, or here again", out),
    (&["echo", "qecho", "warn"], "[TEXT]", "writes a text (\\warn: to the standard error)", echo),
    (&["if", "elif", "else", "endif"], "[VALUE]", "parts of a script that run if a value is true", |_, _| {
        Ok(())
    }),
    (&["set"], "[NAME [VALUE]]", "sets a variable, used as :name, :'name' or :\"name\"", set),
    (&["unset"], "NAME", "removes a variable", |shell, call| {
        for name in &call.arguments {
            shell.variables.remove(name);
        }
        Ok(())
    }),
    (&["password"], "[USER]", "changes a password without showing it", password),
    (&["encoding"], "", "shows the encoding of the client", |shell, _| {
        let encoding = shell.client()?.parameter("client_encoding").to_owned();
        Ok(shell.say(&format!("{encoding}\n"))?)
    }),
    (&["errverbose"], "", "shows the last error with all it knows", error_verbose),
    (&["!"], "[COMMAND]", "runs a command of the operating system", system),
    (&["cd"], "[DIRECTORY]", "changes the directory", |_, call| {
        let home = std::env::var("HOME").unwrap_or_else(|_| "/".to_owned());
        let target = call.arguments.first().unwrap_or(&home);
        std::env::set_current_dir(target).map_err(|error| format!("\"{target}\": {error}").into())
    }),
    // pg_dump puts these around its scripts; without other clients' escapes there is nothing to restrict.
    (&["restrict", "unrestrict"], "KEY", "", |_, _| Ok(())),
];

/// Names for completion.
pub const NAMES: &[&str] = &[
    "?",
    "a",
    "c",
    "conninfo",
    "copy",
    "d",
    "d+",
    "df",
    "di",
    "dm",
    "dn",
    "dp",
    "ds",
    "dt",
    "dt+",
    "du",
    "dv",
    "dT",
    "db",
    "dconfig",
    "drds",
    "dx",
    "e",
    "echo",
    "encoding",
    "errverbose",
    "g",
    "gdesc",
    "gexec",
    "gset",
    "gx",
    "elif",
    "else",
    "endif",
    "h",
    "i",
    "if",
    "ir",
    "l",
    "l+",
    "o",
    "p",
    "password",
    "pset",
    "q",
    "r",
    "s",
    "set",
    "sf",
    "sv",
    "t",
    "timing",
    "unset",
    "watch",
    "x",
];

/// Runs a command, given without its backslash. What is wrong is reported.
pub fn run(
    shell: &mut Shell,
    text: &str,
    splitter: &mut Splitter,
    place: &Place,
    lines: &mut dyn Lines,
) -> Outcome {
    // `\!ls`, `\?` and `\d+` need no blank behind the name.
    let end = match text.chars().next() {
        Some('!' | '?') => 1,
        _ => text.find(|c: char| c.is_whitespace() || c == '(' || c == '\\').unwrap_or(text.len()),
    };
    let (name, rest) = text.split_at(end);
    let rest = rest.trim_start();
    if Conditions::is_command(name) {
        return conditional(shell, name, rest, splitter, place);
    }
    if !shell.conditions.active() {
        return Ok(());
    }
    let variables = shell.variables.clone();
    let arguments = input::arguments(rest, &|name| variables.get(name).cloned());
    let place = place.clone();
    let call = Call { name, text: rest, arguments, splitter, place: &place, lines };
    let bare: String = name.chars().filter(|c| !matches!(c, '+' | 'S')).collect();
    let found =
        COMMANDS.iter().find(|(names, _, _, _)| names.contains(&name) || names.contains(&bare.as_str()));
    let ran = match found {
        Some((_, _, _, run)) => run(shell, call),
        // `\dtv`, `\dti+`: several kinds at once.
        None if name.starts_with('d') => list(shell, call),
        None => Err(Trouble::Says(unknown(name))),
    };
    match ran {
        Ok(()) => Ok(()),
        Err(Trouble::Stop(stop)) => Err(stop),
        Err(Trouble::Says(text)) => {
            eprintln!("{}\\{name}: {text}", prefix(&place, 0));
            Err(Stop(exit::STATEMENT))
        }
    }
}

/// `\if` and its kin. What is no truth value counts as false, and a script goes on, as in psql; what does not fit together
/// ends it.
fn conditional(shell: &mut Shell, name: &str, text: &str, splitter: &mut Splitter, place: &Place) -> Outcome {
    let variables = shell.variables.clone();
    let value = || {
        let words = input::arguments(text, &|name| variables.get(name).cloned());
        let word = words.join(" ");
        condition::truth(&word).ok_or_else(|| {
            format!("unrecognized value \"{word}\" for \"\\{name} expression\": Boolean expected")
        })
    };
    let ran = shell.conditions.run(name, splitter, value);
    let Err(error) = ran else { return Ok(()) };
    if error.starts_with("unrecognized") {
        eprintln!("{}{error}", prefix(place, 0));
        return Ok(());
    }
    eprintln!("{}\\{name}: {error}", prefix(place, 0));
    Err(Stop(exit::STATEMENT))
}

fn unknown(name: &str) -> String {
    let nearest = COMMANDS
        .iter()
        .flat_map(|(names, _, _, _)| names.iter())
        .map(|known| (strsim::damerau_levenshtein(known, name), *known))
        .min()
        .filter(|(distance, _)| *distance <= 2 && name.len() > 2);
    match nearest {
        Some((_, nearest)) => format!("there is no such command; did you mean \\{nearest}?"),
        None => "there is no such command; \\? lists what there is".to_owned(),
    }
}

fn overview() -> String {
    let mut text = String::new();
    for (names, arguments, what, _) in COMMANDS.iter().filter(|(_, _, what, _)| !what.is_empty()) {
        let names: Vec<String> = names.iter().map(|name| format!("\\{name}")).collect();
        let left = format!("{} {arguments}", names.join(" "));
        text.push_str(&if left.len() > 34 {
            format!("  {left}\n{:37}{what}\n", "")
        } else {
            format!("  {left:<34} {what}\n")
        });
    }
    text.push_str("\nA + behind \\d, \\dt, \\l and others shows more, an S system objects too. PATTERN: a name with * and ?.\n");
    text
}

fn tell(shell: &mut Shell, text: &str) -> Result<(), Trouble> {
    if shell.quiet || !shell.style.format.for_people() {
        return Ok(());
    }
    Ok(shell.say(&format!("{text}\n"))?)
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// on, off, or the other.
fn switch(call: &Call<'_>, now: bool) -> Result<bool, Trouble> {
    match call.arguments.first().map(|text| text.to_lowercase()).as_deref() {
        None | Some("toggle") => Ok(!now),
        Some("on" | "true" | "yes" | "1") => Ok(true),
        Some("off" | "false" | "no" | "0") => Ok(false),
        Some(other) => Err(format!("\"{other}\" is neither on nor off").into()),
    }
}

// -- lists ----------------------------------------------------------------------------------------------------------------------

fn list(shell: &mut Shell, call: Call<'_>) -> Result<(), Trouble> {
    let pattern = call.arguments.first().map(String::as_str);
    let style = shell.style.clone();
    let client = shell.client()?;
    let found = match describe::describe(client, call.name, pattern) {
        Ok(found) => found,
        Err(client::Failure::Refused(report)) => {
            shell.report(&report, "", call.place);
            shell.last_error = Some(*report);
            return Err(Stop(exit::STATEMENT).into());
        }
        Err(client::Failure::Lost(why)) => {
            eprintln!("{}{why}", prefix(call.place, 0));
            shell.client = None;
            return Err(Stop(exit::CONNECTION).into());
        }
    };
    let listings = match found {
        None => return Err(unknown(call.name).into()),
        Some(Found::Nothing(text)) => {
            eprintln!("{text}");
            // A description of what is not there is an error for a script, a list that is empty is not.
            return if call.name.trim_end_matches(['+', 'S']) == "d" && pattern.is_some() {
                Err(Stop(exit::STATEMENT).into())
            } else {
                Ok(())
            };
        }
        Some(Found::Listings(listings)) => listings,
    };
    let mut text = Vec::new();
    for listing in listings {
        let mut style = style.clone();
        style.title = Some(listing.title);
        style.null = String::new();
        style.footer = listing.counted;
        let mut table = Table::new(&style, listing.rows.columns);
        let rows = listing
            .rows
            .rows
            .into_iter()
            .map(|row| row.into_iter().map(|value| value.map(bytes::Bytes::from)).collect::<Vec<_>>());
        let show = || -> io::Result<()> {
            for row in rows {
                table.row(row, &mut text)?;
            }
            let footers: &[String] = if style.format.for_people() { &listing.footers } else { &[] };
            table.finish_with(footers, "", &mut text)
        };
        show().map_err(|error| Trouble::Says(error.to_string()))?;
    }
    Ok(shell.say(&String::from_utf8_lossy(&text))?)
}

fn definition(shell: &mut Shell, call: Call<'_>) -> Result<(), Trouble> {
    let Some(name) = call.arguments.first() else { return Err("of what?".to_owned().into()) };
    let name = input::literal(name);
    if call.name.starts_with("sf") {
        let kind = if name.contains('(') { "regprocedure" } else { "regproc" };
        let question =
            format!("SELECT pg_catalog.pg_get_functiondef({name}::pg_catalog.{kind}::pg_catalog.oid)");
        let rows = shell.collect(&question, call.place, &mut NoLines)?;
        return Ok(shell.say(rows.text(0, 0))?);
    }
    let question = format!(
        "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), c.relkind, pg_catalog.pg_get_viewdef(c.oid, true) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {name}::pg_catalog.regclass"
    );
    let rows = shell.collect(&question, call.place, &mut NoLines)?;
    if rows.text(0, 1) != "v" {
        return Err(format!("\"{}\" is not a view", rows.text(0, 0)).into());
    }
    let text = rows.text(0, 2).trim_end_matches(';');
    Ok(shell.say(&format!("CREATE OR REPLACE VIEW {} AS\n{text}\n", rows.text(0, 0)))?)
}

// -- connections ----------------------------------------------------------------------------------------------------------------

fn connect(shell: &mut Shell, call: Call<'_>) -> Result<(), Trouble> {
    let argument = |place: usize| call.arguments.get(place).filter(|text| text.as_str() != "-").cloned();
    let mut target = shell.target.clone();
    match argument(0) {
        Some(text) if text.contains("://") || text.contains('=') => {
            let around = Surroundings {
                variable: &|name| std::env::var(name).ok(),
                data_dir: PathBuf::from("startdb-data"),
            };
            target = Target::resolve(Some(&text), &around)?;
        }
        Some(database) => {
            let plain = database.trim_matches('"');
            target = target.database(plain);
        }
        None => {}
    }
    if let Some(user) = argument(1) {
        if user != target.user {
            // A password belongs to the user it was given for.
            target.password = None;
            target.remembered = None;
            target.initial_password = None;
        }
        target.user = user;
    }
    if argument(2).is_some() || argument(3).is_some() {
        let mut text = format!("user='{}' dbname='{}'", quoted(&target.user), quoted(&target.database));
        if let Some(host) = argument(2) {
            text.push_str(&format!(" host='{}'", quoted(&host)));
        }
        if let Some(port) = argument(3) {
            text.push_str(&format!(" port='{}'", quoted(&port)));
        }
        let around = Surroundings {
            variable: &|name| std::env::var(name).ok(),
            data_dir: PathBuf::from("startdb-data"),
        };
        target = Target::resolve(Some(&text), &around)?;
    }
    match Client::connect(&target, &mut ask_password) {
        Ok(client) => {
            let said = format!(
                "You are now connected to database \"{}\" as user \"{}\".",
                client.target().database,
                client.target().user
            );
            shell.adopt(client);
            tell(shell, &said)
        }
        Err(failure) => {
            let kept =
                if shell.interactive && shell.client.is_some() { "\nPrevious connection kept" } else { "" };
            if !shell.interactive {
                // What follows in a script was meant for the other database.
                shell.client = None;
            }
            eprintln!("{}\\{}: {failure}{kept}", prefix(call.place, 0), call.name);
            Err(Stop(exit::CONNECTION).into())
        }
    }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

fn connection(shell: &mut Shell, _: Call<'_>) -> Result<(), Trouble> {
    let client = shell.client()?;
    let target = client.target();
    let mut text = format!(
        "You are connected to database \"{}\" as user \"{}\" at {} (process {}).\n",
        target.database,
        target.user,
        client.endpoint().shown(),
        client.process_id()
    );
    if let Some(tls) = client.encryption() {
        text.push_str(&format!("TLS connection ({tls}).\n"));
    }
    Ok(shell.say(&text)?)
}

fn password(shell: &mut Shell, call: Call<'_>) -> Result<(), Trouble> {
    let user = match call.arguments.first() {
        Some(user) => user.clone(),
        None => shell.collect("SELECT current_user", call.place, &mut NoLines)?.text(0, 0).to_owned(),
    };
    let ask =
        |text: String| rpassword::prompt_password(text).map_err(|error| Trouble::Says(error.to_string()));
    let first = ask(format!("Enter new password for user \"{user}\": "))?;
    if first != ask("Enter it again: ".to_owned())? {
        return Err("the two passwords are not the same".to_owned().into());
    }
    if first.is_empty() {
        return Err("an empty password is not possible".to_owned().into());
    }
    // The server gets the verifier only: the password must not stand in any log on its way.
    let verifier = postgres_protocol::password::scram_sha_256(first.as_bytes());
    let statement =
        format!("ALTER ROLE \"{}\" PASSWORD {}", user.replace('"', "\"\""), input::literal(&verifier));
    Ok(shell.execute(&statement, call.place, &mut NoLines)?)
}

// -- how results look -----------------------------------------------------------------------------------------------------------

fn expanded(shell: &mut Shell, call: Call<'_>) -> Result<(), Trouble> {
    shell.style.expanded = match call.arguments.first().map(String::as_str) {
        Some("auto") => Expanded::Auto,
        _ if switch(&call, shell.style.expanded != Expanded::Off)? => Expanded::On,
        _ => Expanded::Off,
    };
    tell(
        shell,
        match shell.style.expanded {
            Expanded::Auto => "Expanded display is used automatically.",
            Expanded::On => "Expanded display is on.",
            Expanded::Off => "Expanded display is off.",
        },
    )
}

fn print_setting(shell: &mut Shell, mut call: Call<'_>) -> Result<(), Trouble> {
    if call.arguments.is_empty() {
        let style = &shell.style;
        let expanded = match style.expanded {
            Expanded::Auto => "auto",
            Expanded::On => "on",
            Expanded::Off => "off",
        };
        let text = format!(
            "border      {}\nexpanded    {expanded}\nfieldsep    '{}'\nfooter      {}\nformat      {}\nnull        '{}'\ntitle       {}\ntuples_only {}\n",
            style.border,
            style.separator,
            on_off(style.footer),
            style.format.name(),
            style.null,
            style.title.as_deref().unwrap_or(""),
            on_off(style.tuples_only)
        );
        return Ok(shell.say(&text)?);
    }
    let name = call.arguments.remove(0);
    let value = call.arguments.first().cloned();
    match name.as_str() {
        "format" => match value.as_deref() {
            Some(text) => {
                let format = Format::named(text).ok_or_else(|| {
                    let names: Vec<&str> = Format::ALL.iter().map(|(name, _)| *name).collect();
                    format!("there is no format \"{text}\"; formats are {}", names.join(", "))
                })?;
                shell.style.format = format;
                tell(shell, &format!("Output format is {text}."))
            }
            None => tell(shell, &format!("Output format is {}.", shell.style.format.name())),
        },
        "null" => {
            shell.style.null = value.unwrap_or_default();
            tell(shell, &format!("Null display is \"{}\".", shell.style.null))
        }
        "border" => {
            shell.style.border = value
                .and_then(|text| text.parse().ok())
                .filter(|border| *border <= 2)
                .ok_or_else(|| "border is 0, 1 or 2".to_owned())?;
            tell(shell, &format!("Border style is {}.", shell.style.border))
        }
        "fieldsep" => {
            shell.style.separator = value.unwrap_or_else(|| "|".to_owned());
            Ok(())
        }
        "title" => {
            shell.style.title = value;
            Ok(())
        }
        "expanded" | "x" => expanded(shell, call),
        "tuples_only" | "t" => {
            shell.style.tuples_only = switch(&call, shell.style.tuples_only)?;
            Ok(())
        }
        "footer" => {
            shell.style.footer = switch(&call, shell.style.footer)?;
            Ok(())
        }
        // The pager engages by itself when the screen is too small; linestyle and encoding have one value.
        "pager" | "linestyle" | "columns" => Ok(()),
        _ => Err(format!("there is no option \"{name}\"; \\pset without arguments lists them").into()),
    }
}

// -- running --------------------------------------------------------------------------------------------------------------------

/// The statement typed so far, else the last one.
fn query(shell: &mut Shell, call: &mut Call<'_>) -> Result<String, Trouble> {
    match call.splitter.rest() {
        Some(statement) => {
            shell.last_query.clone_from(&statement.text);
            Ok(statement.text)
        }
        None if shell.last_query.is_empty() => Err("there is no query to run".to_owned().into()),
        None => Ok(shell.last_query.clone()),
    }
}

fn go(shell: &mut Shell, mut call: Call<'_>) -> Result<(), Trouble> {
    let text = query(shell, &mut call)?;
    let before = shell.style.expanded;
    if call.name == "gx" {
        shell.style.expanded = Expanded::On;
    }
    let outcome = if call.text.is_empty() {
        shell.execute(&text, call.place, call.lines)
    } else {
        let target = if call.text.starts_with('|') { call.text.to_owned() } else { call.arguments.join(" ") };
        let redirect = Redirect::open(&target).map_err(|error| format!("\"{target}\": {error}"))?;
        let kept = shell.redirect.replace(redirect);
        let outcome = shell.execute(&text, call.place, call.lines);
        let closed = shell.close_output();
        shell.redirect = kept;
        outcome.and(closed)
    };
    shell.style.expanded = before;
    Ok(outcome?)
}

fn go_set(shell: &mut Shell, mut call: Call<'_>) -> Result<(), Trouble> {
    let text = query(shell, &mut call)?;
    let rows = shell.collect(&text, call.place, call.lines)?;
    match rows.rows.len() {
        0 => return Err("no rows returned".to_owned().into()),
        1 => {}
        _ => return Err("more than one row returned".to_owned().into()),
    }
    let start = call.arguments.first().cloned().unwrap_or_default();
    for (column, value) in rows.columns.iter().zip(&rows.rows[0]) {
        let name = format!("{start}{}", column.name);
        match value {
            Some(value) => shell.variables.insert(name, value.clone()),
            None => shell.variables.remove(&name),
        };
    }
    Ok(())
}

fn go_execute(shell: &mut Shell, mut call: Call<'_>) -> Result<(), Trouble> {
    let text = query(shell, &mut call)?;
    let rows = shell.collect(&text, call.place, call.lines)?;
    for statement in rows.rows.iter().flatten().flatten() {
        shell.execute(statement, call.place, call.lines)?;
    }
    Ok(())
}

/// A cursor of zero rows has the columns of the query.
fn go_describe(shell: &mut Shell, mut call: Call<'_>) -> Result<(), Trouble> {
    let text = query(shell, &mut call)?;
    let text = text.trim_end().trim_end_matches(';');
    let rows =
        shell.collect(&format!("SELECT * FROM ({text}\n) AS described LIMIT 0"), call.place, call.lines)?;
    if rows.columns.is_empty() {
        return Ok(shell.say("The command has no result, or the result has no columns.\n")?);
    }
    let values: Vec<String> = rows
        .columns
        .iter()
        .map(|column| {
            format!(
                "({}, pg_catalog.format_type({}, {}))",
                input::literal(&column.name),
                column.type_oid,
                column.typmod
            )
        })
        .collect();
    let question = format!("SELECT * FROM (VALUES {}) AS result (\"Column\", \"Type\")", values.join(", "));
    Ok(shell.execute(&question, call.place, call.lines)?)
}

fn watch(shell: &mut Shell, mut call: Call<'_>) -> Result<(), Trouble> {
    let text = query(shell, &mut call)?;
    let (mut pause, mut most) = (2.0f64, None);
    for argument in &call.arguments {
        let wrong = || format!("\"{argument}\" is neither seconds nor c=COUNT");
        match argument.split_once('=') {
            Some(("c" | "count", count)) => most = Some(count.parse::<u64>().map_err(|_| wrong())?),
            Some(("i" | "interval", seconds)) => pause = seconds.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong().into()),
            None => pause = argument.parse().map_err(|_| wrong())?,
        }
    }
    if !(0.0..=1e6).contains(&pause) {
        return Err(format!("{pause} is not a time to wait").into());
    }
    let title = shell.style.title.clone();
    let mut count = 0;
    client::set_running(true);
    let outcome = loop {
        let now = shell.collect("SELECT now()::timestamp(0)", call.place, &mut NoLines);
        let Ok(now) = now else { break now.map(drop) };
        shell.style.title = Some(format!("{} (every {pause} s)", now.text(0, 0)));
        let outcome = shell.execute(&text, call.place, call.lines);
        count += 1;
        client::set_running(true);
        if outcome.is_err() || most.is_some_and(|most| count >= most) {
            break outcome;
        }
        let until = Instant::now() + Duration::from_secs_f64(pause);
        let mut pressed = client::interrupted();
        while Instant::now() < until && !pressed {
            std::thread::sleep(Duration::from_millis(20).min(until - Instant::now().min(until)));
            pressed = client::interrupted();
        }
        if pressed {
            break Ok(());
        }
    };
    client::set_running(false);
    shell.style.title = title;
    Ok(outcome?)
}

fn include(shell: &mut Shell, call: Call<'_>) -> Result<(), Trouble> {
    let Some(name) = call.arguments.first() else { return Err("which file?".to_owned().into()) };
    let mut file = PathBuf::from(name);
    if call.name == "ir"
        && let Some(folder) = shell.scripts.last().and_then(|script| script.parent())
    {
        file = folder.join(file);
    }
    Ok(shell.file(&file)?)
}

fn edit(shell: &mut Shell, mut call: Call<'_>) -> Result<(), Trouble> {
    if !shell.interactive {
        return Err("only with a terminal".to_owned().into());
    }
    let named = call.arguments.first().map(PathBuf::from);
    let file = match &named {
        Some(file) => file.clone(),
        None => {
            let text = query(shell, &mut call).unwrap_or_default();
            let file = std::env::temp_dir().join(format!("startdb.edit.{}.sql", std::process::id()));
            fs::write(&file, text).map_err(|error| error.to_string())?;
            file
        }
    };
    let editor = ["PSQL_EDITOR", "VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok());
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    let status = Process::new("/bin/sh")
        .arg("-c")
        .arg(format!("{editor} \"$0\""))
        .arg(&file)
        .status()
        .map_err(|error| error.to_string())?;
    let text = fs::read_to_string(&file).map_err(|error| error.to_string());
    if named.is_none() {
        let _ = fs::remove_file(&file);
    }
    if !status.success() {
        return Err(format!("the editor \"{editor}\" ended with {status}").into());
    }
    let text = text?;
    if text.trim().is_empty() {
        return Ok(());
    }
    shell.say(&format!("{}\n", text.trim_end()))?;
    shell.last_query.clone_from(&text);
    Ok(shell.execute(&text, call.place, call.lines)?)
}

// -- texts and files ------------------------------------------------------------------------------------------------------------

fn out(shell: &mut Shell, call: Call<'_>) -> Result<(), Trouble> {
    shell.close_output()?;
    if call.text.is_empty() {
        return Ok(());
    }
    let target = if call.text.starts_with('|') { call.text.to_owned() } else { call.arguments.join(" ") };
    shell.redirect = Some(Redirect::open(&target).map_err(|error| format!("\"{target}\": {error}"))?);
    Ok(())
}

fn echo(shell: &mut Shell, call: Call<'_>) -> Result<(), Trouble> {
    let text = call.arguments.join(" ");
    if call.name == "warn" {
        eprintln!("{text}");
        return Ok(());
    }
    if call.name == "echo" {
        let kept = shell.redirect.take();
        let said = shell.say(&format!("{text}\n"));
        shell.redirect = kept;
        return Ok(said?);
    }
    Ok(shell.say(&format!("{text}\n"))?)
}

fn set(shell: &mut Shell, call: Call<'_>) -> Result<(), Trouble> {
    let mut arguments = call.arguments.into_iter();
    match arguments.next() {
        None => {
            let text: String =
                shell.variables.iter().map(|(name, value)| format!("{name} = '{value}'\n")).collect();
            Ok(shell.say(&text)?)
        }
        Some(name) => {
            let value = arguments.collect::<Vec<_>>().concat();
            if name == "AUTOCOMMIT" && matches!(value.to_lowercase().as_str(), "off" | "0" | "false" | "no") {
                // A script that relies on it would commit what it did not mean to.
                return Err("AUTOCOMMIT cannot be turned off here; begin a transaction with BEGIN, or run the script with -1".to_owned().into());
            }
            shell.variables.insert(name, value);
            Ok(())
        }
    }
}

fn system(_: &mut Shell, call: Call<'_>) -> Result<(), Trouble> {
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    let mut process = Process::new(shell);
    if !call.text.is_empty() {
        process.arg("-c").arg(call.text);
    }
    let status = process.status().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("the command ended with {status}").into()) }
}

fn error_verbose(shell: &mut Shell, _: Call<'_>) -> Result<(), Trouble> {
    let Some(report) = &shell.last_error else { return Ok(shell.say("There is no previous error.\n")?) };
    let mut text = format!("{}:  {}: {}\n", report.severity(), report.state(), report.message());
    for (label, field) in
        [("DETAIL", report.detail()), ("HINT", report.hint()), ("CONTEXT", report.context())]
    {
        if !field.is_empty() {
            text.push_str(&format!("{label}:  {field}\n"));
        }
    }
    for (label, field) in report.objects() {
        text.push_str(&format!("{label}:  {field}\n"));
    }
    Ok(shell.say(&text)?)
}

// -- \copy ----------------------------------------------------------------------------------------------------------------------

/// Where the data of a `\copy` is on this side.
#[derive(Debug, PartialEq)]
enum End {
    File(String),
    Program(String),
    /// STDIN or STDOUT: behind the command, or among the results.
    Here,
    /// PSTDIN or PSTDOUT: the process's own.
    Process,
}

/// The COPY to send, whether data goes in, and where it is.
fn parse_copy(text: &str) -> Option<(String, bool, End)> {
    // What is copied reaches to the FROM or TO outside of parentheses and quotes.
    let mut depth = 0usize;
    let mut quote = None;
    let mut split = None;
    for (place, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, blank) if blank.is_whitespace() && depth == 0 => {
                let word = text[place..].trim_start().split(char::is_whitespace).next()?;
                if word.eq_ignore_ascii_case("from") || word.eq_ignore_ascii_case("to") {
                    let behind = place + text[place..].find(word)? + word.len();
                    split = Some((place, word.eq_ignore_ascii_case("from"), behind));
                    break;
                }
            }
            _ => {}
        }
    }
    let (place, into, behind) = split?;
    let what = text[..place].trim();
    let rest = text[behind..].trim_start();
    let mut words = rest.splitn(2, char::is_whitespace);
    let first = words.next().filter(|word| !word.is_empty())?;
    let (end, options) = if first.eq_ignore_ascii_case("program") {
        let (command, options) = quoted_word(words.next()?.trim_start())?;
        (End::Program(command), options)
    } else if rest.starts_with('\'') {
        let (name, options) = quoted_word(rest)?;
        (End::File(name), options)
    } else {
        let options = words.next().unwrap_or_default();
        let first = first.trim_end_matches(';');
        let end = match first.to_lowercase().as_str() {
            "stdin" | "stdout" => End::Here,
            "pstdin" | "pstdout" => End::Process,
            _ => End::File(first.to_owned()),
        };
        (end, options)
    };
    let direction = if into { "FROM STDIN" } else { "TO STDOUT" };
    let options = options.trim().trim_end_matches(';');
    Some((format!("COPY {what} {direction} {options}"), into, end))
}

/// `'...'` with doubled quotes, and what stands behind it.
fn quoted_word(text: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut characters = text.strip_prefix('\'')?.char_indices().peekable();
    while let Some((place, character)) = characters.next() {
        if character != '\'' {
            word.push(character);
        } else if characters.peek().is_some_and(|(_, next)| *next == '\'') {
            characters.next();
            word.push('\'');
        } else {
            return Some((word, &text[place + 2..]));
        }
    }
    None
}

fn copy(shell: &mut Shell, call: Call<'_>) -> Result<(), Trouble> {
    let (statement, into, end) = parse_copy(call.text).ok_or_else(|| {
        "expected TABLE or (QUERY), then FROM or TO, then a file, STDIN, STDOUT or PROGRAM 'X'".to_owned()
    })?;
    let opened = |name: &str, error: io::Error| Trouble::Says(format!("\"{name}\": {error}"));
    match (into, end) {
        (true, End::Here) => Ok(shell.execute(&statement, call.place, call.lines)?),
        (true, End::File(name)) => {
            let file = File::open(&name).map_err(|error| opened(&name, error))?;
            Ok(shell.execute(&statement, call.place, &mut Whole(Box::new(file)))?)
        }
        (true, End::Process) => {
            Ok(shell.execute(&statement, call.place, &mut Whole(Box::new(io::stdin())))?)
        }
        (true, End::Program(program)) => {
            let mut child = Process::new("/bin/sh")
                .arg("-c")
                .arg(&program)
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|error| opened(&program, error))?;
            let output = child.stdout.take().ok_or_else(|| "the program has no output".to_owned())?;
            let outcome = shell.execute(&statement, call.place, &mut Whole(Box::new(output)));
            let status = child.wait().map_err(|error| opened(&program, error))?;
            outcome?;
            if status.success() {
                Ok(())
            } else {
                Err(format!("program \"{program}\" ended with {status}").into())
            }
        }
        (false, End::Here) => Ok(shell.execute(&statement, call.place, &mut NoLines)?),
        (false, end) => {
            let redirect = match &end {
                End::File(name) => Redirect::open(name).map_err(|error| opened(name, error))?,
                End::Program(program) => {
                    Redirect::open(&format!("|{program}")).map_err(|error| opened(program, error))?
                }
                _ => Redirect::open("/dev/stdout").map_err(|error| opened("stdout", error))?,
            };
            let kept = shell.redirect.replace(redirect);
            // The command tag belongs to the person, not into the file.
            let quiet = std::mem::replace(&mut shell.quiet, true);
            let outcome = shell.execute(&statement, call.place, &mut NoLines);
            shell.quiet = quiet;
            let closed = shell.close_output();
            shell.redirect = kept;
            Ok(outcome.and(closed)?)
        }
    }
}

/// Data that is all that a reader has; a line with `\.` has no meaning in it.
struct Whole(Box<dyn io::Read>);

impl Lines for Whole {
    fn data_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut piece = vec![0; 32 << 10];
        let count = self.0.read(&mut piece)?;
        piece.truncate(count);
        Ok((count > 0).then_some(piece))
    }
}

// -- \h -------------------------------------------------------------------------------------------------------------------------

/// Short syntax of what people type most; the whole of it is PostgreSQL's manual.
const SYNTAX: &[(&str, &str)] = &[
    (
        "ALTER TABLE",
        "ALTER TABLE [IF EXISTS] name\n    { ADD [COLUMN] column type [constraint ...] | DROP [COLUMN] column [CASCADE]\n    | ALTER [COLUMN] column { TYPE type [USING expression] | SET DEFAULT expression | DROP DEFAULT | SET NOT NULL | DROP NOT NULL }\n    | ADD [CONSTRAINT name] constraint | DROP CONSTRAINT name | RENAME [COLUMN] column TO new | RENAME TO new\n    | OWNER TO role | SET SCHEMA schema } [, ...]",
    ),
    ("ANALYZE", "ANALYZE [table [(column, ...)]]"),
    (
        "BEGIN",
        "BEGIN [ISOLATION LEVEL { READ COMMITTED | REPEATABLE READ | SERIALIZABLE }] [READ ONLY | READ WRITE]",
    ),
    ("COMMIT", "COMMIT [AND CHAIN]"),
    (
        "COPY",
        "COPY { table [(column, ...)] | (query) } { FROM STDIN | TO STDOUT } [WITH (FORMAT { text | csv | binary }, HEADER, DELIMITER 'c', NULL 'text')]",
    ),
    ("CREATE DATABASE", "CREATE DATABASE name [OWNER role]"),
    (
        "CREATE INDEX",
        "CREATE [UNIQUE] INDEX [IF NOT EXISTS] [name] ON table [USING { btree | hash }]\n    ({ column | (expression) } [ASC | DESC] [NULLS { FIRST | LAST }] [, ...]) [INCLUDE (column, ...)] [WHERE condition]",
    ),
    (
        "CREATE ROLE",
        "CREATE { ROLE | USER } name [[WITH] { LOGIN | SUPERUSER | CREATEDB | CREATEROLE | PASSWORD 'text' | IN ROLE role | VALID UNTIL 'time' } ...]",
    ),
    ("CREATE SCHEMA", "CREATE SCHEMA [IF NOT EXISTS] name [AUTHORIZATION role]"),
    (
        "CREATE SEQUENCE",
        "CREATE SEQUENCE [IF NOT EXISTS] name [AS type] [INCREMENT n] [MINVALUE n] [MAXVALUE n] [START n] [CACHE n] [CYCLE] [OWNED BY table.column]",
    ),
    (
        "CREATE TABLE",
        "CREATE [TEMPORARY] TABLE [IF NOT EXISTS] name (\n    { column type [NOT NULL] [DEFAULT expression] [PRIMARY KEY] [UNIQUE] [CHECK (condition)] [REFERENCES table (column)]\n      [GENERATED { ALWAYS | BY DEFAULT } AS IDENTITY]\n    | [CONSTRAINT name] { PRIMARY KEY | UNIQUE } (column, ...) | CHECK (condition)\n    | FOREIGN KEY (column, ...) REFERENCES table [(column, ...)] [ON DELETE action] [ON UPDATE action] } [, ...])\nCREATE TABLE name AS query",
    ),
    ("CREATE VIEW", "CREATE [OR REPLACE] VIEW name [(column, ...)] AS query"),
    (
        "DELETE",
        "[WITH ...] DELETE FROM table [[AS] alias] [USING from ...] [WHERE condition] [RETURNING expression, ...]",
    ),
    (
        "DROP",
        "DROP { TABLE | VIEW | INDEX | SEQUENCE | SCHEMA | DATABASE | ROLE } [IF EXISTS] name [, ...] [CASCADE | RESTRICT]",
    ),
    (
        "EXPLAIN",
        "EXPLAIN [ANALYZE] [VERBOSE] statement\nEXPLAIN (ANALYZE, BUFFERS, VERBOSE, FORMAT { TEXT | JSON }) statement",
    ),
    (
        "GRANT",
        "GRANT { privilege [, ...] | ALL } ON { TABLE | SEQUENCE | SCHEMA | DATABASE } name [, ...] TO role [, ...] [WITH GRANT OPTION]\nGRANT role [, ...] TO role [, ...]",
    ),
    (
        "INSERT",
        "[WITH ...] INSERT INTO table [(column, ...)] { VALUES (expression, ...) [, ...] | query | DEFAULT VALUES }\n    [ON CONFLICT [(column, ...)] { DO NOTHING | DO UPDATE SET column = expression [, ...] [WHERE condition] }]\n    [RETURNING expression, ...]",
    ),
    (
        "REVOKE",
        "REVOKE { privilege [, ...] | ALL } ON { TABLE | SEQUENCE | SCHEMA | DATABASE } name [, ...] FROM role [, ...] [CASCADE]",
    ),
    ("ROLLBACK", "ROLLBACK [TO [SAVEPOINT] name]"),
    ("SAVEPOINT", "SAVEPOINT name"),
    (
        "SELECT",
        "[WITH [RECURSIVE] name AS (query) [, ...]]\nSELECT [DISTINCT [ON (expression, ...)]] expression [[AS] name] [, ...]\n    [FROM from [, ...]] [WHERE condition] [GROUP BY expression, ...] [HAVING condition] [WINDOW name AS (...)]\n    [{ UNION | INTERSECT | EXCEPT } [ALL] query] [ORDER BY expression [ASC | DESC] [NULLS { FIRST | LAST }], ...]\n    [LIMIT n] [OFFSET n] [FOR { UPDATE | SHARE } [OF table] [NOWAIT | SKIP LOCKED]]",
    ),
    ("SET", "SET [SESSION | LOCAL] name { TO | = } { value | DEFAULT }"),
    ("SHOW", "SHOW { name | ALL }"),
    ("TRUNCATE", "TRUNCATE [TABLE] table [, ...] [RESTART IDENTITY] [CASCADE]"),
    (
        "UPDATE",
        "[WITH ...] UPDATE table [[AS] alias] SET column = expression [, ...] [FROM from ...] [WHERE condition] [RETURNING expression, ...]",
    ),
];

fn syntax(shell: &mut Shell, call: Call<'_>) -> Result<(), Trouble> {
    let wanted = call.text.trim().trim_end_matches(';').to_uppercase();
    if wanted.is_empty() {
        let names: Vec<&str> = SYNTAX.iter().map(|(name, _)| *name).collect();
        return Ok(shell.say(&format!("\\h COMMAND shows the syntax of:\n  {}\n", names.join("\n  ")))?);
    }
    let found: Vec<String> = SYNTAX
        .iter()
        .filter(|(name, _)| name.starts_with(&wanted) || wanted.starts_with(name))
        .map(|(name, text)| format!("{name}\n{text}\n"))
        .collect();
    if found.is_empty() {
        return Err(format!("there is no help for \"{wanted}\"; \\h lists what there is").into());
    }
    Ok(shell.say(&found.join("\n"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_commands_are_split() {
        for (text, statement, into, end) in [
            (
                "t from 'a b.csv' with (format csv)",
                "COPY t FROM STDIN with (format csv)",
                true,
                End::File("a b.csv".to_owned()),
            ),
            (
                "(select 'x' from t) to out.csv csv header",
                "COPY (select 'x' from t) TO STDOUT csv header",
                false,
                End::File("out.csv".to_owned()),
            ),
            ("s.\"from\" (a, b) FROM stdin;", "COPY s.\"from\" (a, b) FROM STDIN", true, End::Here),
            (
                "t to program 'gzip > it''s.gz'",
                "COPY t TO STDOUT",
                false,
                End::Program("gzip > it's.gz".to_owned()),
            ),
            ("t to pstdout", "COPY t TO STDOUT", false, End::Process),
        ] {
            let (sent, direction, found) = parse_copy(text).expect(text);
            assert_eq!((sent.trim_end(), direction, found), (statement.trim_end(), into, end), "{text}");
        }
        assert!(parse_copy("t").is_none());
        assert!(parse_copy("t from").is_none());
    }

    #[test]
    fn every_completed_name_is_a_command() {
        for name in NAMES {
            let bare = name.trim_end_matches('+');
            let known = COMMANDS.iter().any(|(names, _, _, _)| names.contains(name) || names.contains(&bare));
            assert!(known, "{name}");
        }
    }
}
