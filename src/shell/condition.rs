//! `\if`, `\elif`, `\else` and `\endif`: which part of a script counts. What stands in a part that does not count is read over, but for
//! these commands themselves; a statement may have such parts inside.

use super::input::Splitter;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The part that was chosen.
    Chosen,
    /// None was chosen yet.
    Waiting,
    /// One was chosen before, or the whole stands where nothing counts.
    Passed,
    /// Behind `\else`.
    Else { counts: bool },
}

/// The conditions that are open in one source of lines, the innermost last.
#[derive(Debug, Default)]
pub struct Conditions {
    open: Vec<(State, Splitter)>,
}

impl Conditions {
    /// Whether what comes now counts.
    pub fn active(&self) -> bool {
        self.open
            .last()
            .is_none_or(|(state, _)| matches!(state, State::Chosen | State::Else { counts: true }))
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Leaves the innermost condition, after Ctrl-C.
    pub fn escape(&mut self) -> bool {
        self.open.pop().is_some()
    }

    /// Whether the name is one of these commands.
    pub fn is_command(name: &str) -> bool {
        matches!(name, "if" | "elif" | "else" | "endif")
    }

    /// Runs one of the four. `value` is what an `\if` or `\elif` decides by, asked for only if it matters. What
    /// is wrong is an error without an end: the parts stay as they are.
    pub fn run(
        &mut self,
        name: &str,
        splitter: &mut Splitter,
        value: impl FnOnce() -> Result<bool, String>,
    ) -> Result<(), String> {
        let choose = |value: Result<bool, String>| match value {
            Ok(true) => (State::Chosen, Ok(())),
            Ok(false) => (State::Waiting, Ok(())),
            // As if it were false.
            Err(error) => (State::Waiting, Err(error)),
        };
        if name == "if" {
            let (state, outcome) = if self.active() { choose(value()) } else { (State::Passed, Ok(())) };
            self.open.push((state, splitter.clone()));
            return outcome;
        }
        let Some((state, kept)) = self.open.last_mut() else {
            return Err(String::from("no matching \\if"));
        };
        // What was typed in the part that ends here counts, or is as if it had not been typed.
        if matches!(state, State::Chosen | State::Else { counts: true }) {
            *kept = splitter.clone();
        } else {
            splitter.go_back_to(kept);
        }
        match (name, *state) {
            ("elif" | "else", State::Else { .. }) => Err(String::from("cannot occur after \\else")),
            ("elif", State::Waiting) => {
                let (next, outcome) = choose(value());
                *state = next;
                outcome
            }
            ("elif", _) => {
                *state = State::Passed;
                Ok(())
            }
            ("else", before) => {
                *state = State::Else { counts: before == State::Waiting };
                Ok(())
            }
            _ => {
                self.open.pop();
                Ok(())
            }
        }
    }
}

/// A truth value as psql reads it: any beginning of true, false, yes, no; on, off, 1, 0.
pub fn truth(text: &str) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    let begins = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    if begins("true", 1) || begins("yes", 1) || text == "on" || text == "1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || text == "0" {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_true_or_false() {
        for (text, expected) in [
            ("t", Some(true)),
            ("YES", Some(true)),
            ("on", Some(true)),
            ("1", Some(true)),
            ("fal", Some(false)),
            ("of", Some(false)),
            ("0", Some(false)),
            ("o", None),
            ("", None),
            ("maybe", None),
        ] {
            assert_eq!(truth(text), expected, "{text}");
        }
    }
}
