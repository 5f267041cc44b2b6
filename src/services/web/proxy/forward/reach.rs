//! From addresses to a connection on which the origin is spoken to, a parent's tunnel included.
//!
//! ```text
//! Connecting ──▶ the head is sent, or the client's tunnel is open
//!     └──a parent is to open a tunnel──▶ Asking ──2xx──▶ the client's tunnel is open
//!                                           └──2xx, https──▶ Securing ──▶ the head is sent
//! ```

use std::io;
use std::task::Poll;
use std::time::Instant;

use super::{Forward, State, Step, unconnected};
use crate::http::Status;
use crate::http::proxy_status::ProxyError;
use crate::service::Io;
use crate::service::origins::Through;
use crate::services::web::proxy::opening::tls_to;
use crate::services::web::proxy::parent::{self, Asking};
use crate::services::web::proxy::route::Form;
use crate::services::web::proxy::tunnel::TUNNEL_OPEN;
use crate::services::web::proxy::{Proxy, canonical};

impl Forward {
    /// Looks for a connection that is being made; `None` once it is there.
    pub(super) fn made(&self, until: Instant, proxy: &Proxy, io: &mut Io<'_>) -> Option<Step> {
        let result = match io.connect(&[], proxy.rules.connect_timeout) {
            Poll::Pending if self.request.is_cut_short(io.down) => return Some(Step::cut_short()),
            Poll::Pending if io.cx.now < until => return Some(Step::WAIT),
            Poll::Pending => Err(io::ErrorKind::TimedOut),
            Poll::Ready(result) => result,
        };
        let Err(kind) = result else { return None };
        let (authority, stays) = (&self.origin.authority, self.request.stays(io));
        let (status, error) = unconnected(kind, io.trouble);
        let parent = proxy.rules.parent_by(&self.way);
        // In the tunnel that a parent opened TLS is spoken with the origin.
        let parent = parent.filter(|_| !matches!(self.state, State::Securing { .. }));
        let text = match (io.trouble, parent) {
            (Some(trouble), Some(parent)) => {
                format!(
                    "parent {}: no connection over TLS: {}",
                    parent.name, trouble.text
                )
            }
            (Some(trouble), None) => {
                format!("{authority}: no connection over TLS: {}", trouble.text)
            }
            (None, Some(parent)) => format!("parent {}: no connection: {kind}", parent.name),
            (None, None) => format!("{authority}: no connection: {kind}"),
        };
        Some(Step::refused(status, error, &text, stays))
    }

    pub(super) fn connect(&mut self, until: Instant, proxy: &mut Proxy, io: &mut Io<'_>) -> Step {
        if let Some(step) = self.made(until, proxy, io) {
            return step;
        }
        if let Some(ends) = &io.ends
            && !proxy.rules.may_lead_here(ends, &self.way)
        {
            let authority = &self.origin.authority;
            let text = format!("{authority}: it is this machine, which is refused here");
            let error = ProxyError::DestinationIpProhibited;
            return self.refuse((Status::FORBIDDEN, error, text), io);
        }
        match (&proxy.rules.parent, self.way.through) {
            (Some(parent), Through::Tunnel) => {
                proxy.scratch.clear();
                parent.put_connect(&mut proxy.scratch, &self.head, &self.origin);
                io.up.tx.put(&proxy.scratch, io.cx.pool);
                Step::Go(State::Asking(Asking::new(io.cx.now + parent.timeout)))
            }
            _ if self.request.form == Form::Tunnel => self.open_tunnel(proxy, io),
            _ => self.send(false, proxy, io),
        }
    }

    /// Looks for the answer of a parent that was asked for a tunnel.
    pub(super) fn ask(&mut self, proxy: &mut Proxy, io: &mut Io<'_>) -> Step {
        let rules = &proxy.rules;
        let (State::Asking(asking), Some(parent)) = (&mut self.state, &rules.parent) else {
            unreachable!("a parent is asked where there is one");
        };
        if self.request.is_cut_short(io.down) {
            return Step::cut_short();
        }
        match asking.advance(&rules.response_limits, io) {
            Poll::Pending => return Step::WAIT,
            Poll::Ready(Err(why)) => {
                let why = parent::refused(parent, &self.origin, why);
                return self.refuse(why, io);
            }
            Poll::Ready(Ok(())) if self.request.form == Form::Tunnel => {
                return self.open_tunnel(proxy, io);
            }
            Poll::Ready(Ok(())) => {}
        }
        match tls_to(&self.origin, rules) {
            Ok(Some(tls)) if io.up.is_reusable() => {
                io.secure(tls, rules.connect_timeout);
                let until = io.cx.now + rules.connect_timeout;
                Step::Go(State::Securing { until })
            }
            // Whoever speaks TLS waits for the client's first word.
            _ => {
                let what = "something of its own came ahead of TLS, or its end".to_owned();
                let why = (ProxyError::TlsProtocolError, what);
                let why = parent::refused(parent, &self.origin, why);
                self.refuse(why, io)
            }
        }
    }

    /// Bytes go both ways from here on, as the client asked by CONNECT.
    fn open_tunnel(&self, proxy: &mut Proxy, io: &mut Io<'_>) -> Step {
        io.down.tx.put(TUNNEL_OPEN, io.cx.pool);
        let local = io.ends.map(|ends| canonical(ends.local));
        proxy.tunnels.extend(local);
        State::tunnel(Status::OK, local, proxy, io)
    }
}
