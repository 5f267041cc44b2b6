//! The message with its headers and parts (RFC 5322, RFC 2046).

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::date::Date;
use mail_builder::headers::message_id::MessageId;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::MimePart;

use super::address::{Person, Recipients};
use super::{MailArgs, check_line};
use crate::client::Failure;
use crate::client::units::since_epoch;
use crate::wire::hex;

/// An identifier that no other message has (RFC 5322, section 3.6.4).
pub(super) fn message_id(from: &Person) -> Result<String, Failure> {
    let mut random = [0; 12];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::unavailable(format!("no random numbers: {error}")))?;
    Ok(format!(
        "{}.{}@{}",
        since_epoch().as_millis(),
        hex::encode(&random),
        from.mailbox.domain()
    ))
}

/// The message with headers and parts.
pub(super) fn compose(
    args: &MailArgs,
    from: &Person,
    people: &Recipients,
    message_id: &str,
) -> Result<Vec<u8>, Failure> {
    check_line(&args.subject, "the subject")?;
    let addresses = |people: &[Person]| {
        let list = people.iter().map(|person| person.clone().into_address());
        Address::new_list(list.collect())
    };
    let now = i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX);
    let mut message = MessageBuilder::new()
        .date(Date::new(now))
        .from(from.clone().into_address())
        .to(addresses(&people.to))
        .subject(args.subject.as_str())
        .message_id(MessageId::new(message_id))
        .header("MIME-Version", Raw::new("1.0"));
    if !people.cc.is_empty() {
        message = message.cc(addresses(&people.cc));
    }
    if let Some(text) = &args.reply_to {
        message = message.reply_to(Person::parse(text)?.into_address());
    }
    message
        .body(body(args)?)
        .write_to_vec()
        .map_err(|error| Failure::usage(format!("the message cannot be written: {error}")))
}

/// The parts, nested as RFC 2046 and RFC 2387 have it: alternatives innermost, then what belongs to
/// the HTML, then files.
pub(super) fn body(args: &MailArgs) -> Result<MimePart<'static>, Failure> {
    let mut part = text_part("text/plain", text(args)?);
    if let Some(path) = &args.html_file {
        let html = String::from_utf8(read(path)?);
        let html =
            html.map_err(|_| Failure::usage(format!("{}: the HTML is not UTF-8", path.display())))?;
        part = MimePart::new(
            "multipart/alternative",
            vec![part, text_part("text/html", html)],
        );
    }
    if !args.inline.is_empty() {
        let mut parts = vec![part];
        for path in &args.inline {
            let (name, kind) = describe(path)?;
            parts.push(
                file_part(kind, read(path)?).cid(content_id(&name)).header(
                    "Content-Disposition",
                    mail_builder::headers::content_type::ContentType::new("inline")
                        .attribute("filename", name),
                ),
            );
        }
        let kind = if args.html_file.is_some() {
            "multipart/related"
        } else {
            "multipart/mixed"
        };
        part = MimePart::new(kind, parts);
    }
    if !args.attach.is_empty() {
        let mut parts = vec![part];
        for path in &args.attach {
            let (name, kind) = describe(path)?;
            parts.push(file_part(kind, read(path)?).attachment(name));
        }
        part = MimePart::new("multipart/mixed", parts);
    }
    Ok(part)
}

/// A text whose line ends may become CRLF. One with a NUL, which no text of 7 or 8 bits may have
/// (RFC 2045, section 2.7), goes out in base64; which encoding else is needed is for mail-builder
/// to find out.
fn text_part(kind: &str, text: String) -> MimePart<'static> {
    match text.contains('\0') {
        true => base64_part(kind.to_owned(), text.as_bytes()),
        false => MimePart::new(kind.to_owned(), text),
    }
}

/// A file, which arrives byte for byte: one of text with a NUL or a lone CR would not without
/// base64.
fn file_part(kind: String, bytes: Vec<u8>) -> MimePart<'static> {
    let mut carriage_returns = memchr::memchr_iter(b'\r', &bytes);
    let has_lone_return = carriage_returns.any(|at| bytes.get(at + 1) != Some(&b'\n'));
    match has_lone_return || bytes.contains(&0) {
        true => base64_part(kind, &bytes),
        false => MimePart::new(kind, bytes),
    }
}

/// Lines of 76 characters (RFC 2045, section 6.8).
fn base64_part(kind: String, bytes: &[u8]) -> MimePart<'static> {
    let mut lines = String::with_capacity(bytes.len() / 57 * 78 + 78);
    for line in bytes.chunks(57) {
        BASE64.encode_string(line, &mut lines);
        lines.push_str("\r\n");
    }
    MimePart::new(kind, lines).transfer_encoding("base64")
}

/// The text of the message: an argument, a file or standard input.
pub(super) fn text(args: &MailArgs) -> Result<String, Failure> {
    let (bytes, whence) = match (&args.body, &args.body_file) {
        (Some(text), _) => return Ok(text.clone()),
        (None, Some(path)) => (read(path)?, path.display().to_string()),
        (None, None) => {
            if std::io::stdin().is_terminal() {
                eprintln!("netlab-reactor mail: type the text, then Ctrl-D");
            }
            let mut bytes = Vec::new();
            let result = std::io::stdin().lock().read_to_end(&mut bytes);
            result.map_err(|error| Failure::usage(format!("reading standard input: {error}")))?;
            (bytes, "standard input".to_owned())
        }
    };
    String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{whence}: the text is not UTF-8")))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// A file's name and media type.
fn describe(path: &Path) -> Result<(String, String), Failure> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = name.ok_or_else(|| Failure::usage(format!("{}: not a file", path.display())))?;
    check_line(&name, "a file's name")?;
    Ok((
        name,
        mime_guess::from_path(path)
            .first_or_octet_stream()
            .essence_str()
            .to_owned(),
    ))
}

/// What stands behind `cid:`: the file's name, other characters than the harmless ones replaced.
fn content_id(name: &str) -> String {
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.chars()
        .map(|c| if is_harmless(c) { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ids_are_harmless() {
        assert_eq!(content_id("my logo>.png"), "my_logo_.png");
    }
}
