pub(crate) fn check() {
    for (text, count, ms) in [
        ("100/s", 100, 1000),
        ("5/m", 5, 60_000),
        ("20/500ms", 20, 500),
    ] {
        let span = Duration::from_millis(ms);
        assert_eq!(parse_rate(text), Ok(Rate { count, span }), "{text}");
    }
    for text in [
        "",
        "100",
        "/s",
        "100/",
        "100/x",
        "-1/s",
        "0/s",
        "1/0s",
        "1/s/s",
        "5000000000/s",
    ] {
        let told = parse_rate(text).expect_err(text);
        assert!(
            told.contains(&format!("{text:?}")),
            "it does not say what was wrong: {told:?}"
        );
        assert!(
            told.contains("expected a rate"),
            "it does not say what was expected: {told:?}"
        );
    }
}
