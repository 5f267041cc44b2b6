//! Host names in letters beyond ASCII, as DNS, certificates and protocols carry them (RFC 5890; the
//! mapping is that of UTS 46, as browsers do it).

use std::borrow::Cow;

/// The name in ASCII: `bücher.example` is `xn--bcher-kva.example`. ASCII comes back as it is.
///
/// # Errors
/// In words: the name cannot be one of DNS.
pub fn to_ascii(name: &str) -> Result<Cow<'_, str>, String> {
    if name.is_ascii() {
        return Ok(Cow::Borrowed(name));
    }
    let ascii = idna::domain_to_ascii(name).ok();
    match ascii.filter(|ascii| !ascii.is_empty()) {
        Some(ascii) => Ok(Cow::Owned(ascii)),
        None => Err(format!(
            "{name:?} is not a host name: it has letters that no name may have"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_beyond_ascii_are_mapped() {
        for (name, ascii) in [
            ("Example.ORG.", "Example.ORG."),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example.", "xn--bcher-kva.example."),
            ("straße.de", "xn--strae-oqa.de"),
            ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
            ("\u{ff41}.example", "a.example"),
        ] {
            assert_eq!(to_ascii(name).as_deref(), Ok(ascii));
        }
        for name in ["a\u{202e}b", "\u{ad}", "é\u{fffd}", "\u{fe00}"] {
            assert!(to_ascii(name).is_err(), "{name:?}");
        }
    }
}
