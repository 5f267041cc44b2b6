//! Who a mail is from and for: names and addresses as people type them (RFC 5322, section 3.4).
//!
//! Rules:
//! - What stands in quotation marks is one piece: commas, angle brackets and blanks mean nothing
//!   there, and a backslash takes the meaning from the character behind it.
//! - A name is what it says: the marks and backslashes are not part of it. Those that the header
//!   needs are written anew.

use mail_builder::headers::address::Address;

use super::check_line;
use crate::client::Failure;
use crate::wire::smtp::Mailbox;

/// A name and an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Person {
    name: Option<String>,
    pub(super) mailbox: Mailbox,
}

impl Person {
    /// Reads `ADDRESS` or `NAME <ADDRESS>`.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        let wrong = |what: &str| Failure::usage(format!("{text:?}: {what}"));
        let (name, address) = match find_unquoted(text, '<')? {
            None => (String::new(), text),
            Some(at) => {
                let (name, address) = (&text[..at], &text[at + 1..]);
                let end = find_unquoted(address, '>')?;
                let end = end.ok_or_else(|| wrong("the angle bracket is not closed"))?;
                if end + 1 != address.len() {
                    return Err(wrong("something stands behind the address"));
                }
                (phrase(name), address[..end].trim())
            }
        };
        check_line(&name, "a name")?;
        let mailbox = Mailbox::parse(address).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Self {
            name: Some(name).filter(|name| !name.is_empty()),
            mailbox,
        })
    }

    /// Reads persons that commas separate.
    pub(super) fn parse_list(text: &str) -> Result<Vec<Self>, Failure> {
        let mut people = Vec::new();
        let mut rest = Some(text);
        while let Some(text) = rest {
            let end = find_unquoted(text, ',')?;
            let one = &text[..end.unwrap_or(text.len())];
            rest = end.map(|end| &text[end + 1..]);
            if !one.trim().is_empty() {
                people.push(Self::parse(one)?);
            }
        }
        Ok(people)
    }

    pub(super) fn into_address(self) -> Address<'static> {
        Address::new_address(self.name, self.mailbox.as_str().to_owned())
    }
}

/// Where `wanted` stands outside of quotation marks.
fn find_unquoted(text: &str, wanted: char) -> Result<Option<usize>, Failure> {
    let mut is_quoted = false;
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => is_quoted = !is_quoted,
            '\\' if is_quoted => _ = characters.next(),
            c if c == wanted && !is_quoted => return Ok(Some(at)),
            _ => {}
        }
    }
    match is_quoted {
        true => Err(Failure::usage(format!(
            "{text:?}: the quotation mark is not closed"
        ))),
        false => Ok(None),
    }
}

/// The words of a name, quoted or not, with one blank between two (RFC 5322, section 3.2.5).
fn phrase(text: &str) -> String {
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut is_quoted = false;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                is_quoted = !is_quoted;
                words.push(std::mem::take(&mut word));
            }
            '\\' if is_quoted => word.extend(characters.next()),
            c if c.is_whitespace() && !c.is_control() && !is_quoted => {
                words.push(std::mem::take(&mut word));
            }
            c => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words.join(" ")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(text: &str) -> Result<Option<String>, Failure> {
        Person::parse(text).map(|person| person.name)
    }

    #[test]
    fn names_are_what_they_say() {
        for (text, name) in [
            ("Änn <a@b>", "Änn"),
            ("\"Doe, J\" <a@b>", "Doe, J"),
            (r#""Say \"hi\"" <a@x.org>"#, r#"Say "hi""#),
            (r#"Jane "JD" <a@x.org>"#, "Jane JD"),
            (r#"Jane "J. D." Doe <a@x.org>"#, "Jane J. D. Doe"),
            (r#""back\\slash" <a@b>"#, r"back\slash"),
            (r#""two  blanks" <a@b>"#, "two  blanks"),
            ("  many   blanks <a@b>", "many blanks"),
            ("\"a <b>\" <c@d>", "a <b>"),
            ("O'Hara (sales) <a@b>", "O'Hara (sales)"),
        ] {
            assert_eq!(name_of(text), Ok(Some(name.to_owned())), "{text}");
        }
        for text in [" a@b ", "<a@b>", "< a@b >", "\"\" <a@b>"] {
            let person = Person::parse(text).unwrap();
            assert_eq!((person.name, person.mailbox.as_str()), (None, "a@b"));
        }
    }

    #[test]
    fn what_is_no_person_is_told() {
        for (text, words) in [
            ("a", "is not a mail address"),
            ("x\nBcc: y <a@b>", "control characters"),
            ("\"x\ny\" <a@b>", "control characters"),
            ("\"x <a@b>", "the quotation mark is not closed"),
            ("x <a@b", "the angle bracket is not closed"),
            ("x <a@b> y", "something stands behind the address"),
            ("a@b>", "is not a mail address"),
        ] {
            let message = Person::parse(text).unwrap_err().message;
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn lists_are_cut_at_commas_outside_of_quotes() {
        let addresses = |text: &str| {
            let people = Person::parse_list(text).unwrap();
            let addresses = people
                .iter()
                .map(|person| person.mailbox.as_str().to_owned());
            addresses.collect::<Vec<_>>()
        };
        assert_eq!(addresses("a@b,\"Doe, J\" <c@d>, "), ["a@b", "c@d"]);
        assert_eq!(addresses(r#""x\",y" <a@b>, "c,d"@e"#), ["a@b", "\"c,d\"@e"]);
        assert_eq!(addresses(" , "), [""; 0]);
        assert!(Person::parse_list("a@b \"").is_err());
    }

    #[test]
    fn quoted_addresses_and_domains_beyond_ascii() {
        let person = Person::parse("x <\"a >b\"@bücher.example>").unwrap();
        assert_eq!(person.mailbox.as_str(), "\"a >b\"@xn--bcher-kva.example");
        let person = Person::parse("\"<\"@d").unwrap();
        assert_eq!((person.name, person.mailbox.as_str()), (None, "\"<\"@d"));
    }
}
