//! Who a mail is from and for: names and addresses as people type them (RFC 5322, section 3.4).

use mail_builder::headers::address::Address;

use super::check_line;
use crate::client::Failure;
use crate::wire::smtp::Mailbox;

/// A name and an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) name: Option<String>,
    pub(super) mailbox: Mailbox,
}

impl Person {
    /// Reads `ADDRESS` or `NAME <ADDRESS>`, quotes around the name left out.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        let (name, address) = match text
            .strip_suffix('>')
            .and_then(|text| text.rsplit_once('<'))
        {
            Some((name, address)) => (name.trim().trim_matches('"'), address),
            None => ("", text),
        };
        check_line(name, "a name")?;
        let mailbox = Mailbox::parse(address).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Self {
            name: (!name.is_empty()).then(|| name.to_owned()),
            mailbox,
        })
    }

    pub(super) fn address(&self) -> Address<'_> {
        Address::new_address(self.name.as_deref(), self.mailbox.as_str())
    }
}

#[derive(Debug, Default)]
pub(super) struct Recipients {
    pub(super) to: Vec<Person>,
    pub(super) cc: Vec<Person>,
    pub(super) bcc: Vec<Person>,
}

impl Recipients {
    pub(super) fn all(&self) -> impl Iterator<Item = &Person> {
        self.to.iter().chain(&self.cc).chain(&self.bcc)
    }
}

/// The addresses of a list, separated by commas outside of quotes.
pub(super) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let parts = text.split(move |c| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    });
    parts.filter(|part| !part.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_lists() {
        let person = |text: &str| {
            Person::parse(text).map(|person| (person.name, person.mailbox.as_str().to_owned()))
        };
        assert_eq!(person(" a@b "), Ok((None, "a@b".into())));
        assert_eq!(person("Änn <a@b>"), Ok((Some("Änn".into()), "a@b".into())));
        assert_eq!(
            person("\"Doe, J\" <a@b>"),
            Ok((Some("Doe, J".into()), "a@b".into()))
        );
        assert!(person("a").is_err() && person("x\nBcc: y <a@b>").is_err());
        let parts: Vec<_> = split_list("a@b,\"Doe, J\" <c@d>, ").collect();
        assert_eq!(parts, ["a@b", "\"Doe, J\" <c@d>"]);
    }
}
