//! The exercises: each once with the code that is given, once with a solution, and one check for
//! both.

macro_rules! exercises {
    ($($name:ident: $folder:literal,)*) => {
        $(
            mod $name {
                #[allow(dead_code, reason = "it is to be worked on")]
                pub(super) mod start {
                    include!(concat!("exercises/", $folder, "/start.rs"));
                    include!(concat!("exercises/", $folder, "/check.rs"));
                }
                pub(super) mod solution {
                    include!(concat!("exercises/", $folder, "/solution.rs"));
                    include!(concat!("exercises/", $folder, "/check.rs"));
                }
            }
        )*

        /// Each exercise: its folder, the check of what is given, and that of its solution.
        const ALL: &[(&str, fn(), fn())] = &[
            $(($folder, $name::start::check, $name::solution::check),)*
        ];

        /// What is worked on: `cargo test --test course --features exercises`.
        #[cfg(feature = "exercises")]
        mod yours {
            $(
                #[test]
                fn $name() {
                    super::$name::start::check();
                }
            )*
        }
    };
}

exercises! {
    e01_daytime: "01_daytime",
    e02_key: "02_key",
    e03_frames: "03_frames",
    e04_half_close: "04_half_close",
    e05_chargen: "05_chargen",
    e06_idle: "06_idle",
    e07_timers: "07_timers",
    e08_proxy_header: "08_proxy_header",
    e09_chat: "09_chat",
    e10_planted: "10_planted",
    e11_metric: "11_metric",
}

#[test]
fn each_solution_solves_its_exercise() {
    for (folder, _, solution) in ALL {
        eprintln!("{folder}");
        solution();
    }
}

#[cfg(not(feature = "exercises"))]
#[test]
fn what_is_given_solves_none() {
    for (folder, start, _) in ALL {
        assert!(
            std::panic::catch_unwind(start).is_err(),
            "{folder} is solved"
        );
    }
}

#[test]
fn each_exercise_says_what_is_wanted_where_to_look_and_what_to_run() {
    let folder = super::folder().join("exercises");
    let mut found: Vec<String> = std::fs::read_dir(&folder)
        .expect("the exercises")
        .map(|entry| {
            entry
                .expect("a folder")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    found.sort();
    let known: Vec<&str> = ALL.iter().map(|(folder, ..)| *folder).collect();
    assert_eq!(found, known);
    let text = std::fs::read_to_string(super::folder().join("README.md")).expect("the chapter");
    for name in found {
        let start = std::fs::read_to_string(folder.join(&name).join("start.rs")).expect("a file");
        assert!(start.starts_with(&format!(
            "// Exercise {}, ",
            name[..2].trim_start_matches('0')
        )));
        assert!(
            start.contains("\n// Look at: ") && start.contains("\n// Run: cargo test "),
            "{name}"
        );
        assert!(
            start.contains(&format!("--features exercises e{}", &name[..2])),
            "{name}"
        );
        super::names_what_is_there(&start);
        assert!(text.contains(&name), "{name} is not in the chapter");
    }
}
