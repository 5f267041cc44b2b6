//! What a step of a request comes to, and whether the origin takes what waits for it.

use crate::buffer::PAGE_BYTES;
use crate::ending::Ending;
use crate::http::Status;
use crate::http::body::BodyError;
use crate::http::proxy_status::ProxyError;
use crate::service::Link;
use crate::services::web::reply::Refusal;

/// What a step of a request came to.
pub(in crate::services::web) enum Outcome {
    /// Nothing more can be done now.
    Wait,
    /// It is answered. `stays`: the client's connection can take another request.
    Done { stays: bool },
    /// It is to be answered by this server.
    Refused {
        refusal: Refusal,
        stays: bool,
        ending: Ending,
    },
}

/// What came of looking at a state: another state `S`, or a rest.
pub(super) enum Step<S> {
    Go(S),
    Rest(Outcome),
}

/// How much had left for the origin when it was last looked at: more by now means that the origin
/// takes what waits.
#[derive(Default)]
pub(super) struct Backlog(Option<u64>);

impl<S> Step<S> {
    /// Nothing more can be done now.
    pub(super) const WAIT: Self = Step::Rest(Outcome::Wait);

    /// The request is answered.
    pub(super) fn done(stays: bool) -> Self {
        Step::Rest(Outcome::Done { stays })
    }

    /// This server is to answer in the origin's stead.
    pub(super) fn refused(status: Status, error: ProxyError, text: &str, stays: bool) -> Self {
        log::debug!("proxy: {status}: {text}");
        Step::Rest(Outcome::Refused {
            refusal: Refusal::proxied(status, error, text),
            stays,
            ending: Ending::Done,
        })
    }

    /// The client ended before its request was whole: nobody is asked for what could not be sent
    /// on.
    pub(super) fn cut_short() -> Self {
        let text = BodyError::Truncated.text();
        let error = ProxyError::HttpRequestError;
        Self::refused(Status::BAD_REQUEST, error, text, false)
    }
}

impl Backlog {
    /// Whether the origin took some of what waited at the last look.
    pub(super) fn shrank(&self, up: &Link) -> bool {
        self.0.is_some_and(|sent| up.sent > sent)
    }

    /// Takes that look. More than a page is watched as it goes. Less than that goes at once or not
    /// at all, and is not worth another call.
    pub(super) fn watch(&mut self, up: &mut Link) {
        let waits = up.tx.waiting_bytes() > PAGE_BYTES && !up.tx.is_empty_or_wakes();
        self.0 = waits.then_some(up.sent);
    }
}
