pub(crate) fn check() {
    let stream = b"\x00\x05hello\x00\x00\x00\x03abc";
    for piece in 1..=stream.len() {
        let (mut came, mut frames) = (Vec::new(), Vec::new());
        for part in stream.chunks(piece) {
            came.extend_from_slice(part);
            while let Some((frame, count)) = next_frame(&came, 100).expect("frames") {
                frames.push(frame.to_vec());
                came.drain(..count);
            }
        }
        let expected: [&[u8]; 3] = [b"hello", b"", b"abc"];
        assert_eq!(frames, expected, "in pieces of {piece}");
        assert!(came.is_empty(), "in pieces of {piece}");
    }
    assert!(
        next_frame(b"\x00\x65", 100).is_err(),
        "too long, and only its length is there"
    );
    assert_eq!(next_frame(b"\x00", 100), Ok(None));
}
