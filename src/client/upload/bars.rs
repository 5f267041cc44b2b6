//! Progress on a terminal: a bar for each file under way, and how many of all files are done.

use std::io::IsTerminal as _;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::source::Source;
use crate::client::output::no_color;

/// The bars of all connections, or none.
pub(super) struct Bars {
    all: MultiProgress,
    /// The files that are done; only if there are several.
    files: Option<ProgressBar>,
    is_shown: bool,
}

impl Bars {
    /// Bars for so many files on standard error, if a person sees that and wants them.
    pub(super) fn new(files: usize, are_wanted: bool) -> Self {
        let is_shown = are_wanted && std::io::stderr().is_terminal();
        let all = MultiProgress::with_draw_target(match is_shown {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        });
        let files = (is_shown && files > 1).then(|| {
            let bar = all.add(ProgressBar::new(files as u64));
            if let Ok(style) = ProgressStyle::with_template("{pos} of {len} files, {elapsed}") {
                bar.set_style(style);
            }
            bar
        });
        Self {
            all,
            files,
            is_shown,
        }
    }

    /// A bar for one file.
    pub(super) fn file(&self, source: &Source) -> ProgressBar {
        if !self.is_shown {
            return ProgressBar::hidden();
        }
        let bar = self.all.insert(0, ProgressBar::new(source.size_bytes));
        let colour = if no_color() { "" } else { ".green" };
        let template = format!(
            "{{msg:16!}} {{bar:15{colour}}} {{bytes:>11}}/{{total_bytes}} {{bytes_per_sec}} {{eta}} left"
        );
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_message(source.filename.clone());
        bar
    }

    /// What the bar is for has come to an end.
    pub(super) fn file_ended(&self, bar: &ProgressBar) {
        bar.finish_and_clear();
        self.all.remove(bar);
        if let Some(files) = &self.files {
            files.inc(1);
        }
    }

    /// Writes something else to the terminal.
    pub(super) fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        self.all.suspend(write)
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        if let Some(files) = &self.files {
            files.finish_and_clear();
        }
    }
}
