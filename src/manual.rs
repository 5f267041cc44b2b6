//! The manual pages and the shell completions, made from the definition of the command line.
//!
//! `clap_mangen` renders everything but what stands below `--help`: it would fill those lines, and
//! examples that are broken anew at every width cannot be copied. Here they become sections of
//! their own and keep their lines.

use std::io;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// The beginnings of the parts below `--help`, and the sections that they become; what has none of
/// them is a note.
const SECTIONS: [(&str, &str); 3] = [
    ("Examples:", "EXAMPLES"),
    ("Environment", "ENVIRONMENT"),
    ("Exit codes:", "EXIT STATUS"),
];

/// The pages of the command and of all subcommands: the name of the command with its parents, and
/// the text.
///
/// # Errors
/// None that writing to memory could have.
pub(crate) fn pages(command: Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    let mut left = vec![command];
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands().cloned());
        let name = command.get_display_name().unwrap_or(command.get_name());
        pages.push((name.to_owned(), page(&command)?));
    }
    Ok(pages)
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(text) = command.get_after_help() {
        page.extend(sections(&text.to_string()).into_bytes());
    }
    if command.get_version().is_some() {
        man.render_version_section(&mut page)?;
    }
    Ok(page)
}

/// The text below `--help` as sections whose lines stay as they are.
fn sections(text: &str) -> String {
    let mut roff = String::new();
    let mut section = "";
    for line in text.lines() {
        let begun = SECTIONS.iter().find(|(start, _)| line.starts_with(start));
        let (heading, line) = match begun {
            // The heading says the same.
            Some((start, heading)) if start.ends_with(':') => (
                *heading,
                line.strip_prefix(start).unwrap_or(line).trim_start(),
            ),
            Some((_, heading)) => (*heading, line),
            None if section.is_empty() => ("NOTES", line),
            None => (section, line),
        };
        if heading != section {
            if !section.is_empty() {
                roff += ".fi\n";
            }
            // With less indentation than usual, lines made for 80 columns still fit.
            roff += &format!(".SH \"{heading}\"\n.nf\n.in 1n\n");
            section = heading;
            if line.is_empty() {
                continue;
            }
        }
        roff += &format!("{}\n", literal(line));
    }
    roff + ".fi\n"
}

/// A line of which nothing is a request to the formatter.
fn literal(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line,
    }
}

/// The completions for a shell.
pub(crate) fn completions(shell: Shell, mut command: Command) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, &name, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        // clap_complete 4.6 names the states of a command with a hyphen in two ways, so that none
        // is ever found.
        Shell::Bash => script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__")),
        _ => script,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_below_help_becomes_sections_with_its_lines() {
        let text = "It serves.\n\nExamples:\n  a -b 'c\\d'\n.x\n\nExit codes: 0 done,\n1 not.";
        let expected = ".SH \"NOTES\"\n.nf\n.in 1n\nIt serves.\n\n.fi\n\
                        .SH \"EXAMPLES\"\n.nf\n.in 1n\n  a \\-b 'c\\ed'\n\\&.x\n\n.fi\n\
                        .SH \"EXIT STATUS\"\n.nf\n.in 1n\n0 done,\n1 not.\n.fi\n";
        assert_eq!(sections(text), expected);
    }
}
