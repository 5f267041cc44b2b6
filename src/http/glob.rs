//! Patterns for paths: `*.css`, `img/**`, `v?/*.js`.
//!
//! | in a pattern | stands for |
//! |---|---|
//! | `*` | any characters but `/`, also none |
//! | `**` | any characters, also none; `**/` any folders, also none |
//! | `?` | one character but `/` |
//! | all else | itself |
//!
//! Rules:
//! 1. A pattern without a `/` is matched with the last segment of a path alone, one with a `/` with
//!    the whole path. A `/` at its beginning only says that.
//! 2. The time is bounded by the product of both lengths, whatever a peer asks for: all ways to
//!    match are followed at once.
//!
//! Not here: sets of characters, alternatives, negation.

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    steps: Vec<Step>,
    /// It is matched with the whole path.
    whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Literal(char),
    /// `?`
    One,
    /// `*`
    Many,
    /// `**`
    All,
    /// `**/`
    Folders,
}

impl Glob {
    /// Reads a pattern; every text is one.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        let whole = pattern.contains('/');
        let mut rest = pattern.strip_prefix('/').unwrap_or(pattern);
        let mut steps = Vec::new();
        while let Some(first) = rest.chars().next() {
            let (step, len) = match first {
                _ if rest.starts_with("**/") => (Step::Folders, 3),
                _ if rest.starts_with("**") => (Step::All, 2),
                '*' => (Step::Many, 1),
                '?' => (Step::One, 1),
                literal => (Step::Literal(literal), literal.len_utf8()),
            };
            steps.push(step);
            rest = &rest[len..];
        }
        Self { steps, whole }
    }

    /// Whether a path, relative to its root, fits.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let text = match path.rsplit_once('/') {
            Some((_, last)) if !self.whole => last,
            _ => path,
        };
        // Which steps may come next; the last place means that all are done.
        let mut at = vec![false; self.steps.len() + 1];
        let mut next = at.clone();
        self.arrive(&mut at, 0);
        for c in text.chars() {
            next.fill(false);
            for (place, step) in self.steps.iter().enumerate() {
                if !at[place] {
                    continue;
                }
                match *step {
                    Step::Literal(literal) if literal == c => self.arrive(&mut next, place + 1),
                    Step::One if c != '/' => self.arrive(&mut next, place + 1),
                    Step::Many if c != '/' => self.arrive(&mut next, place),
                    Step::All => self.arrive(&mut next, place),
                    Step::Folders => {
                        next[place] = true;
                        if c == '/' {
                            self.arrive(&mut next, place + 1);
                        }
                    }
                    _ => {}
                }
            }
            std::mem::swap(&mut at, &mut next);
        }
        at[self.steps.len()]
    }

    /// Marks a place, and those behind it that need no character.
    fn arrive(&self, at: &mut [bool], place: usize) {
        let needs_none = |step: &&Step| matches!(step, Step::Many | Step::All | Step::Folders);
        let optional = self.steps[place..].iter().take_while(needs_none).count();
        at[place..=place + optional].fill(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_they_say() {
        for (pattern, fits, others) in [
            (
                "*.css",
                &["a.css", "x/y/.css", "x/a.css"][..],
                &["a.css/b", "a.scss2", "css"][..],
            ),
            ("/*.css", &["a.css"], &["x/a.css"]),
            ("img/*", &["img/a", "img/"], &["img", "img/a/b", "x/img/a"]),
            ("img/**", &["img/a", "img/a/b"], &["img", "imgs/a"]),
            ("**/a", &["a", "x/a", "x/y/a"], &["xa", "x/ya", "a/b"]),
            ("x/**/a?", &["x/ab", "x/y/z/a\u{fc}"], &["x/a", "x/a/"]),
            ("**", &["", "a", "a/b"], &[]),
            ("a", &["a", "x/a"], &["A", "ab", ""]),
        ] {
            let glob = Glob::new(pattern);
            for path in fits {
                assert!(glob.matches(path), "{pattern} {path}");
            }
            for path in others {
                assert!(!glob.matches(path), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn a_pattern_with_many_stars_takes_no_longer_for_a_long_path() {
        let glob = Glob::new(&"*a".repeat(50));
        assert!(!glob.matches(&"a".repeat(8000).replace("aaaaaaaa", "aaaaaaab")));
    }
}
