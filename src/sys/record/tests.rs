use std::io::Cursor;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::sys::Bind;
use crate::sys::sim::Sim;

/// A file in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn options(bytes_max: u64) -> Options {
    Options {
        start: Start::new(UNIX_EPOCH),
        bytes_max,
        waits: true,
    }
}

/// What a process asks that lives for three turns; what it was told.
fn live(sys: &mut Taped<Sim>) -> Vec<String> {
    let mut told = Vec::new();
    let mut events = Vec::new();
    for turn in 0..3 {
        let polled = sys.poll(&mut events, Some(Duration::from_millis(turn)));
        let mut secret = [0; 9];
        sys.disk().entropy(&mut secret);
        let folder = sys.disk().open_folder("/".as_ref()).is_ok();
        let bind = Bind::Inet(([127, 0, 0, 1], 7).into());
        let listened = sys.listen(&bind, 1, false, 9);
        told.push(format!(
            "{polled:?} {secret:?} {folder:?} {listened:?} {:?}",
            sys.wall()
        ));
    }
    told
}

/// A record of that, and what it was told.
fn recorded(bytes_max: u64) -> (Vec<u8>, Vec<String>) {
    let memory = Memory::default();
    let mut sys = Taped::record(Sim::new(1), memory.clone(), &options(bytes_max)).expect("begun");
    let told = live(&mut sys);
    sys.end("counted").expect("written");
    let bytes = std::mem::take(&mut *memory.0.lock().expect("nobody panicked"));
    (bytes, told)
}

/// How the replay of these bytes ends: what is wrong with them, or how they end.
fn replayed(bytes: &[u8]) -> Result<Over, BadRecord> {
    let (mut sys, _) = Taped::<Sim>::replay(Cursor::new(bytes.to_vec()))?;
    live(&mut sys);
    sys.end("").expect("nothing is written");
    match sys.side {
        Side::Replaying(player) => Ok(player.into_inner().over.expect("it is over")),
        Side::Recording { .. } => panic!("it is no replay"),
    }
}

#[test]
fn a_record_answers_what_the_kernel_did() {
    let (bytes, told) = recorded(u64::MAX);
    let (mut sys, start) = Taped::<Sim>::replay(Cursor::new(bytes.clone())).expect("a record");
    assert_eq!(start, Start::new(UNIX_EPOCH));
    assert_eq!(live(&mut sys), told);
    assert_eq!(sys.played().turns, 3);
    assert!(matches!(replayed(&bytes), Ok(Over::Ended(counted)) if counted == "counted"));
}

#[test]
fn a_process_that_ends_within_a_turn_has_on_disk_what_it_did_before() {
    let memory = Memory::default();
    let mut sys = Taped::record(Sim::new(1), memory.clone(), &options(u64::MAX)).expect("begun");
    live(&mut sys); // and within the third turn it ends
    let bytes = memory.0.lock().expect("nobody panicked").clone();
    std::mem::forget(sys); // as if the process were gone
    let told = replayed(&bytes).expect("a record").to_string();
    assert!(told.starts_with("in turn 2: it is cut in block "), "{told}");
}

#[test]
fn one_flipped_bit_of_any_block_is_told() {
    for bytes_max in [u64::MAX, 1] {
        let (bytes, _) = recorded(bytes_max);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            match replayed(&flipped) {
                Err(_) | Ok(Over::Bad { .. }) => {}
                Ok(over) => panic!("byte {at} of {}: {over}", bytes.len()),
            }
        }
    }
}

#[test]
fn a_cut_at_any_byte_is_told_with_its_place() {
    for bytes_max in [u64::MAX, 1] {
        let (bytes, _) = recorded(bytes_max);
        for len in 0..bytes.len() {
            let told = match replayed(&bytes[..len]) {
                Err(why) => why.to_string(),
                Ok(over @ Over::Bad { .. }) => over.to_string(),
                Ok(over) => panic!("{len} of {} bytes: {over}", bytes.len()),
            };
            let place = format!("at byte {len}");
            let is_told = len < 16 && told.contains("no record") || told.contains(&place);
            assert!(is_told, "{len} of {} bytes: {told}", bytes.len());
        }
        let longer = [&bytes[..], b"more"].concat();
        assert!(matches!(replayed(&longer), Ok(Over::Bad { .. })));
    }
}

#[test]
fn records_of_others_are_refused_by_name() {
    let (mut bytes, _) = recorded(u64::MAX);
    bytes[14] = 99;
    let told = replayed(&bytes).expect_err("another format").to_string();
    assert_eq!(
        told,
        "it is a record in format 99; this program reads format 2"
    );
    let memory = Memory::default();
    let mut of_another = options(u64::MAX);
    of_another.start.program = "0.0.9".to_owned();
    let mut sys = Taped::record(Sim::new(1), memory.clone(), &of_another).expect("begun");
    sys.end("").expect("written");
    let told = replayed(&memory.0.lock().expect("nobody panicked"));
    let told = told.expect_err("another version").to_string();
    assert!(told.contains("netlab-reactor 0.0.9 recorded it"), "{told}");
    let told = replayed(b"#!/bin/sh\nexit 0 # is no record\n").expect_err("a script");
    assert_eq!(told, BadRecord::NoRecord);
}

#[test]
fn at_its_bound_the_recording_ends_and_the_process_goes_on() {
    let (bytes, told) = recorded(1);
    assert_eq!(told, recorded(u64::MAX).1);
    let Ok(Over::Stopped { turns, why }) = replayed(&bytes) else {
        panic!("it was stopped");
    };
    assert_eq!((turns, &*why), (1, "it has as many bytes as it may"));
}

#[test]
fn what_is_asked_otherwise_is_told_with_its_turn_and_both_calls() {
    let (bytes, _) = recorded(u64::MAX);
    let replay = || {
        Taped::<Sim>::replay(Cursor::new(bytes.clone()))
            .expect("a record")
            .0
    };
    let mut sys = replay();
    let _ = sys.poll(&mut Vec::new(), Some(Duration::ZERO));
    let mut secret = [0; 9];
    sys.disk().entropy(&mut secret);
    assert!(sys.disk().open_folder("/etc".as_ref()).is_err());
    let told = sys.over().expect("it diverged").to_string();
    assert_eq!(
        told,
        "turn 1 diverges: then it asked OpenFolder { path: \"/\" }, now it asks OpenFolder { path: \"/etc\" }"
    );
    assert!(sys.poll(&mut Vec::new(), None).is_err());
    let mut sys = replay();
    sys.end("").expect("nothing is written");
    let told = sys.over().expect("it diverged").to_string();
    assert!(told.contains("now it asks nothing more"), "{told}");
}

/// A disk that takes nothing before it is told to.
struct Stuck(Receiver<()>, Memory);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.1.0.lock().expect("nobody panicked").is_empty() && bytes.len() > 1000 {
            let _ = self.0.recv(); // until the other end is dropped
        }
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_is_too_slow_ends_the_recording_and_not_the_process() {
    let (free, held): (Sender<()>, _) = channel();
    let memory = Memory::default();
    let to = Stuck(held, memory.clone());
    let waits_not = Options {
        waits: false,
        ..options(u64::MAX)
    };
    let mut sys = Taped::record(Sim::new(1), to, &waits_not).expect("begun");
    let mut turns = 0;
    let mut chunk = vec![0; 1 << 20];
    while sys.is_recording() {
        turns += 1;
        assert!(turns < 1000, "it takes all");
        let _ = sys.poll(&mut Vec::new(), Some(Duration::ZERO));
        sys.disk().entropy(&mut chunk);
    }
    // It goes on.
    assert_eq!(live(&mut sys).len(), 3);
    drop(free);
    let (mut bytes, mut tries) = (Vec::new(), 0);
    let told = loop {
        bytes.clone_from(&memory.0.lock().expect("nobody panicked"));
        let (mut replay, _) = Taped::<Sim>::replay(Cursor::new(bytes.clone())).expect("a record");
        let mut played = 0;
        while replay.over().is_none() {
            let _ = replay.poll(&mut Vec::new(), Some(Duration::ZERO));
            replay.disk().entropy(&mut chunk);
            played += 1;
            assert!(played < 1000, "it has no end");
        }
        let told = replay.over().map(ToString::to_string).unwrap_or_default();
        tries += 1;
        match told.contains("slower than the loop") {
            true => break told,
            // The thread that writes is not done yet.
            false if tries < 10_000 => std::thread::yield_now(),
            false => panic!("{told}"),
        }
    };
    assert!(told.starts_with("the recording ended after"), "{told}");
}

/// A disk that is full after the beginning.
struct Full(bool);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0 || bytes.len() > 1000 {
            true => {
                self.0 = true;
                Err(io::ErrorKind::StorageFull.into())
            }
            false => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_is_full_ends_the_recording_and_not_the_process() {
    let begun = Taped::record(Sim::new(1), Full(true), &options(u64::MAX));
    assert!(begun.is_err(), "nothing can be recorded");
    let mut sys = Taped::record(Sim::new(1), Full(false), &options(u64::MAX)).expect("begun");
    let mut chunk = vec![0; 1 << 20];
    for turns in 0.. {
        assert!(turns < 1000, "it takes all");
        let _ = sys.poll(&mut Vec::new(), Some(Duration::ZERO));
        sys.disk().entropy(&mut chunk);
        if !sys.is_recording() {
            break;
        }
    }
    assert_eq!(live(&mut sys).len(), 3);
    sys.end("").expect("it is over already");
}
