//! `Cache-Groups` and `Cache-Group-Invalidation`: stored responses of one origin that are
//! invalidated together (RFC 9875).
//!
//! Both are structured lists of strings (RFC 9651); parameters are ignored. A list that cannot be
//! read, or that has anything but strings in it, is as good as absent.

use sfv::{BareItem, List, ListEntry, ListSerializer, Parser, StringRef};

use super::super::head::Headers;

/// The groups that a response belongs to (section 2).
#[must_use]
pub fn of(headers: &Headers<'_>) -> Vec<String> {
    strings(headers, "cache-groups")
}

/// The groups that a response to an unsafe method invalidates (section 3).
#[must_use]
pub fn invalidated(headers: &Headers<'_>) -> Vec<String> {
    strings(headers, "cache-group-invalidation")
}

fn strings(headers: &Headers<'_>, name: &str) -> Vec<String> {
    let mut lines = headers.all(name);
    let Some(first) = lines.next() else {
        return Vec::new();
    };
    let mut value = first.to_vec();
    for line in lines {
        value.extend_from_slice(b", ");
        value.extend_from_slice(line);
    }
    strings_in(&value)
}

/// The list with these strings, as [`strings_in`] reads it. A string that no list can have, with
/// anything but visible ASCII and blanks in it, is left out.
#[must_use]
pub fn list_of(strings: &[String]) -> String {
    let mut list = ListSerializer::new();
    for string in strings {
        if let Ok(string) = StringRef::from_str(string) {
            let _ = list.bare_item(string);
        }
    }
    list.finish().unwrap_or_default()
}

/// The strings of a list; none, if it is not one of strings.
#[must_use]
pub fn strings_in(value: &[u8]) -> Vec<String> {
    let list: Option<List> = Parser::new(value).parse().ok();
    let strings = list.into_iter().flatten().map(|entry| match entry {
        ListEntry::Item(item) => match item.bare_item {
            BareItem::String(string) => Some(string.as_str().to_owned()),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    });
    strings.collect::<Option<Vec<String>>>().unwrap_or_default()
}

/// Whether a head says that its response is in one of these groups (section 2).
#[must_use]
pub fn is_in_one(head: &[u8], names: &[String]) -> bool {
    let mut list: Vec<u8> = Vec::new();
    for line in head.split(|&byte| byte == b'\n') {
        let Some((name, value)) = memchr::memchr(b':', line).map(|at| line.split_at(at)) else {
            continue;
        };
        if name.eq_ignore_ascii_case(b"cache-groups") {
            if !list.is_empty() {
                list.extend_from_slice(b", ");
            }
            list.extend_from_slice(value[1..].trim_ascii());
        }
    }
    !list.is_empty() && strings_in(&list).iter().any(|name| names.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_in_the_groups_that_all_its_lines_name() {
        let head = b"HTTP/1.1 200 OK\r\nCache-Groups: \"one\", \"two, three\";a=1\r\n\
            A: b\r\ncache-groups:\"Four\"\r\nSurrogate-Key: five\r\n\r\n";
        let is_in = |name: &str| is_in_one(head, &["zero".to_owned(), name.to_owned()]);
        for name in ["one", "two, three", "Four"] {
            assert!(is_in(name), "{name}");
        }
        for name in ["two", "three", "four", "five", "a", ""] {
            assert!(!is_in(name), "{name}");
        }
        let bad = b"HTTP/1.1 200 OK\r\nCache-Groups: \"one\", two\r\n\r\n";
        assert!(
            !is_in_one(bad, &["one".to_owned()]),
            "it is not a list of strings"
        );
    }
}
