//! Tests of the tests: each bug that an event-driven server may have is planted, and the sweep must
//! find it.

use netlab_reactor::sys::PlantedBug;
use netlab_reactor::sys::sim::faults::Fault;
use netlab_reactor::sys::sim::rng::Rng;

use crate::driver::{Only, Plan, run};
use crate::relay::RelayScenario;
use crate::sure::Sure;

/// Seeds within which each must be found.
const SEEDS: u64 = 500;

/// Where a bug shows under few circumstances, these alone: what a sweep draws of them is too little.
fn circumstances(bug: PlantedBug) -> Option<Only> {
    match bug {
        PlantedBug::SyncForgotten => Some(Only {
            scenario: || Box::new(Sure::new(Rng::new(77))),
            faults: &[(Fault::PowerLoss, 20), (Fault::JobSlow, 300)],
        }),
        PlantedBug::PipeLentFull => Some(Only {
            scenario: || Box::new(RelayScenario::default()),
            faults: &[(Fault::Reset, 100), (Fault::ShortWrite, 300)],
        }),
        _ => None,
    }
}

fn is_found(bug: PlantedBug) {
    let plan = Plan {
        planted: Some(bug),
        only: circumstances(bug),
        ..Plan::default()
    };
    let finding = |seed| run(seed, plan).err();
    match (0..SEEDS).find_map(finding) {
        Some(failure) => eprintln!("{bug:?}: found, {}", failure.what),
        None => panic!("{bug:?} is not found within {SEEDS} seeds"),
    }
}

macro_rules! planted {
    ($($name:ident: $bug:ident,)*) => {
        $(#[test] fn $name() { is_found(PlantedBug::$bug); })*

        #[test]
        fn every_bug_has_its_test() {
            assert_eq!([$(PlantedBug::$bug),*], PlantedBug::ALL);
        }
    };
}

planted! {
    an_end_of_stream_lost_after_a_short_read_is_found: EndOfStreamLost,
    readiness_cleared_on_a_full_read_is_found: ReadableClearedOnFullRead,
    write_readiness_never_cleared_is_found: WritableNotCleared,
    write_readiness_lost_on_a_full_send_is_found: WritableClearedOnFullSend,
    refused_room_forgotten_is_found: RefusedRoomForgotten,
    a_stale_event_accepted_is_found: StaleEventAccepted,
    a_deadline_not_rearmed_is_found: DeadlineNotRearmed,
    a_half_close_answered_with_a_drop_is_found: HalfCloseDrops,
    a_close_without_linger_is_found: LingerSkipped,
    a_lost_wake_of_a_name_is_found: NameWakeLost,
    pages_not_returned_are_found: PagesKept,
    an_accept_edge_lost_after_emfile_is_found: AcceptEdgeLost,
    a_session_forgotten_with_its_budget_spent_is_found: BudgetForgets,
    a_listener_forgotten_by_the_drain_is_found: DrainForgetsListener,
    an_upstream_socket_kept_is_found: UpstreamKept,
    a_changed_file_sent_on_is_found: PromiseForgotten,
    a_gate_left_open_is_found: GateLeftOpen,
    work_left_undone_for_want_of_a_share_is_found: ShareForgets,
    claims_of_an_ended_session_to_jobs_are_found: JobsKept,
    a_lost_wake_of_a_job_is_found: JobWakeLost,
    an_answer_told_to_the_next_user_of_a_place_is_found: JobPlaceMixedUp,
    a_lost_wake_of_who_waits_for_another_is_found: CacheForgetsToWake,
    a_response_that_broke_off_taken_for_whole_is_found: BrokenTakenForWhole,
    a_session_without_a_client_that_stays_is_found: AloneKept,
    a_lost_failure_of_a_write_is_found: WriteFailureLost,
    an_answer_before_the_disk_has_it_is_found: SyncForgotten,
    a_pipe_lent_with_bytes_in_it_is_found: PipeLentFull,
    an_upstream_never_taken_back_is_found: MomentForgotten,
}
