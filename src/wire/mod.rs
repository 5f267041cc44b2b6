//! Wire formats: the pure codecs that the services and the clients share.
//!
//! Rules:
//! - Bytes (and, where a protocol needs it, the time) go in as values; events and bytes come out.
//!   Nothing here opens a socket or a file, reads a clock or draws a random number.
//! - Every decoder is incremental: the answer is the same however the input is cut, and each has a
//!   bound.
//! - What a peer sends is never asserted on; it is parsed into a type or refused with an error that
//!   names the fault.
//!
//! Not here: HTTP (see [`crate::http`]), DNS messages (see [`crate::dns`]), anything that waits.

pub mod argon2id;
pub mod challenge;
pub mod frame;
pub mod heartbeat;
pub mod hex;
pub mod idn;
pub mod login;
pub mod no_proxy;
pub mod ping;
pub mod proxy_protocol;
pub mod safe_path;
pub mod smtp;
pub mod stamp;
pub mod text;
pub mod trust;
pub mod upload;
pub mod upper;
pub mod user_file;
pub mod user_info;

use serde_json::{Map, Value};

/// White space between the parts of JSON (RFC 8259, section 2).
const JSON_BLANKS: &[u8] = b" \t\r\n";

/// Reads a JSON object, or says why there is none: in the parser's words where it is no JSON, and
/// never in the peer's.
fn json_object(json: &[u8]) -> Result<Map<String, Value>, String> {
    let found = match serde_json::from_slice(json).map_err(|error| error.to_string())? {
        Value::Object(object) => return Ok(object),
        Value::Array(_) => "a list",
        Value::String(_) => "a text",
        Value::Number(_) => "a number",
        Value::Bool(_) => "true or false",
        Value::Null => "null",
    };
    Err(format!("it is {found}"))
}
