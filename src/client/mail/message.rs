//! The message with its headers and parts (RFC 5322, RFC 2046).

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

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
    let domain = from
        .mailbox
        .as_str()
        .rsplit('@')
        .next()
        .filter(|domain| domain.is_ascii());
    Ok(format!(
        "{}.{}@{}",
        since_epoch().as_millis(),
        hex::encode(&random),
        domain.unwrap_or("localhost")
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
    let list = |people: &[Person]| -> Vec<Person> { people.to_vec() };
    let (to, cc) = (list(&people.to), list(&people.cc));
    let addresses = |people: &'_ [Person]| -> Address<'static> {
        let one = |person: &Person| {
            Address::new_address(person.name.clone(), person.mailbox.as_str().to_owned())
        };
        Address::new_list(people.iter().map(one).collect())
    };
    let now = i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX);
    let mut message = MessageBuilder::new()
        .date(Date::new(now))
        .from(from.address())
        .to(addresses(&to))
        .subject(args.subject.as_str())
        .message_id(MessageId::new(message_id))
        .header("MIME-Version", Raw::new("1.0"));
    if !cc.is_empty() {
        message = message.cc(addresses(&cc));
    }
    let reply_to = args.reply_to.as_deref().map(Person::parse).transpose()?;
    if let Some(person) = &reply_to {
        message = message.reply_to(person.address());
    }
    message
        .body(body(args)?)
        .write_to_vec()
        .map_err(|error| Failure::usage(format!("the message cannot be written: {error}")))
}

/// The parts, nested as RFC 2046 and RFC 2387 have it: alternatives innermost, then what belongs to the HTML, then files.
pub(super) fn body(args: &MailArgs) -> Result<MimePart<'static>, Failure> {
    let mut part = MimePart::new("text/plain", text(args)?);
    if let Some(path) = &args.html_file {
        let html = String::from_utf8(read(path)?);
        let html =
            html.map_err(|_| Failure::usage(format!("{}: the HTML is not UTF-8", path.display())))?;
        part = MimePart::new(
            "multipart/alternative",
            vec![part, MimePart::new("text/html", html)],
        );
    }
    if !args.inline.is_empty() {
        let mut parts = vec![part];
        for path in &args.inline {
            let (name, kind) = describe(path)?;
            parts.push(
                MimePart::new(kind, read(path)?)
                    .cid(content_id(&name))
                    .header(
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
            parts.push(MimePart::new(kind, read(path)?).attachment(name));
        }
        part = MimePart::new("multipart/mixed", parts);
    }
    Ok(part)
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
