//! Lower-case hexadecimal, as digests are written on the wire and in files.
//!
//! Encoding is always lower-case; decoding takes both cases. Neither is constant-time: decode
//! first, then compare the bytes with `subtle`.

/// `bytes` as lower-case hexadecimal digits, two per byte.
pub fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 0xf)]));
    }
    text
}

/// The `N` bytes that exactly `2 * N` hexadecimal digits stand for; `None` for any other length or
/// character.
pub fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_and_decodes() {
        assert_eq!(encode(&[0x00, 0x9f, 0xff]), "009fff");
        assert_eq!(decode::<3>(b"009FfF"), Some([0x00, 0x9f, 0xff]));
    }

    #[test]
    fn refuses_wrong_lengths_and_characters() {
        assert_eq!(decode::<2>(b"009"), None);
        assert_eq!(decode::<2>(b"00999"), None);
        assert_eq!(decode::<2>(b"00g0"), None);
        assert_eq!(decode::<2>("0é0".as_bytes()), None);
    }
}
