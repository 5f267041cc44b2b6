//! Compressed forms of what this server answers with: which contents have some, and which one a
//! client gets. They are made and kept by [`crate::cache::compressed`].

use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::reply::{Answered, Reply};
use crate::cache::compressed::{Answer, Compressed, Form, Source};
use crate::config::CompressConfig;
use crate::http::Status;
use crate::http::compress::is_compressible;
use crate::http::head::{Headers, put_header};
use crate::http::negotiate::{AcceptedCodings, Coding};
use crate::jobs::pending::Asker;
use crate::service::{Id, Waiter};

/// How long a request waits for forms. One that waits longer gets the content as it is: what it
/// waited for may have been thrown out again before it came to it.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(1);

/// The forms that one version of a content has, or may get; none where it is sent as it is.
#[derive(Default)]
pub(super) struct Forms(Vec<(Coding, Form)>);

/// What is sent of a text.
pub(super) struct Chosen {
    pub(super) coding: Coding,
    pub(super) body: Rc<[u8]>,
}

impl Forms {
    /// For a content of this type and length, as configured.
    pub(super) fn new(config: &CompressConfig, content_type: &str, len: u64) -> Self {
        let has_size = (config.bytes_min..=config.bytes_max).contains(&len);
        if !has_size || !is_compressible(content_type, &config.types) {
            return Self::default();
        }
        let forms = config.codings.iter().map(|&coding| (coding, Form::Unasked));
        Self(forms.collect())
    }

    /// Without this one.
    pub(super) fn remove(&mut self, coding: Coding) {
        self.0.retain(|(of, _)| *of != coding);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn codings(&self) -> impl Iterator<Item = Coding> {
        self.0.iter().map(|(coding, _)| *coding)
    }

    /// The form in this coding. For the answer [`Answer::Later`] the session is to be parked; it is
    /// woken.
    pub(super) fn ask(
        &mut self,
        coding: Coding,
        source: impl FnOnce() -> Source,
        reply: &mut Reply<'_, '_>,
    ) -> Answer {
        match self.0.iter_mut().find(|(of, _)| *of == coding) {
            None => Answer::Plain,
            Some((_, form)) => {
                let asker = &mut Asker {
                    disk: &mut *reply.cx.disk,
                    jobs: &mut *reply.cx.jobs,
                    waiter: Waiter::Service,
                    now: reply.cx.now,
                };
                let compressed = &mut *reply.cx.compressed;
                match compressed.ask(form, coding, source, reply.id, asker) {
                    Answer::Later if !reply.may_wait => Answer::Plain,
                    answer => answer,
                }
            }
        }
    }

    /// A text, in the form that the client likes best.
    pub(super) fn choose(
        &mut self,
        text: &Rc<[u8]>,
        headers: &Headers<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Poll<Chosen> {
        let as_it_is = || Chosen {
            coding: Coding::Identity,
            body: Rc::clone(text),
        };
        if self.is_empty() {
            return Poll::Ready(as_it_is());
        }
        let coding = choose(self.codings(), headers);
        match self.ask(coding, || Source::Bytes(Rc::clone(text)), reply) {
            Answer::Made(body) => Poll::Ready(Chosen { coding, body }),
            Answer::Later => Poll::Pending,
            Answer::Plain => Poll::Ready(as_it_is()),
        }
    }

    /// Throws them away: their version is no more.
    pub(super) fn discard(&self, compressed: &mut Compressed<Id>) {
        for (_, form) in &self.0 {
            compressed.discard(form);
        }
    }
}

/// The coding that a client likes best, among equals the first of `available`. One that takes none
/// of them gets the content as it is: that is more use than 406.
pub(super) fn choose(available: impl Iterator<Item = Coding>, headers: &Headers<'_>) -> Coding {
    let mut places = [Coding::Identity; Coding::ALL.len()];
    for (place, coding) in places.iter_mut().zip(available) {
        *place = coding;
    }
    let chosen = AcceptedCodings::parse(headers).choose(&places);
    chosen.unwrap_or(Coding::Identity)
}

/// Counts what was just answered with a form of a content of `len` bytes, if it was the whole of
/// it.
pub(super) fn count(form: &[u8], len: u64, reply: &mut Reply<'_, '_>) {
    let form_bytes = form.len() as u64;
    let whole = |sent: &Answered| sent.status == Status::OK && sent.body_bytes == form_bytes;
    if reply.sent.as_ref().is_some_and(whole) {
        reply.cx.counted.compressed(len - form_bytes);
    }
}

/// `Content-Encoding` as a line, where there is one.
pub(super) fn put_coding(lines: &mut Vec<u8>, coding: Coding) {
    if coding != Coding::Identity {
        put_header(lines, "Content-Encoding", coding.name());
    }
}

/// The tag of a form, from that of its content. The form is the same as long as the program is,
/// and has to differ when another program codes the content in another way.
pub(super) fn tag_of(content_tag: &str, coding: Coding, body: &[u8]) -> String {
    use std::hash::BuildHasher;
    let opaque = content_tag.trim_end_matches('"');
    let hash = foldhash::quality::FixedState::default().hash_one(body);
    format!("{opaque}-{}-{hash:x}\"", coding.name())
}
