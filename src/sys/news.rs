//! What the process tells whoever supervises it (`man 3 sd_notify`).
//!
//! Only the words are here. That they are sent, and repeated, is the loop's business
//! (`reactor::supervised`); where to, the kernel's (`sys::unix`).

/// One thing to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The start, or reading the configuration again, is done: what is served now, in a few words.
    Ready(String),
    /// The configuration is being read again; [`News::Ready`] follows.
    Reloading,
    /// The process ends: what it still waits for.
    Stopping(String),
    /// The loop turns.
    Alive,
}

impl News {
    /// As the supervisor reads it. `monotonic_usec`: microseconds of `CLOCK_MONOTONIC`, by which it
    /// tells a new answer from an old one.
    pub fn text(&self, monotonic_usec: u64) -> String {
        match self {
            News::Ready(status) => format!("READY=1\nSTATUS={}", one_line(status)),
            News::Reloading => {
                format!(
                    "RELOADING=1\nMONOTONIC_USEC={monotonic_usec}\nSTATUS=reading the configuration"
                )
            }
            News::Stopping(status) => format!("STOPPING=1\nSTATUS={}", one_line(status)),
            News::Alive => "WATCHDOG=1".to_owned(),
        }
    }
}

/// A status is one line: a line feed in it would begin another assignment.
fn one_line(status: &str) -> String {
    status.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_in_the_words_of_sd_notify() {
        let text = |news: News| news.text(17);
        assert_eq!(
            text(News::Ready("2 listeners".into())),
            "READY=1\nSTATUS=2 listeners"
        );
        let reloading = text(News::Reloading);
        let lines: Vec<&str> = reloading.lines().collect();
        assert_eq!(lines[..2], ["RELOADING=1", "MONOTONIC_USEC=17"]);
        assert_eq!(
            text(News::Stopping("a\nREADY=1".into())),
            "STOPPING=1\nSTATUS=a READY=1"
        );
        assert_eq!(text(News::Alive), "WATCHDOG=1");
    }
}
