//! What is wrong with a configuration, and where: `FILE:LINE:COLUMN: what was wrong; what was
//! expected`.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How much a problem weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The configuration cannot be used.
    Wrong,
    /// A file that it names cannot be used. Nothing can be served for the first time with it; what
    /// is served already goes on with what the file held before.
    BadFile,
    /// It can be used, but is hardly meant so.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How much it weighs.
    pub weight: Weight,
    /// The file that it stands in.
    pub file: PathBuf,
    /// Where in the file; `None` where it is about the file as a whole.
    pub place: Option<Place>,
    /// What was wrong, a semicolon, and what was expected.
    pub what: String,
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
}

impl Place {
    /// The place of the byte at `offset`; behind the end it is the end.
    pub fn of(text: &str, offset: usize) -> Place {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line_start = before
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        // A byte order mark takes no column, and neither do the later bytes of one character.
        let characters = String::from_utf8_lossy(&before[line_start..]);
        Place {
            line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
            column: characters
                .chars()
                .filter(|&character| character != '\u{feff}')
                .count()
                + 1,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:", self.file.display())?;
        if let Some(Place { line, column }) = self.place {
            write!(out, "{line}:{column}:")?;
        }
        let word = match self.weight {
            Weight::Warning => " warning:",
            Weight::Wrong | Weight::BadFile => "",
        };
        write!(out, "{word} {}", self.what)
    }
}

/// Everything that is wrong with a configuration, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// A single problem with the file as a whole.
    pub(super) fn whole(file: &Path, what: String) -> Problems {
        Problems(vec![Problem {
            weight: Weight::Wrong,
            file: file.to_owned(),
            place: None,
            what,
        }])
    }

    /// Gives each finding its place in `text`, and sorts them by it.
    pub(super) fn located(file: &Path, text: &str, findings: Vec<Finding>) -> Problems {
        let locate = |finding: Finding| Problem {
            weight: finding.weight,
            file: file.to_owned(),
            place: Some(Place::of(text, finding.span.start)),
            what: finding.what,
        };
        let mut problems: Vec<Problem> = findings.into_iter().map(locate).collect();
        problems.sort_by_key(|problem| problem.place);
        Problems(problems)
    }

    /// Whether one of them weighs so much.
    pub(super) fn any(&self, weight: Weight) -> bool {
        self.0.iter().any(|problem| problem.weight == weight)
    }
}

impl fmt::Display for Problems {
    /// One line for each problem.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(out, "{newline}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A problem as the reader finds it: at a range of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// How much it weighs.
    pub(super) weight: Weight,
    /// The bytes of the offending key or value.
    pub(super) span: Range<usize>,
    /// What was wrong, a semicolon, and what was expected.
    pub(super) what: String,
}

/// The known word that was probably meant: the nearest one, if it is near.
pub(super) fn nearest<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let bound = (typed.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|word| (edits(&fold(typed), &fold(word)), word))
        .filter(|&(distance, _)| distance <= bound)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, word)| word)
}

/// A word as it is compared: lower case, with one kind of joint.
fn fold(word: &str) -> Vec<char> {
    word.to_lowercase().replace('-', "_").chars().collect()
}

/// The insertions, deletions and replacements that lead from one word to the other (Levenshtein).
fn edits(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_from_one() {
        let text = "\u{feff}ä = 1\nöß = 2\n";
        assert_eq!(Place::of(text, 0), Place { line: 1, column: 1 });
        assert_eq!(
            Place::of(text, text.find('=').unwrap()),
            Place { line: 1, column: 3 }
        );
        assert_eq!(
            Place::of(text, text.find('2').unwrap()),
            Place { line: 2, column: 6 }
        );
        assert_eq!(Place::of(text, 1000), Place { line: 3, column: 1 });
    }

    #[test]
    fn a_problem_prints_as_file_line_column() {
        let finding = |weight| Finding {
            weight,
            span: 2..3,
            what: "bad; expected good".to_owned(),
        };
        let printed = |weight| {
            let findings = vec![finding(weight)];
            Problems::located(Path::new("x.toml"), "a\nb\n", findings).to_string()
        };
        assert_eq!(printed(Weight::Wrong), "x.toml:2:1: bad; expected good");
        assert_eq!(
            printed(Weight::Warning),
            "x.toml:2:1: warning: bad; expected good"
        );
        let whole = Problems::whole(Path::new("x.toml"), "is a folder".to_owned());
        assert_eq!(whole.to_string(), "x.toml: is a folder");
    }

    #[test]
    fn the_nearest_word_is_found_only_when_it_is_near() {
        let known = ["idle_timeout", "head_timeout", "root"];
        assert_eq!(nearest("idle_timout", known), Some("idle_timeout"));
        assert_eq!(nearest("idle-timeout", known), Some("idle_timeout"));
        assert_eq!(nearest("Root", known), Some("root"));
        assert_eq!(nearest("listing", known), None);
        assert_eq!(edits(&fold("kitten"), &fold("sitting")), 3);
    }
}
