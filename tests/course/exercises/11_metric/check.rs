use netlab_reactor::services::bench::Bench;

/// The samples of a text, each with its type.
fn samples(text: &str) -> Vec<(&str, &str, u64)> {
    let mut found = Vec::new();
    let mut told = ("", "", "");
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["#", "HELP", name, ..] => told = (name, line, ""),
            ["#", "TYPE", name, sort] if name == told.0 => told.2 = sort,
            [name, value] => {
                let (of, help, sort) = told;
                assert!(
                    of == name && help.ends_with('.'),
                    "{name} has no `# HELP` with a sentence"
                );
                assert!(!sort.is_empty(), "{name} has no `# TYPE`");
                found.push((name, sort, value.parse().expect("a number")));
            }
            _ => panic!("{line:?} is no line of the format"),
        }
    }
    found
}

pub(crate) fn check() {
    let expect = |bench: &Bench<Lines>, lines: u64, open: u64| {
        let text = bench.service.exposition();
        let (counter, gauge) = (
            ("lines_answered_total", "counter", lines),
            ("connections_open", "gauge", open),
        );
        assert_eq!(samples(&text), [counter, gauge], "{text}");
    };
    let mut bench = Bench::new(Lines::default());
    expect(&bench, 0, 1);
    bench.peer_sends(b"one\ntw").expect(b"one\n");
    expect(&bench, 1, 1);
    // Called again for nothing, it has answered nothing more.
    bench.step();
    bench.later(IDLE / 2).peer_sends(b"o\n").expect(b"two\n");
    expect(&bench, 2, 1);
    // What has no room is no answer yet, however often it is looked at.
    bench.peer_takes_only(0);
    let line = [&[b'x'; 999][..], b"\n"].concat();
    bench.peer_offers(&line.repeat(1000));
    for _ in 0..3 {
        bench.step();
    }
    let waiting = bench.queued(netlab_reactor::service::Side::Down) / line.len();
    assert!((1..1000).contains(&waiting), "{waiting} lines");
    let answered = 2 + waiting as u64;
    expect(&bench, answered, 1);
    let other = bench.next_client();
    expect(&bench, answered, 2);
    bench.ends(other);
    expect(&bench, answered, 1);
}
