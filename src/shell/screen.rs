//! Where results go: the standard output, a pager when the screen is too small for them, or a file or program that `\o` names.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::process::{Child, Command, Stdio};

/// Where results go when they do not go to the screen.
pub enum Redirect {
    File(File),
    Program(Child),
}

impl Redirect {
    /// `FILE`, or `|PROGRAM`.
    pub fn open(target: &str) -> io::Result<Redirect> {
        match target.strip_prefix('|') {
            Some(program) => {
                let child = Command::new("/bin/sh").arg("-c").arg(program).stdin(Stdio::piped()).spawn()?;
                Ok(Redirect::Program(child))
            }
            None => Ok(Redirect::File(File::create(target)?)),
        }
    }

    /// Waits for a program to take everything.
    pub fn close(self) -> io::Result<()> {
        match self {
            Redirect::File(mut file) => file.flush(),
            Redirect::Program(mut child) => {
                drop(child.stdin.take());
                child.wait().map(drop)
            }
        }
    }
}

impl Write for Redirect {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Redirect::File(file) => file.write(bytes),
            Redirect::Program(child) => match &mut child.stdin {
                Some(input) => input.write(bytes),
                None => Err(io::ErrorKind::BrokenPipe.into()),
            },
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Redirect::File(file) => file.flush(),
            Redirect::Program(child) => child.stdin.as_mut().map_or(Ok(()), Write::flush),
        }
    }
}

/// The output of one statement. With a known screen it is held back until it is complete or too large; only what is too
/// large meets the pager.
pub struct Screen {
    held: Vec<u8>,
    lines: usize,
    line_width: usize,
    size: Option<(usize, usize)>,
    /// The standard output is written line by line; results are not.
    out: BufWriter<Stdout>,
    pager: Option<Child>,
    /// Whoever read has gone; nothing more is wanted.
    pub closed: bool,
}

impl Screen {
    /// `size` (columns, rows): a person watches, and may want a pager.
    pub fn new(size: Option<(usize, usize)>) -> Screen {
        let size = size.filter(|_| io::stdout().is_terminal());
        let out = BufWriter::with_capacity(64 << 10, io::stdout());
        Screen { held: Vec::new(), lines: 0, line_width: 0, size, out, pager: None, closed: false }
    }

    fn too_large(&mut self, bytes: &[u8]) -> bool {
        let Some((columns, rows)) = self.size else { return false };
        for character in String::from_utf8_lossy(bytes).chars() {
            if character == '\n' {
                self.lines += 1;
                self.line_width = 0;
            } else {
                self.line_width += 1;
                if self.line_width > columns {
                    return true;
                }
            }
        }
        // The prompt wants a line as well.
        self.lines + 1 > rows
    }

    /// Starts the pager; without one the output goes to the screen as it is.
    fn page(&mut self) -> io::Result<()> {
        self.size = None;
        let chosen = ["PSQL_PAGER", "PAGER"].iter().find_map(|name| std::env::var(name).ok());
        let program = chosen.unwrap_or_else(|| "less".to_owned());
        if program.trim().is_empty() || program == "cat" {
            return Ok(());
        }
        let mut command = Command::new("/bin/sh");
        // `exec` fails in the shell, before anything is read, when there is no such program.
        command.arg("-c").arg(format!(
            "command -v {} >/dev/null 2>&1 && exec {program} || exec cat",
            program.split(' ').next().unwrap_or("less")
        ));
        if std::env::var_os("LESS").is_none() {
            // Long lines are cut, not wrapped; colours pass; the text stays on the screen afterwards.
            command.env("LESS", "RSX");
        }
        match command.stdin(Stdio::piped()).spawn() {
            Ok(child) => self.pager = Some(child),
            Err(error) => eprintln!("WARNING: the pager could not be started: {error}"),
        }
        Ok(())
    }

    fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = match self.pager.as_mut().and_then(|pager| pager.stdin.as_mut()) {
            Some(input) => input.write_all(bytes),
            None => self.out.write_all(bytes),
        };
        if written.is_err() {
            self.closed = true;
        }
        written
    }

    /// The end of the output: shows what was held back, or waits until the reader leaves the pager.
    pub fn finish(mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        let shown = if self.closed { Ok(()) } else { self.pass(&held).and_then(|()| self.out.flush()) };
        if let Some(mut pager) = self.pager.take() {
            drop(pager.stdin.take());
            pager.wait()?;
            return Ok(());
        }
        shown
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.size.is_none() && self.pager.is_none() && self.held.is_empty() {
            self.pass(bytes)?;
            return Ok(bytes.len());
        }
        if self.size.is_some() {
            self.held.extend_from_slice(bytes);
            if self.too_large(bytes) {
                self.page()?;
                let held = std::mem::take(&mut self.held);
                self.pass(&held)?;
            }
            return Ok(bytes.len());
        }
        self.pass(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
