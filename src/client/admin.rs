//! The admin listener of a running server: where it is, what lets us in, and one request to it.

use std::path::PathBuf;

use clap::Args;

use super::get::exchange::{Head, read_body, send};
use super::secrets;
use super::stream::Stream;
use super::tls::TlsArgs;
use super::url::Url;
use super::{CommonArgs, Failure, Timeouts};
use crate::http::Method;
use crate::http::head;
use crate::wire::challenge::Secret;

/// What holds the token where no file is named.
const TOKEN: &str = "NETLAB_ADMIN_TOKEN";

/// The flags of clients that ask an admin listener.
#[derive(Debug, Clone, Args)]
pub struct AdminArgs {
    /// The admin pages of the server: http or https, with a path where a route leads to them
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "NETLAB_ADMIN",
        default_value = "http://127.0.0.1:9090"
    )]
    admin: String,

    /// Read the token that the admin listener wants from this file; else it is that of the
    /// environment variable NETLAB_ADMIN_TOKEN
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// An answer that begins: what follows its head is still to be read.
pub(super) struct Answer {
    stream: Stream,
    received: Vec<u8>,
    head: Head,
}

impl AdminArgs {
    /// Asks for a path below that URL; the answer, if the server gives one. `certificates`: whom to
    /// trust where TLS is spoken.
    ///
    /// # Errors
    /// The listener cannot be reached or is not trusted, or it refuses: with what it says.
    pub(super) fn ask(
        &self,
        path: &str,
        certificates: &TlsArgs,
        common: &CommonArgs,
        timeouts: Timeouts,
    ) -> Result<Answer, Failure> {
        let wrong = |why: &str| Failure::usage(format!("--admin {}: {why}", self.admin));
        let url = Url::parse(&self.admin).map_err(|error| wrong(&error))?;
        if url.path.contains('?') {
            return Err(wrong("expected a URL without a query"));
        }
        let below = url.path.trim_end_matches('/');
        let path = format!("{below}{path}");
        let token = self.token()?;
        let mut stream = Stream::connect(&url.target(), common.family(), timeouts)?;
        if url.is_https {
            stream.begin("doing the TLS handshake");
            stream.start_tls(&url.host, &certificates.trust()?)?;
        }
        let mut bytes = Vec::new();
        head::put_request_line(&mut bytes, Method::Get, &path);
        head::put_header(&mut bytes, "Host", url.authority());
        head::put_header(&mut bytes, "Connection", "close");
        if let Some(token) = token {
            bytes.extend_from_slice(b"Authorization: Bearer ");
            bytes.extend_from_slice(token.expose());
            bytes.extend_from_slice(b"\r\n");
        } else if let Some(credentials) = &url.credentials {
            head::put_header(&mut bytes, "Authorization", credentials.basic());
        }
        head::put_head_end(&mut bytes);
        let (head, received) = send(&mut stream, &bytes, Method::Get)?;
        let mut answer = Answer {
            stream,
            received,
            head,
        };
        if answer.head.status == 200 {
            return Ok(answer);
        }
        let mut told = Vec::new();
        answer.read(&mut |piece| {
            told.extend_from_slice(piece);
            Ok(())
        })?;
        let told = String::from_utf8_lossy(&told);
        let status = answer.head.status;
        let text = format!("{}: {status}: {}", self.admin, told.trim_end());
        Err(Failure::refused(text))
    }

    /// The token, if there is one.
    fn token(&self) -> Result<Option<Secret>, Failure> {
        if self.token_file.is_none() && std::env::var_os(TOKEN).is_none() {
            return Ok(None);
        }
        let token = secrets::obtain(self.token_file.as_deref(), TOKEN, "token")?;
        let fits = !token.is_empty() && token.expose().iter().all(u8::is_ascii_graphic);
        match fits {
            true => Ok(Some(token)),
            false => Err(Failure::usage(
                "the token is no text without blanks, which a header could carry",
            )),
        }
    }
}

impl Answer {
    /// Reads the body to its end, and gives each piece of it to `take`.
    ///
    /// # Errors
    /// There is no whole body, or `take` wants no more.
    pub(super) fn read(
        &mut self,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let received = std::mem::take(&mut self.received);
        read_body(&mut self.stream, received, self.head.body, false, take)
    }
}
