//! What must be known of a request while it is on its way: its head has long been written anew.

use super::route::Form;
use super::upgrade;
use crate::http::body::BodyDecoder;
use crate::http::head::{BodyLength, RequestHead};
use crate::http::negotiate::ErrorFormat;
use crate::http::persistence::Persistence;
use crate::http::{Method, Version};
use crate::service::{Io, Link};

/// What must be known of a request while it is answered.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub(super) form: Form,
    pub(super) version: Version,
    pub(super) body: BodyLength,
    /// It is a HEAD: its answer has no body.
    pub(super) is_head: bool,
    /// It may be sent again when nobody knows whether it arrived.
    pub(super) repeatable: bool,
    /// The client's connection stays after the answer, if nothing else speaks against it.
    pub(super) keep_alive: bool,
    /// The client waits for the origin's word before it sends the body.
    pub(super) expects_continue: bool,
    /// It asks for another protocol, and the origin is told.
    pub(super) upgrades: bool,
    pub(super) format: ErrorFormat,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            form: Form::Forward,
            version: Version::Http11,
            body: BodyLength::None,
            is_head: false,
            repeatable: false,
            keep_alive: false,
            expects_continue: false,
            upgrades: false,
            format: ErrorFormat::Text,
        }
    }
}

impl Request {
    pub(super) fn new(head: &RequestHead<'_>, persistence: Persistence, form: Form) -> Self {
        // RFC 9112 section 9.3: an old proxy between the client and us may pass on a `keep-alive`
        // that it does not understand.
        let proxied_1_0 = head.version == Version::Http10 && form != Form::Gateway;
        Self {
            form,
            version: head.version,
            body: head.body,
            is_head: head.method == Method::Head,
            repeatable: head.method.is_idempotent() && head.body == BodyLength::None,
            keep_alive: persistence != Persistence::Ends && !proxied_1_0,
            expects_continue: head.expect_continue,
            upgrades: upgrade::is_asked(head, form),
            format: ErrorFormat::parse(&head.headers, ErrorFormat::Text),
        }
    }

    /// The method by which the framing of its response is judged (RFC 9112 section 6.3).
    pub(super) fn framing_method(&self) -> Method<'static> {
        match self.is_head {
            true => Method::Head,
            false => Method::Get,
        }
    }

    /// Whether the client's connection stays after an answer that comes before the body was read.
    pub(super) fn stays(&self, io: &Io<'_>) -> bool {
        self.keep_alive && self.body == BodyLength::None && !io.cx.draining
    }

    /// Whether the client ended within the body of this request, all of which waits.
    pub(super) fn is_cut_short(&self, down: &Link) -> bool {
        if !down.eof {
            return false;
        }
        let mut body = BodyDecoder::new(self.body);
        let mut rest = down.rx.bytes();
        loop {
            match body.step(rest) {
                Ok(step) if step.done => return false,
                Ok(step) if step.consumed() == 0 => return true,
                Ok(step) => rest = &rest[step.consumed()..],
                Err(_) => return false, // the client is told what is wrong when the body is sent on
            }
        }
    }
}
