//! Rules that were broken once, each with the scenario and the faults that show it.

use netlab_reactor::sys::sim::faults::Fault;
use netlab_reactor::sys::sim::rng::Rng;

use crate::datagrams::Datagrams;
use crate::driver::{Only, Plan, Scenario, run};
use crate::echo::Echo;
use crate::group::Group;
use crate::hello::HelloStream;
use crate::kept::KeptProxy;
use crate::relay::RelayScenario;
use crate::sure::Sure;
use crate::upload::Uploads;

/// Each of the faults must happen in one of the runs at least.
fn holds(scenario: fn() -> Box<dyn Scenario>, faults: &'static [(Fault, u32)]) {
    let mut missing: Vec<Fault> = faults.iter().map(|(fault, _)| *fault).collect();
    let plan = Plan {
        only: Some(Only { scenario, faults }),
        ..Plan::default()
    };
    for seed in 0..40 {
        let outcome = run(seed, plan).unwrap_or_else(|failure| panic!("{failure:?}"));
        missing.retain(|fault| outcome.faults.hits(*fault) == 0);
    }
    assert!(missing.is_empty(), "these never happened: {missing:?}");
}

/// There is nothing to read from it, so the pump must not look for more: it turned for ever.
#[test]
fn an_event_for_a_connection_that_is_being_made_is_no_reason_to_read() {
    let faults = &[(Fault::ConnectSlow, 1000), (Fault::SpuriousEvent, 500)];
    holds(|| Box::new(RelayScenario::default()), faults);
}

/// Of several attempts that are under way at once, one is used and the others leave nothing behind.
#[test]
fn a_race_of_addresses_has_one_winner() {
    let slow = &[(Fault::ConnectSlow, 1000)];
    holds(|| Box::new(RelayScenario::default()), slow);
    let worse = &[
        (Fault::ConnectSlow, 500),
        (Fault::ConnectHangs, 300),
        (Fault::ConnectRefused, 200),
        (Fault::SpuriousEvent, 300),
    ];
    holds(|| Box::new(RelayScenario::default()), worse);
}

/// A name whose answers do not fit into a datagram is found over TCP.
#[test]
fn what_does_not_fit_into_a_datagram_is_fetched_over_tcp() {
    let cut_short = &[(Fault::DnsTruncates, 1000)];
    holds(|| Box::new(RelayScenario::default()), cut_short);
    let worse = &[
        (Fault::DnsTruncates, 500),
        (Fault::DnsLies, 500),
        (Fault::DnsSlow, 200),
        (Fault::Reset, 100),
        (Fault::ShortRead, 500),
        (Fault::ShortWrite, 500),
        (Fault::SpuriousWouldBlock, 200),
    ];
    holds(|| Box::new(RelayScenario::default()), worse);
}

/// The protocol is asked what to do at its deadline, also if an event came ahead of the reminder:
/// the session was cut.
#[test]
fn an_event_just_after_a_deadline_does_not_cut_the_session() {
    let faults = &[(Fault::SpuriousEvent, 900), (Fault::DelayedEvent, 500)];
    holds(|| Box::new(HelloStream::default()), faults);
}

/// A socket that failed for good was asked again without a pause, and served nobody any more.
#[test]
fn a_socket_that_fails_for_good_is_opened_again() {
    let faults = &[(Fault::ListenerBreaks, 20), (Fault::ReopenFails, 500)];
    holds(|| Box::new(Echo::default()), faults);
    let faults = &[(Fault::DatagramSocketBreaks, 50), (Fault::ReopenFails, 500)];
    holds(|| Box::new(Datagrams), faults);
    let faults = &[(Fault::DatagramSocketKilled, 50), (Fault::ReopenFails, 500)];
    holds(|| Box::new(Datagrams), faults);
}

/// What is stored is stored whole and once, in any order that the disk does what it was asked to,
/// and whatever else breaks meanwhile.
#[test]
fn a_disk_that_takes_its_time_stores_what_it_should() {
    let uploads: fn() -> Box<dyn Scenario> = || Box::new(Uploads::default());
    holds(uploads, &[(Fault::DiskCold, 1000), (Fault::JobSlow, 300)]);
    let broken = &[
        (Fault::DiskCold, 1000),
        (Fault::JobSlow, 300),
        (Fault::JobFails, 50),
        (Fault::Reset, 20),
    ];
    holds(uploads, broken);
    let crashed = &[
        (Fault::JobSlow, 300),
        (Fault::Crash, 50),
        (Fault::TornWrite, 50),
    ];
    holds(uploads, crashed);
}

/// What the power failed for is there in part, the next process removes what has no name, and no
/// name stands for what nobody sent.
#[test]
fn no_name_stands_for_bytes_that_nobody_sent_after_the_power_failed() {
    let uploads: fn() -> Box<dyn Scenario> = || Box::new(Uploads::default());
    holds(uploads, &[(Fault::PowerLoss, 20), (Fault::JobSlow, 300)]);
    holds(uploads, &[(Fault::PowerLoss, 200)]);
}

/// What was answered is there under the name that the client was told, its folders included, and to
/// the byte, whenever the power failed.
#[test]
fn a_file_that_was_answered_is_there_after_the_power_failed() {
    let scenarios: [fn() -> Box<dyn Scenario>; 3] = [
        || Box::new(Sure::new(Rng::new(1))),
        || Box::new(Sure::new(Rng::new(2))),
        || Box::new(Sure::new(Rng::new(3))),
    ];
    for answered in scenarios {
        holds(answered, &[(Fault::PowerLoss, 30), (Fault::JobSlow, 300)]);
        holds(answered, &[(Fault::PowerLoss, 100)]);
    }
}

/// No client has a wrong or mixed body for a good one, whatever the disk of the cache does.
#[test]
fn what_is_kept_is_of_one_version() {
    let kept: fn() -> Box<dyn Scenario> = || Box::new(KeptProxy::default());
    holds(kept, &[]);
    holds(kept, &[(Fault::DiskCold, 500), (Fault::JobSlow, 300)]);
    let broken = &[
        (Fault::JobFails, 100),
        (Fault::DiskFull, 100),
        (Fault::JobSlow, 100),
        (Fault::Reset, 5),
    ];
    holds(kept, broken);
    let crashed = &[
        (Fault::JobSlow, 300),
        (Fault::Crash, 20),
        (Fault::TornWrite, 20),
    ];
    holds(kept, crashed);
    holds(kept, &[(Fault::PowerLoss, 20), (Fault::DiskCold, 300)]);
}

/// A part of what broke off is no whole, and what it is completed with is of the same version.
#[test]
fn what_broke_off_is_completed_and_never_taken_for_whole() {
    let only = Only {
        scenario: || Box::new(KeptProxy::default()),
        faults: &[(Fault::Reset, 5), (Fault::ShortRead, 200)],
    };
    let plan = Plan {
        only: Some(only),
        trace: true,
        ..Plan::default()
    };
    let mut completed = 0;
    for seed in 0..60 {
        let outcome = run(seed, plan).unwrap_or_else(|failure| panic!("{failure:?}"));
        completed += outcome.trace.matches("it has it: true").count();
    }
    assert!(completed > 10, "{completed} parts were completed");
}

/// A group of upstreams of which one is well answers, and who came back is asked again.
#[test]
fn a_group_of_upstreams_that_fail_and_come_back_answers_while_one_is_well() {
    let group: fn() -> Box<dyn Scenario> = || Box::new(Group::default());
    holds(group, &[]);
    let unquiet = &[
        (Fault::ShortRead, 300),
        (Fault::ShortWrite, 300),
        (Fault::SpuriousEvent, 300),
        (Fault::DelayedEvent, 200),
    ];
    holds(group, unquiet);
    let broken = &[
        (Fault::Reset, 20),
        (Fault::ConnectFails, 100),
        (Fault::ConnectHangs, 50),
    ];
    holds(group, broken);
}
