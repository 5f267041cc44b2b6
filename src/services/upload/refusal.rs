//! Why a file is not taken, for both kinds of clients: one that asked for answers is told a
//! [`Code`] and a sentence, any other one is dropped with the [`Error`].

use std::io;

use crate::ending::Error;
use crate::wire::safe_path::SafePath;
use crate::wire::upload::{Answer, Code};

/// Why a file is not taken.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What a client is told that asked for answers; `None` if there is nothing to tell, because
    /// it is gone, or has begun nothing.
    pub(super) code: Option<Code>,
    /// How the session of any other one ends.
    pub(super) error: Error,
}

impl Refusal {
    /// The client may not do that; the text says what.
    pub(super) fn new(code: Code, text: String) -> Self {
        Self {
            code: Some(code),
            error: Error::Refused(text),
        }
    }

    /// The client broke the protocol; the text says how.
    pub(super) fn malformed(text: String) -> Self {
        Self {
            code: Some(Code::BadHeader),
            error: Error::Protocol(text),
        }
    }

    /// The file could not be written, or not be named.
    pub(super) fn disk(name: &SafePath, error: io::Error) -> Self {
        Error::Disk(name.to_string(), error).into()
    }

    /// The same for a client that is told nothing.
    pub(super) fn untold(self) -> Self {
        Self { code: None, ..self }
    }

    /// What the client is told.
    pub(super) fn answer(&self) -> Option<Answer> {
        let message = match &self.error {
            Error::Refused(text) | Error::Protocol(text) => text.clone(),
            error => error.to_string(),
        };
        Some(Answer::Refused {
            error: self.code?.word().to_owned(),
            message,
        })
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        use io::ErrorKind::{
            AlreadyExists, FileTooLarge, QuotaExceeded, StorageFull, TimedOut, WouldBlock,
        };
        let code = match &error {
            Error::TimedOut(_) => Some(Code::Timeout),
            Error::Refused(_) | Error::Changed => Some(Code::Storage),
            Error::Protocol(_) | Error::Reset(_) => None,
            Error::Disk(_, error) => Some(match error.kind() {
                AlreadyExists => Code::Exists,
                StorageFull | QuotaExceeded | FileTooLarge => Code::NoSpace,
                TimedOut => Code::Timeout,
                WouldBlock => Code::Busy,
                _ => Code::Storage,
            }),
        };
        Self { code, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::upload::SafeName;

    #[test]
    fn what_the_disk_says_becomes_a_word_for_the_client() {
        let name = SafePath::from(SafeName::reduce("a").expect("a name"));
        for (errno, code) in [
            (libc::ENOSPC, Code::NoSpace),
            (libc::EDQUOT, Code::NoSpace),
            (libc::EFBIG, Code::NoSpace),
            (libc::EEXIST, Code::Exists),
            (libc::EACCES, Code::Storage),
            (libc::EMFILE, Code::Storage),
            (libc::EIO, Code::Storage),
        ] {
            let refusal = Refusal::disk(&name, io::Error::from_raw_os_error(errno));
            assert_eq!(refusal.code, Some(code));
            let Some(Answer::Refused { error, message }) = refusal.answer() else {
                panic!("a refusal");
            };
            assert_eq!(error, code.word());
            assert!(message.starts_with("a: "), "{message}");
            assert_eq!(refusal.untold().answer(), None);
        }
    }
}
