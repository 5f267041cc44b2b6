// The length is judged as soon as it is there, before the bytes are awaited.

/// The first frame of what came, and how many bytes it took of that; `None` if it is not whole.
pub(crate) fn next_frame(bytes: &[u8], max: usize) -> Result<Option<(&[u8], usize)>, String> {
    let Some((head, rest)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    let len = usize::from(u16::from_be_bytes(*head));
    if len > max {
        return Err(format!("a frame of {len} bytes; expected at most {max}"));
    }
    Ok(rest.get(..len).map(|frame| (frame, head.len() + len)))
}
