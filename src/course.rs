#![doc = include_str!("../tests/course/README.md")]
