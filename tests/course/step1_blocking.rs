//! Step 1: one client at a time.
//!
//! New: everything. The server accepts, reads, answers in upper case, and does so until the client
//! is done; then it looks at the next one. Each call waits in the kernel.
//!
//! ```sh
//! cargo run --example step1_blocking          # it says where it listens
//! nc 127.0.0.1 PORT                           # one terminal; type nothing
//! echo hello | nc -N 127.0.0.1 PORT           # another one: no answer until the first one ends
//! ```
//!
//! What is wrong: a client that is silent stops all others. A thread for each is the usual way out;
//! step 2 is the other one.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    eprintln!("listening on {}", listener.local_addr()?);
    serve(&listener)
}

/// Serves one client after the other.
pub(crate) fn serve(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (client, _) = listener.accept()?;
        // A client that went away takes only itself with it.
        let _ = answer(client);
    }
}

/// Answers one client to its end.
fn answer(mut client: TcpStream) -> io::Result<()> {
    let mut bytes = [0; 1024];
    loop {
        let count = client.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        let answer = bytes[..count].to_ascii_uppercase();
        client.write_all(&answer)?;
    }
}
