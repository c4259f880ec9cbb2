//! Every code block of README.md does what it says, in the order in which a reader meets them, on one server.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::programs::{self, have};
use crate::server::{Server, binary};

struct Block {
    language: String,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            found.push(Block { language: language.to_owned(), text: text.join("\n") });
        }
    }
    found
}

/// The program's folder first on the path, and libpq's variables for what the text leaves out.
fn surroundings(server: &Server, mut command: Command) -> Command {
    let program = binary();
    let folder = Path::new(program.get_program()).parent().expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    for (name, value) in server.libpq("psql").get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
        .env("PATH", format!("{}:{path}", folder.display()))
        .env("NODE_PATH", programs::cache().join("node/node_modules"))
        .env("TERM", "dumb");
    command
}

fn output(mut command: Command) -> String {
    let output = command.output().expect("the program starts");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

fn run(server: &Server, program: &str, arguments: &[&str]) -> String {
    let mut command = surroundings(server, programs::command(program));
    command.args(arguments);
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_block_of_the_readme_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("README.md")).expect("README.md");
    if !have(&["psql", "python", "node-pg"]) {
        return;
    }
    let server = Server::start();
    let mut kinds = Vec::new();
    for block in blocks(&text) {
        kinds.push(block.language.clone());
        match block.language.as_str() {
            // `$ ` and a command; what follows is what it prints.
            "console" => {
                for piece in block.text.split("\n$ ").map(|piece| piece.trim_start_matches("$ ")) {
                    let (typed, expected) = piece.split_once('\n').unwrap_or((piece, ""));
                    let mut shell = surroundings(&server, Command::new("sh"));
                    shell.args(["-c", typed]);
                    assert_eq!(output(shell).trim_end(), expected.trim_end(), "{typed}");
                }
            }
            // This test is what the two commands run.
            "sh" if block.text.starts_with("cargo ") => {
                let commands: Vec<&str> =
                    block.text.lines().map(|line| line.split("  ").next().unwrap_or(line).trim()).collect();
                assert_eq!(commands, ["cargo run --release", "cargo test --release"]);
                let script = fs::read_to_string(root.join(".ci/run")).expect(".ci/run");
                assert!(script.contains(commands[1]), ".ci/run runs another command");
            }
            "sh" => {
                run(&server, "sh", &["-euc", &block.text]);
            }
            "python" => assert_eq!(run(&server, "python", &["-c", &block.text]).trim(), "[('Bern', 137000)]"),
            "js" => {
                assert_eq!(run(&server, "node-pg", &["-e", &block.text]).trim(), "[ { people: '175000' } ]");
            }
            "sql" => {
                server.connect().run(&block.text);
            }
            // The usage line names every option of a start.
            "" => {
                let mut help = binary();
                help.args(["start", "--help"]);
                let help = output(help);
                for word in block.text.split(['[', ']', ' ']).filter(|word| word.starts_with('-')) {
                    assert!(help.contains(word), "{word} is not in:\n{help}");
                }
            }
            other => panic!("a block in {other:?}, which this test cannot run"),
        }
    }
    for kind in ["console", "sh", "python", "js", "sql", ""] {
        assert!(kinds.iter().any(|found| found == kind), "no block in {kind:?}");
    }
    // Files that the text names are there.
    for name in text.split(['`', '(', ')']).filter(|word| {
        ["deploy/", "tests/", "engine/"].iter().any(|folder| word.starts_with(folder)) && !word.contains(' ')
    }) {
        assert!(root.join(name).exists(), "README.md names {name}, which is not there");
    }
}
