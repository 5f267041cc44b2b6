// Exercise 3, a codec: a frame is its length, 16 bits with the high byte first, and so many bytes.
// What came may hold several frames, or a part of one. A frame longer than `max` is an error: nobody
// may make the server wait for what it will not take.
//
// Look at: `src/wire/frame.rs`, which has another length, and lab 8.
//
// What is given takes what one `recv` brought for one frame, as many programs do.
//
// Run: cargo test --test course --features exercises e03

/// The first frame of what came, and how many bytes it took of that; `None` if it is not whole.
pub(crate) fn next_frame(bytes: &[u8], _max: usize) -> Result<Option<(&[u8], usize)>, String> {
    match bytes.len() {
        0 => Ok(None),
        len => Ok(Some((&bytes[2..], len))),
    }
}
