//! A client of uploads that are answered.

use std::io::Read;
use std::net::TcpStream;

use netlab_reactor::wire::frame;
use netlab_reactor::wire::upload::{Answer, FileHeader};
use sha2::{Digest, Sha256};

/// Bytes that no two numbers share.
pub(crate) fn content(number: u64, len: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = format!("file {number}\n").into_bytes();
    while bytes.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend((state >> 32).to_le_bytes());
    }
    bytes.truncate(len.max(8));
    bytes
}

/// The header of a file whose answer is awaited.
pub(crate) fn header(name: &str, body: &[u8], resume: bool) -> Vec<u8> {
    let header = FileHeader {
        filename: name.to_owned(),
        size_bytes: body.len() as u64,
        ack: true,
        sha256: Some(Sha256::digest(body).into()),
        resume,
        ..FileHeader::default()
    };
    let mut bytes = Vec::new();
    frame::encode(&header.to_json(), &mut bytes).expect("a header");
    bytes
}

/// The next answer; none where the connection ends or breaks.
pub(crate) fn answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut json = vec![0; usize::try_from(i32::from_le_bytes(length)).ok()?];
    stream.read_exact(&mut json).ok()?;
    Answer::parse(&json)
}
