pub(crate) fn check() {
    let right = [
        (
            "PROXY TCP4 192.0.2.1 198.51.100.1 40000 80\r\n",
            Some("192.0.2.1:40000"),
        ),
        (
            "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n",
            Some("[2001:db8::1]:1"),
        ),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff::1 anything at all\r\n", None),
    ];
    for (line, client) in right {
        for end in 0..line.len() {
            assert_eq!(
                introduced(&line.as_bytes()[..end]),
                Ok(None),
                "{:?}",
                &line[..end]
            );
        }
        let more = format!("{line}GET / HTTP/1.1\r\n");
        let client = client.map(|text| text.parse().expect("an address"));
        assert_eq!(
            introduced(more.as_bytes()),
            Ok(Some((client, line.len()))),
            "{line:?}"
        );
    }
    let long = format!("PROXY UNKNOWN {}", "x".repeat(100));
    let wrong = [
        "GET / HTTP/1.1\r\n",
        "PROXX",
        "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        &long,
    ];
    for line in wrong {
        assert!(introduced(line.as_bytes()).is_err(), "{line:?}");
    }
}
