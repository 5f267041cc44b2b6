//! Where secrets and passwords come from: a file, the environment, or a person at a terminal; never
//! an argument, which every process of the machine could read.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::Failure;
use crate::wire::challenge::Secret;

/// The secret of `file`, else of the environment `variable`, else what a person types behind
/// `prompt` on the terminal.
///
/// # Errors
/// The file cannot be read, or there is none of the three.
pub fn obtain(file: Option<&Path>, variable: &str, prompt: &str) -> Result<Secret, Failure> {
    if let Some(path) = file {
        let text = std::fs::read(path).map_err(|error| {
            Failure::usage(format!(
                "cannot read the {prompt} from {}: {error}",
                path.display()
            ))
        })?;
        return Ok(Secret::from_file_text(text));
    }
    if let Some(value) = std::env::var_os(variable) {
        return Ok(Secret::new(value.into_encoded_bytes()));
    }
    ask(prompt).ok_or_else(|| missing(variable, prompt))
}

/// The same for one that is new: a person has to type it twice.
///
/// # Errors
/// As those of [`obtain`], and two that differ.
pub fn obtain_new(file: Option<&Path>, variable: &str, prompt: &str) -> Result<Secret, Failure> {
    if file.is_some() || std::env::var_os(variable).is_some() {
        return obtain(file, variable, prompt);
    }
    let first = ask(prompt).ok_or_else(|| missing(variable, prompt))?;
    match ask(&format!("the same {prompt} again")) {
        Some(second) if second.expose() == first.expose() => Ok(first),
        _ => Err(Failure::usage(format!(
            "the two are not the same; the {prompt} stays what it was"
        ))),
    }
}

fn missing(variable: &str, prompt: &str) -> Failure {
    Failure::usage(format!(
        "no {prompt}: name a file that holds it, or set {variable} in the environment"
    ))
}

/// Asks on the controlling terminal without echo; `None` when there is no terminal.
fn ask(prompt: &str) -> Option<Secret> {
    let mut terminal = File::options()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .ok()?;
    let before = tcgetattr(&terminal).ok()?;
    let mut silent = before.clone();
    silent.local_modes -= LocalModes::ECHO;
    // Before the prompt: what is typed at once is neither shown nor thrown away.
    tcsetattr(&terminal, OptionalActions::Flush, &silent).ok()?;
    let mut line = Vec::new();
    let asked = write!(terminal, "{prompt}: ");
    let read = asked.and_then(|()| BufReader::new(&terminal).read_until(b'\n', &mut line));
    // The terminal must echo again even when reading failed.
    let restored = tcsetattr(&terminal, OptionalActions::Now, &before);
    let _ = writeln!(terminal);
    read.ok()?;
    restored.ok()?;
    Some(Secret::from_file_text(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_wins_and_loses_its_line_ending() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "open sesame\n").unwrap();
        assert_eq!(
            obtain(Some(&path), "PATH", "secret").unwrap().expose(),
            b"open sesame"
        );
        let failure = obtain(Some(&folder.path().join("none")), "PATH", "secret").unwrap_err();
        assert!(
            failure.message.starts_with("cannot read the secret from "),
            "{failure}"
        );
    }

    #[test]
    fn the_environment_comes_second() {
        let expected = std::env::var_os("PATH").unwrap().into_encoded_bytes();
        assert_eq!(obtain(None, "PATH", "secret").unwrap().expose(), expected);
    }
}
