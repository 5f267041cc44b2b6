//! Which lines there are, as `RUST_LOG` says it: `debug`, `info,netlab_reactor::dns=trace`.

use std::fmt;
use std::sync::Arc;

use env_logger::{Builder, Logger};
use log::{LevelFilter, Log as _, Metadata};

/// What stands before every module of this program.
const OWN: &str = "netlab_reactor";

/// Which lines there are.
#[derive(Clone)]
pub struct Filters {
    text: Arc<str>,
    /// It writes nothing: it is asked what it would write.
    logger: Arc<Logger>,
}

/// A text that is no filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongFilter {
    /// The part of it that is none.
    pub part: String,
}

impl fmt::Display for WrongFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no filter of the log; expected parts between commas, each a level (off, \
             error, warn, info, debug, trace), a module such as {OWN}::dns, or MODULE=LEVEL",
            self.part
        )
    }
}

impl Filters {
    /// Reads filters.
    ///
    /// # Errors
    /// The part that is neither a level, nor a module of ours, nor a module with a level. A word
    /// that stands alone and is no level is one that was mistyped, not a module of that name.
    pub fn parse(text: &str) -> Result<Self, WrongFilter> {
        for part in text.split(',').map(str::trim) {
            let is_meant = part.contains('=') || part.contains("::") || part == OWN;
            let is_right = is_level(part) || (is_meant && is_directive(part));
            if !is_right {
                let part = part.to_owned();
                return Err(WrongFilter { part });
            }
        }
        Ok(Self::built(text, Builder::new().parse_filters(text)))
    }

    /// The same from a variable that all programs read: what it has for others is passed over.
    pub fn parse_loosely(text: &str) -> Self {
        let parts = text.split(',').map(str::trim);
        let parts: Vec<&str> = parts.filter(|part| is_directive(part)).collect();
        match parts.is_empty() {
            true => Self::default(),
            false => Self::built(text, Builder::new().parse_filters(&parts.join(","))),
        }
    }

    fn built(text: &str, builder: &mut Builder) -> Self {
        Self {
            text: text.into(),
            logger: Arc::new(builder.build()),
        }
    }

    /// The most that any of them lets through.
    pub fn max_level(&self) -> LevelFilter {
        self.logger.filter()
    }

    /// Whether a line like this is to be written.
    pub fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }
}

fn is_level(word: &str) -> bool {
    word.parse::<LevelFilter>().is_ok()
}

/// Whether a part is a level, a module, or a module with a level.
fn is_directive(part: &str) -> bool {
    let is_module = |word: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut names = word.split("::");
        names.all(|name| !name.is_empty() && name.chars().all(is_plain))
    };
    match part.split_once('=') {
        Some((module, level)) => is_module(module) && is_level(level),
        None => is_module(part),
    }
}

/// What is logged unless somebody says otherwise: `info`.
impl Default for Filters {
    fn default() -> Self {
        Self::built("info", Builder::new().filter_level(LevelFilter::Info))
    }
}

impl fmt::Display for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl PartialEq for Filters {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Filters {}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;

    fn lets_through(filters: &Filters, target: &str, level: Level) -> bool {
        filters.enabled(&Metadata::builder().target(target).level(level).build())
    }

    #[test]
    fn levels_and_modules_are_told_apart_and_anything_else_is_a_mistake() {
        let filters = Filters::parse("warn,netlab_reactor::dns=trace").expect("filters");
        assert_eq!(filters.max_level(), LevelFilter::Trace);
        assert!(lets_through(
            &filters,
            "netlab_reactor::dns::resolver",
            Level::Trace
        ));
        assert!(!lets_through(
            &filters,
            "netlab_reactor::reactor",
            Level::Info
        ));
        for right in [
            "off",
            "INFO",
            "netlab_reactor",
            "a::b",
            "rustls=debug, info",
        ] {
            assert!(Filters::parse(right).is_ok(), "{right}");
        }
        for wrong in [
            "", "debgu", "info,", "x=loud", "a b=info", "dns", "=info", "a:::b",
        ] {
            let told = Filters::parse(wrong).expect_err(wrong).to_string();
            assert!(told.contains("expected parts between commas"), "{told}");
        }
    }

    #[test]
    fn a_variable_for_all_programs_may_have_what_is_not_for_this_one() {
        assert_eq!(Filters::parse_loosely("x=loud"), Filters::default());
        assert_eq!(
            Filters::parse_loosely("other").max_level(),
            LevelFilter::Trace
        );
    }
}
