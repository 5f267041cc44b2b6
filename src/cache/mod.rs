//! What is kept so that it need not be asked for again.
//!
//! [`files`]: open files and what was made of them. [`compressed`]: compressed forms of contents.
//! [`store`]: what the proxy fetched.

pub mod compressed;
pub mod files;
pub mod store;
