//! The message as it goes out: line ends, and dots at their beginning.

/// The text with every line ending (CRLF, or CR or LF alone) as CRLF, one at the very end included.
pub fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 32 + 2);
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(b"\r\n");
        rest = &rest[at
            + if rest[at..].starts_with(b"\r\n") {
                2
            } else {
                1
            }..];
    }
    out.extend_from_slice(rest);
    if !rest.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// What goes out after 354: a dot more on each line that begins with one (RFC 5321, section 4.5.2),
/// and the final dot. `content` has CRLF line endings, see [`with_crlf`].
pub fn dot_stuffed(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + content.len() / 64 + 3);
    for line in content.split_inclusive(|&byte| byte == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b".\r\n");
    out
}
