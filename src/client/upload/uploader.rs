//! The dialogue about each file, tried again where that may help.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::thread;

use indicatif::ProgressBar;
use sha2::{Digest as _, Sha256};

use super::bars::Bars;
use super::link::{Link, Wait};
use super::source::Source;
use super::{DIGEST_BYTES_MIN, PAUSE_MAX, PIECE_BYTES, READY_WAIT, UploadArgs};
use crate::client::connect::Target;
use crate::client::stream::Stream;
use crate::client::tls::Trust;
use crate::client::{Failure, Timeouts, units};
use crate::wire::challenge::{CHALLENGE_BYTES, Secret};
use crate::wire::frame;
use crate::wire::login::{LOGIN_BYTES_MAX, Login, ObjectScanner, parse_answer};
use crate::wire::text::printable;
use crate::wire::upload::{Answer, FileHeader};

/// What became of a file.
pub(super) enum Fate {
    /// The server has it, under this name.
    Stored { filename: String },
    /// The server had the same file already, under this name.
    Skipped { filename: String },
    /// Every byte was sent, and the server closed without a word, as plain ones do.
    Unacknowledged,
}

/// What a server makes of a header.
enum Readiness {
    /// The body may go out, from this offset on.
    From(u64),
    /// It has the same file already, under this name.
    Same(String),
    /// A plain server took the file, which is empty, and closed.
    Over,
}

pub(super) struct Uploader<'a> {
    pub(super) args: &'a UploadArgs,
    pub(super) target: Target,
    pub(super) secret: Secret,
    pub(super) login: Option<Login>,
    /// Whom to trust, where TLS is spoken.
    pub(super) trust: Option<Trust>,
    /// The connection to go on with; `None` where the next file needs a new one.
    pub(super) link: Option<Link>,
    /// False once the server turned out to be a plain one.
    pub(super) knows_ack: bool,
    /// The server said `ready` at some time, so it can resume.
    pub(super) was_ready: bool,
    pub(super) bars: &'a Bars,
    pub(super) timeouts: Timeouts,
}

impl Uploader<'_> {
    /// Sends one file, trying again where that may help; what became of it.
    pub(super) fn upload(&mut self, source: &mut Source) -> Result<Fate, Failure> {
        let bar = self.bars.file(source);
        let fate = self.upload_within(source, &bar);
        self.bars.file_ended(&bar);
        fate
    }

    fn upload_within(&mut self, source: &mut Source, bar: &ProgressBar) -> Result<Fate, Failure> {
        let mut pause = self.args.retry_pause;
        let mut attempt = 0;
        loop {
            let is_again = attempt > 0 && self.was_ready;
            let failure = match self.attempt(source, is_again, bar) {
                Ok(fate) => return Ok(fate),
                Err(failure) => failure,
            };
            self.link = None;
            if attempt >= self.args.retries
                || !failure.is_worth_retrying()
                || self.timeouts.is_over()
            {
                return Err(Failure {
                    message: format!("{}: {}", source.path.display(), failure.message),
                    ..failure
                });
            }
            attempt += 1;
            self.bars.suspend(|| {
                let pause = units::Span(pause);
                eprintln!(
                    "netlab-reactor upload: {}: {failure}; trying again in {pause}",
                    source.path.display()
                );
            });
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One attempt. If a server that acknowledges may have some of the file (`is_again`), it goes on
    /// where that stands; or it has all of it, and only its word was lost.
    fn attempt(
        &mut self,
        source: &mut Source,
        is_again: bool,
        bar: &ProgressBar,
    ) -> Result<Fate, Failure> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.connect()?,
        };
        let asks = self.knows_ack;
        let (resumes, skips) = (
            self.args.resume || is_again,
            self.args.skip_same || is_again,
        );
        let header = FileHeader {
            filename: source.filename.clone(),
            size_bytes: source.size_bytes,
            ack: asks,
            sha256: match asks && (resumes || self.announces_digest(source)) {
                true => Some(source.digest().map_err(Failure::usage)?),
                false => None,
            },
            resume: asks && resumes,
            skip_same: asks && skips,
            folder: source.folder.clone(),
        };
        let mut bytes = Vec::new();
        // Invariant: a header holds a file name, a number and a digest, far less than a frame's two
        // gibibytes.
        frame::encode(&header.to_json(), &mut bytes).expect("a header fits into a frame");
        link.stream
            .begin(format!("sending the header of {:?}", source.filename));
        let sent = link.stream.write_all(&bytes);
        sent.map_err(|failure| self.or_refused_secret(&link.stream, failure))?;
        let offset = match asks {
            true => match self.await_ready(&mut link, &header)? {
                Readiness::From(offset) => offset,
                Readiness::Same(filename) => {
                    self.link = Some(link);
                    return Ok(Fate::Skipped { filename });
                }
                Readiness::Over => return Ok(Fate::Unacknowledged),
            },
            false => 0,
        };
        let digest = self.send_body(&mut link, source, offset, bar)?;
        if link.is_ready {
            let fate = self.await_stored(&mut link, source, digest)?;
            self.link = Some(link);
            return Ok(fate);
        }
        if self.args.one_connection {
            self.link = Some(link);
            return Ok(Fate::Unacknowledged);
        }
        self.farewell(link)
    }

    /// Whether the digest is announced with the first attempt already: a server keeps a broken-off
    /// file only if it knows which one it is.
    fn announces_digest(&self, source: &Source) -> bool {
        self.args.sha256 || self.args.skip_same || source.size_bytes >= DIGEST_BYTES_MIN
    }

    /// Connects, answers the challenge and logs in.
    pub(super) fn connect(&self) -> Result<Link, Failure> {
        let mut stream = Stream::connect(&self.target, self.args.common.family(), self.timeouts)?;
        if let Some(trust) = &self.trust {
            stream.begin("doing the TLS handshake");
            stream.start_tls(&self.args.host, trust)?;
        }
        if self.args.handshake.needs_secret() {
            stream.begin("waiting for the challenge");
            let mut challenge = [0; CHALLENGE_BYTES];
            stream.read_exact(&mut challenge)?;
            stream.begin("answering the challenge");
            stream.write_all(&self.args.handshake.answer(&self.secret, &challenge))?;
        }
        let Some(login) = &self.login else {
            return Ok(Link {
                stream,
                received: Vec::new(),
                is_ready: false,
            });
        };
        stream.begin("logging in");
        stream.write_all(&login.to_json())?;
        let mut scanner = ObjectScanner::new(LOGIN_BYTES_MAX);
        let mut received = Vec::new();
        stream.begin("waiting for the answer to the login");
        loop {
            let end = scanner
                .scan(&received)
                .map_err(|error| stream.broken(&error.to_string()))?;
            if let Some(end) = end {
                let accepted = parse_answer(&received[..end])
                    .map_err(|error| stream.broken(&error.to_string()))?;
                if !accepted {
                    return Err(Failure::refused(format!(
                        "{}: user or password is wrong",
                        self.target
                    )));
                }
                received.drain(..end);
                return Ok(Link {
                    stream,
                    received,
                    is_ready: false,
                });
            }
            let mut piece = [0; 512];
            match stream.read(&mut piece) {
                Ok(0) => return Err(self.refused_secret(&stream)),
                Ok(bytes) => received.extend_from_slice(&piece[..bytes]),
                Err(failure) => return Err(self.or_refused_secret(&stream, failure)),
            }
        }
    }

    /// A server that closes after the handshake did not like its answer.
    fn refused_secret(&self, stream: &Stream) -> Failure {
        if !self.args.handshake.needs_secret() {
            return stream.closed();
        }
        let kind = self.args.handshake;
        let Failure { message, .. } = stream.broken("the server dropped the connection");
        Failure::refused(format!(
            "{message}: is the secret right, and is {kind} the server's handshake?"
        ))
    }

    /// The same for one that throws the connection away instead of closing it: bytes of ours were
    /// on the way.
    fn or_refused_secret(&self, stream: &Stream, failure: Failure) -> Failure {
        match stream.is_reset() && !self.was_ready && self.args.handshake.needs_secret() {
            true => self.refused_secret(stream),
            false => failure,
        }
    }

    /// Waits for `ready`: a moment where the server may be a plain one, the whole time-out where
    /// it must be known what to send.
    fn await_ready(&mut self, link: &mut Link, header: &FileHeader) -> Result<Readiness, Failure> {
        link.stream.begin("waiting for the server to be ready");
        let patience = (!link.is_ready && !header.resume && !header.skip_same)
            .then(|| READY_WAIT.min(self.timeouts.timeout));
        let is_first = !link.is_ready;
        let answer = link.answer(patience).map_err(|failure| match is_first {
            true => self.or_refused_secret(&link.stream, failure),
            false => failure,
        })?;
        match answer {
            Wait::Answer(Answer::Ready { offset }) => {
                link.is_ready = true;
                self.was_ready = true;
                Ok(Readiness::From(offset))
            }
            Wait::Answer(Answer::Stored {
                filename,
                size_bytes,
                sha256,
            }) if header.skip_same => {
                let is_same = size_bytes == header.size_bytes && Some(sha256) == header.sha256;
                if !is_same {
                    return Err(link.stream.broken("the server has another file"));
                }
                link.is_ready = true;
                self.was_ready = true;
                Ok(Readiness::Same(filename))
            }
            Wait::Answer(answer) => Err(self.refusal(&link.stream, answer)),
            Wait::Nothing => {
                self.knows_ack = false;
                Ok(Readiness::From(0))
            }
            Wait::End if link.is_ready => Err(link.stream.closed()),
            Wait::End if header.size_bytes == 0 && !self.throws_away(link) => {
                self.knows_ack = false;
                Ok(Readiness::Over)
            }
            Wait::End => Err(self.refused_secret(&link.stream)),
        }
    }

    /// Whether a server that closed the connection right behind the header of an empty file did so
    /// unread. A plain server has all of such a file then and may close; one that did not like the
    /// secret resets what comes after its end.
    fn throws_away(&self, link: &Link) -> bool {
        let wait = READY_WAIT.min(self.timeouts.timeout);
        self.args.handshake.needs_secret() && link.stream.is_reset_within(wait)
    }

    /// Sends the bytes from `offset` on; answers the digest of the whole file, where it is known
    /// without reading twice.
    fn send_body(
        &mut self,
        link: &mut Link,
        source: &mut Source,
        offset: u64,
        bar: &ProgressBar,
    ) -> Result<Option<[u8; 32]>, Failure> {
        if offset > source.size_bytes {
            return Err(link.stream.broken(&format!(
                "the server asks for byte {offset} of {}",
                source.size_bytes
            )));
        }
        let unreadable = |error: std::io::Error| Failure::usage(format!("reading: {error}"));
        source
            .file
            .seek(SeekFrom::Start(offset))
            .map_err(unreadable)?;
        let mut digest = (offset == 0 && link.is_ready).then(Sha256::new);
        let mut buffer = vec![0; PIECE_BYTES];
        let mut left = source.size_bytes - offset;
        bar.set_position(offset);
        link.stream.begin(format!("sending {:?}", source.filename));
        while left > 0 {
            let room = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let bytes = source.file.read(&mut buffer[..room]).map_err(unreadable)?;
            if bytes == 0 {
                return Err(Failure::usage(format!(
                    "the file became shorter while it was sent, {left} bytes are missing"
                )));
            }
            if let Some(digest) = &mut digest {
                digest.update(&buffer[..bytes]);
            }
            link.stream.touch();
            if let Err(failure) = link.stream.write_all(&buffer[..bytes]) {
                return Err(match left == source.size_bytes {
                    true => self.or_refused_secret(&link.stream, failure),
                    false => self.why_it_broke(link, failure),
                });
            }
            left -= bytes as u64;
            bar.inc(bytes as u64);
        }
        Ok(digest
            .map(|digest| digest.finalize().into())
            .or(source.sha256))
    }

    /// A server that breaks off while a file comes may have said why.
    fn why_it_broke(&mut self, link: &mut Link, failure: Failure) -> Failure {
        if !link.is_ready {
            return failure;
        }
        match link.answer(Some(READY_WAIT)) {
            Ok(Wait::Answer(answer @ Answer::Refused { .. })) => self.refusal(&link.stream, answer),
            _ => failure,
        }
    }

    /// The final answer of a server that said `ready`.
    fn await_stored(
        &mut self,
        link: &mut Link,
        source: &Source,
        digest: Option<[u8; 32]>,
    ) -> Result<Fate, Failure> {
        link.stream
            .begin(format!("waiting for {:?} to be stored", source.filename));
        match link.answer(None)? {
            Wait::Answer(Answer::Stored {
                filename,
                size_bytes,
                sha256,
            }) => {
                if size_bytes != source.size_bytes || digest.is_some_and(|digest| digest != sha256)
                {
                    return Err(link
                        .stream
                        .broken("the server stored other bytes than were sent"));
                }
                Ok(Fate::Stored { filename })
            }
            Wait::Answer(answer) => Err(self.refusal(&link.stream, answer)),
            Wait::End | Wait::Nothing => Err(link.stream.closed()),
        }
    }

    pub(super) fn refusal(&self, stream: &Stream, answer: Answer) -> Failure {
        match answer {
            Answer::Refused { error, message } => {
                let words = printable(format!("{error}: {message}").as_bytes());
                Failure::refused(format!(
                    "{}: the server refused the file: {words}",
                    self.target
                ))
            }
            Answer::Ready { .. } | Answer::Stored { .. } => {
                stream.broken("an answer came that does not belong there")
            }
        }
    }

    /// Half-closes after the last file of a plain connection and waits for the server to do the
    /// same: a reset instead would mean that bytes were thrown away.
    fn farewell(&mut self, mut link: Link) -> Result<Fate, Failure> {
        link.stream
            .begin("waiting for the server to close the connection");
        link.stream.finish();
        let answer = link
            .answer(None)
            .map_err(|failure| self.or_refused_secret(&link.stream, failure))?;
        match answer {
            Wait::End if link.stream.has_error() => Err(self.refused_secret(&link.stream)),
            Wait::End | Wait::Nothing => Ok(Fate::Unacknowledged),
            // The server speaks of acknowledgements after all, but late.
            Wait::Answer(Answer::Ready { .. }) if self.knows_ack || !self.args.plain => {
                match link.answer(None)? {
                    Wait::Answer(Answer::Stored { filename, .. }) => Ok(Fate::Stored { filename }),
                    Wait::Answer(answer) => Err(self.refusal(&link.stream, answer)),
                    Wait::End | Wait::Nothing => Ok(Fate::Unacknowledged),
                }
            }
            Wait::Answer(answer) => Err(self.refusal(&link.stream, answer)),
        }
    }

    /// Ends a connection that is still open after the last file. Where everything on it was
    /// acknowledged there is nothing to wait for.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        match self.link.take() {
            Some(mut link) if link.is_ready => link.stream.finish(),
            Some(link) => _ = self.farewell(link)?,
            None => {}
        }
        Ok(())
    }
}
