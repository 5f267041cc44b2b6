//! What a peer sent, as text that is safe to show: on a terminal control characters move the cursor, change what was printed
//! before or type answers, and a line end within a message forges the next one.

/// Bytes as one line: control characters other than tabs are replaced, and what is not UTF-8.
pub fn printable(bytes: &[u8]) -> String {
    let keep = |c: char| !c.is_control() || c == '\t';
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| {
            if keep(c) {
                c
            } else {
                char::REPLACEMENT_CHARACTER
            }
        })
        .collect()
}

/// The same line by line, each ended by a line feed alone.
pub fn printable_lines(bytes: &[u8]) -> String {
    let lines = bytes.split(|&byte| byte == b'\n');
    let lines: Vec<String> = lines
        .map(|line| printable(line.strip_suffix(b"\r").unwrap_or(line)))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_escapes_nor_forged_lines_are_shown() {
        assert_eq!(
            printable("a\tb\x1b[2J\r\nok\u{9b}2J".as_bytes()),
            "a\tb\u{fffd}[2J\u{fffd}\u{fffd}ok\u{fffd}2J"
        );
        assert_eq!(printable(b"\x9b2J\xff"), "\u{fffd}2J\u{fffd}");
        assert_eq!(
            printable_lines(b"X: \x1bc\r\n\r\nb\rc\n"),
            "X: \u{fffd}c\n\nb\u{fffd}c\n"
        );
    }
}
