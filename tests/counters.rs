//! What is counted is what was moved, whatever a turn may move.

mod common;

use std::io::{Read, Write};
use std::thread;

use common::{InThread, connect};

#[test]
fn every_byte_of_a_stream_is_counted_when_a_turn_may_move_less_than_a_page() {
    const BYTES: usize = 1 << 20;
    let server = InThread::start(
        "[limits]\nturn_bytes = 5000\n[[listener]]\nkind = \"tcp-echo\"\nbind = \"127.0.0.1:0\"\n",
    );
    let mut stream = connect(server.address(0));
    let mut sender = stream.try_clone().expect("a descriptor");
    let sender = thread::spawn(move || sender.write_all(&[b'A'; BYTES]));
    stream
        .read_exact(&mut vec![0; BYTES])
        .expect("all that was sent");
    sender.join().expect("a thread").expect("room");
    server.wait(|seen| (seen.bytes_in, seen.bytes_out) == (BYTES as u64, BYTES as u64));
    server.stop();
}
