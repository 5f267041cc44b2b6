use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::buffer::Pool;
use crate::disk::{Contents, Disk as _, File, Handle};
use crate::pipe::{Ends, Pipe};

fn limits() -> DiskLimits {
    DiskLimits {
        jobs_max: 3,
        jobs_per_disk_max: 2,
        waiting_per_disk_max: 4,
        ..DiskLimits::default()
    }
}

fn root(disk: u64) -> File {
    File::new(Handle::Simulated(disk), DiskId(disk), true)
}

fn look(root: &File, path: &str) -> Query {
    Query::Look {
        root: root.clone(),
        path: path.into(),
    }
}

fn create(root: &File) -> Command {
    Command::Create {
        root: root.clone(),
        path: "new".into(),
    }
}

fn found() -> io::Result<Done> {
    Ok(Done::Count(7))
}

struct Fixture {
    jobs: Jobs<u32>,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self {
            jobs: Jobs::new(limits()),
            now: Instant::now(),
        }
    }

    fn ask(&mut self, waiter: u32, query: Query) -> Option<io::Result<Done>> {
        match self.jobs.ask(waiter, query, self.now) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

    fn starts(&mut self) -> Vec<(JobId, Job)> {
        std::iter::from_fn(|| self.jobs.poll_start(self.now)).collect()
    }

    fn finish(&mut self, (id, job): (JobId, Job), result: io::Result<Done>) {
        self.jobs.finished(id, job, result, self.now);
    }

    fn woken(&mut self) -> Vec<u32> {
        let mut woken: Vec<_> = std::iter::from_fn(|| self.jobs.poll_woken()).collect();
        woken.sort_unstable();
        woken
    }
}

fn path(job: &Job) -> &Path {
    match job {
        Job::Query(Query::Look { path, .. })
        | Job::Command(Command::Create { path, .. } | Command::Remove { path, .. }) => path,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_question_is_asked_again_until_it_is_answered_and_then_until_it_is_settled() {
    let (mut f, root) = (Fixture::new(), root(1));
    assert!(f.ask(1, look(&root, "a")).is_none());
    let [job] = f.starts().try_into().expect("one job");
    assert!(f.ask(1, look(&root, "a")).is_none());
    assert!(f.starts().is_empty(), "it is under way");
    f.finish(job, found());
    assert_eq!(f.woken(), [1]);
    for _ in 0..2 {
        let answer = f.ask(1, look(&root, "a"));
        assert!(matches!(answer, Some(Ok(Done::Count(7)))));
    }
    f.jobs.settle(1);
    assert!(f.jobs.is_idle());
    assert!(f.ask(1, look(&root, "a")).is_none(), "it is asked anew");
}

#[test]
fn a_sync_is_shared_until_it_starts_and_no_longer() {
    let (mut f, root) = (Fixture::new(), root(1));
    let sync = || Query::Sync { file: root.clone() };
    let ask = |f: &mut Fixture, waiter| f.jobs.start(waiter, sync(), f.now).expect("a ticket");
    let tickets = [ask(&mut f, 1), ask(&mut f, 2)];
    let [first] = f.starts().try_into().expect("one job");
    // What was changed since it started, it may not know of.
    let later = [ask(&mut f, 3), ask(&mut f, 4)];
    let [second] = f.starts().try_into().expect("another one");
    f.finish(second, Ok(Done::Nothing));
    assert_eq!(f.woken(), [3, 4]);
    f.finish(first, Err(io::ErrorKind::Other.into()));
    assert_eq!(f.woken(), [1, 2]);
    for ticket in tickets {
        let Poll::Ready(finished) = f.jobs.take(&ticket) else {
            panic!("it is done");
        };
        assert!(finished.result.is_err());
    }
    assert!(later.iter().all(|ticket| f.jobs.take(ticket).is_ready()));
    assert!(f.jobs.is_idle());
}

#[test]
fn equal_questions_that_are_under_way_are_one_job_and_wake_everybody() {
    let (mut f, root) = (Fixture::new(), root(1));
    f.ask(1, look(&root, "a"));
    f.ask(2, look(&root, "a"));
    f.ask(2, look(&root, "b"));
    let [a, b] = f.starts().try_into().expect("two jobs");
    f.ask(3, look(&root, "a"));
    assert!(f.starts().is_empty());
    f.finish(a, Err(io::ErrorKind::NotFound.into()));
    assert_eq!(f.woken(), [1, 2, 3]);
    for waiter in [1, 2, 3] {
        let answer = f.ask(waiter, look(&root, "a")).expect("an answer");
        assert_eq!(answer.expect_err("none").kind(), io::ErrorKind::NotFound);
    }
    // What is answered is not fresh any more for somebody who asks later.
    assert!(f.ask(4, look(&root, "a")).is_none());
    assert_eq!(f.starts().len(), 1);
    f.finish(b, found());
    assert_eq!(f.woken(), [2]);
}

#[test]
fn what_is_left_to_the_disk_is_done_although_nobody_waits() {
    let (mut f, root) = (Fixture::new(), root(1));
    let discard = Command::Discard {
        root: root.clone(),
        path: "new".into(),
        file: None,
    };
    f.jobs.leave(discard, f.now).expect("room");
    f.jobs.forget(1);
    assert!(f.jobs.has_commands());
    let [job] = f.starts().try_into().expect("one job");
    f.finish(job, Ok(Done::Nothing));
    assert!(f.woken().is_empty() && f.jobs.is_idle());
}

#[test]
fn a_job_that_is_handed_over_outlives_the_one_who_asked() {
    for done_before in [false, true] {
        let (mut f, root) = (Fixture::new(), root(1));
        let ticket = f.jobs.start(1, create(&root), f.now).expect("room");
        if done_before {
            let [job] = f.starts().try_into().expect("one job");
            f.finish(job, Ok(Done::Nothing));
        }
        f.jobs.hand_over(&ticket, 2);
        f.jobs.forget(1);
        if !done_before {
            let [job] = f.starts().try_into().expect("one job");
            f.finish(job, Ok(Done::Nothing));
            assert_eq!(f.woken(), [2]);
        }
        assert!(matches!(f.jobs.take(&ticket), Poll::Ready(done) if done.result.is_ok()));
        assert!(f.jobs.is_idle());
    }
}

#[test]
fn an_error_of_the_system_is_the_same_for_everybody() {
    let (mut f, root) = (Fixture::new(), root(1));
    f.ask(1, look(&root, "a"));
    f.ask(2, look(&root, "a"));
    let [job] = f.starts().try_into().expect("one job");
    f.finish(job, Err(io::Error::from_raw_os_error(libc::ELOOP)));
    for waiter in [1, 2] {
        let answer = f.ask(waiter, look(&root, "a")).expect("an answer");
        assert_eq!(answer.expect_err("none").raw_os_error(), Some(libc::ELOOP));
    }
}

#[test]
fn a_dead_disk_does_not_use_up_all_places_and_the_disks_take_turns() {
    let (mut f, dead, well) = (Fixture::new(), root(1), root(2));
    for (root, path) in [
        (&dead, "a"),
        (&dead, "b"),
        (&dead, "c"),
        (&well, "x"),
        (&well, "y"),
    ] {
        f.ask(1, look(root, path));
    }
    let started = f.starts();
    let paths: Vec<_> = started.iter().map(|(_, job)| path(job)).collect();
    assert_eq!(paths, ["a", "x", "b"].map(Path::new));
    assert_eq!(f.jobs.under_way(), (2, 3));
    let x = started.into_iter().nth(1).expect("a job");
    f.finish(x, found());
    let paths: Vec<_> = f
        .starts()
        .iter()
        .map(|(_, job)| path(job).to_owned())
        .collect();
    assert_eq!(paths, [Path::new("y")], "the dead one has its share");
}

#[test]
fn who_asks_much_of_a_disk_does_not_keep_out_who_asks_little() {
    let (mut f, root) = (Fixture::new(), root(1));
    f.jobs.set_limits(DiskLimits {
        jobs_per_disk_max: 1,
        waiting_per_disk_max: 16,
        ..limits()
    });
    for path in ["a", "b", "c", "d"] {
        f.ask(1, look(&root, path));
    }
    f.ask(2, look(&root, "x"));
    // What one asker writes does not wait behind what it reads; nor does what is left to the disk.
    let _ticket = f.jobs.start(1, create(&root), f.now).expect("a place");
    f.jobs.leave(look(&root, "left"), f.now).expect("a place");
    f.ask(2, look(&root, "y"));
    f.ask(3, look(&root, "z"));
    f.jobs.forget(3);
    f.ask(3, look(&root, "b")); // a question that is asked already stays where it is
    assert_eq!(f.jobs.under_way(), (8, 0));
    let mut order = Vec::new();
    while let Some(job) = f.starts().pop() {
        order.push(path(&job.1).display().to_string());
        f.finish(job, found());
    }
    assert_eq!(order, ["a", "x", "new", "left", "b", "y", "c", "d"]);
    assert_eq!(f.jobs.under_way(), (0, 0));
}

#[test]
fn beyond_the_bound_a_job_is_refused_and_its_memory_comes_back() {
    let (mut f, root, other) = (Fixture::new(), root(1), root(2));
    for path in ["a", "b", "c", "d"] {
        assert!(f.ask(1, look(&root, path)).is_none());
    }
    let refused = f.ask(1, look(&root, "e")).expect("an answer");
    assert_eq!(
        refused.expect_err("none").kind(),
        io::ErrorKind::ResourceBusy
    );
    let mut pool = Pool::new(1 << 20, 1 << 20);
    let write = Command::Write {
        file: root.clone(),
        offset: 0,
        page: pool.take_slice(),
    };
    let refused = f.jobs.start(1, write, f.now).expect_err("refused");
    assert!(refused.page.is_some());
    assert!(
        f.ask(1, look(&other, "a")).is_none(),
        "another disk has room"
    );
    let refused = [Kind::Look, Kind::Write].map(|kind| f.jobs.counts(kind).refused);
    assert_eq!(refused, [1, 1]);
}

#[test]
fn what_nobody_waits_for_is_not_started_and_what_was_made_for_nobody_is_removed() {
    let (mut f, root) = (Fixture::new(), root(1));
    f.ask(1, look(&root, "a"));
    f.jobs.forget(1);
    assert!(f.starts().is_empty());
    assert!(f.jobs.is_idle());

    let _ticket = f.jobs.start(1, create(&root), f.now).expect("a place");
    let [made] = f.starts().try_into().expect("one job");
    f.jobs.forget(1);
    f.finish(made, found());
    assert!(f.woken().is_empty());
    let [(id, removal)] = f.starts().try_into().expect("its removal");
    assert!(
        matches!(&removal, Job::Command(Command::Remove { path, .. }) if path == Path::new("new"))
    );
    f.finish((id, removal), found());
    assert!(f.jobs.is_idle());
}

#[test]
fn a_page_comes_back_with_the_result_or_after_its_asker() {
    let (mut f, root) = (Fixture::new(), root(1));
    let mut pool = Pool::new(1 << 20, 1 << 20);
    let mut write = || Command::Write {
        file: root.clone(),
        offset: 0,
        page: pool.take_slice(),
    };
    let ticket = f.jobs.start(1, write(), f.now).expect("a place");
    let _left = f.jobs.start(2, write(), f.now).expect("a place");
    let [one, two] = f.starts().try_into().expect("two jobs");
    assert!(f.jobs.take(&ticket).is_pending());
    f.finish(one, Err(io::ErrorKind::StorageFull.into()));
    let Poll::Ready(finished) = f.jobs.take(&ticket) else {
        panic!("it is done")
    };
    assert!(finished.result.is_err() && finished.page.is_some());
    f.jobs.forget(2);
    f.finish(two, found());
    assert!(f.jobs.poll_page().is_some());
    assert!(f.jobs.is_idle());
}

#[test]
fn a_pipe_goes_back_with_what_the_job_left_in_it_whoever_still_waits() {
    let (mut f, root) = (Fixture::new(), root(1));
    let write = |number| Command::WritePiped {
        file: root.clone(),
        offset: 0,
        piped: Piped {
            pipe: Pipe::new(Ends::Simulated(number)),
            bytes: 9,
        },
    };
    let start = |f: &mut Fixture, number| f.jobs.start(1, write(number), f.now);
    let [empty, full, waiting] = [0, 1, 2].map(|number| start(&mut f, number).expect("a place"));
    f.jobs.cancel(waiting);
    let [(id, mut job), left] = f.starts().try_into().expect("two jobs");
    if let Job::Command(Command::WritePiped { piped, .. }) = &mut job {
        piped.bytes = 0;
    }
    f.finish((id, job), found());
    assert!(f.jobs.take(&empty).is_ready());
    f.jobs.cancel(full);
    f.finish(left, Err(io::ErrorKind::StorageFull.into()));
    let back = std::iter::from_fn(|| f.jobs.poll_pipe());
    let mut back: Vec<_> = back
        .map(|piped| match piped.pipe.ends() {
            Ends::Simulated(number) => (*number, piped.bytes),
            Ends::Kernel { .. } => panic!("another pipe"),
        })
        .collect();
    back.sort_unstable();
    assert_eq!(back, [(0, 0), (1, 9), (2, 9)]);
    assert!(f.jobs.is_idle());
}

#[test]
fn settling_a_request_leaves_the_commands_of_its_session() {
    let (mut f, root) = (Fixture::new(), root(1));
    f.ask(1, look(&root, "a"));
    let ticket = f.jobs.start(1, create(&root), f.now).expect("a place");
    f.jobs.settle(1);
    let [job] = f.starts().try_into().expect("one job");
    f.finish(job, found());
    assert!(f.jobs.take(&ticket).is_ready());
    assert!(f.jobs.is_idle());
}

#[test]
fn what_is_cancelled_is_not_started_and_its_memory_comes_back() {
    let (mut f, root) = (Fixture::new(), root(1));
    let mut pool = Pool::new(1 << 20, 1 << 20);
    let mut write = || Command::Write {
        file: root.clone(),
        offset: 0,
        page: pool.take_slice(),
    };
    let waiting = f.jobs.start(1, write(), f.now).expect("a place");
    f.jobs.cancel(waiting);
    assert!(f.starts().is_empty());
    assert!(f.jobs.poll_page().is_some());
    let started = f.jobs.start(1, write(), f.now).expect("a place");
    let [job] = f.starts().try_into().expect("one job");
    f.jobs.cancel(started);
    f.finish(job, found());
    assert!(f.woken().is_empty());
    assert!(f.jobs.poll_page().is_some());
    assert!(f.jobs.is_idle());
}

proptest! {
    /// Whatever is asked, taken, settled, forgotten and finished, in whatever order: no bound is
    /// exceeded, nobody waits for ever, and nothing stays behind.
    #[test]
    fn nothing_is_lost_and_nothing_stays(
        steps in proptest::collection::vec((0_u8..7, 0_u32..4, 0_u64..3, 0_u8..4), 0..80),
    ) {
        let mut f = Fixture::new();
        let roots = [root(0), root(1), root(2)];
        let mut pool = Pool::new(1 << 24, 1 << 20);
        let (mut started, mut tickets) = (Vec::new(), Vec::<(u32, Ticket)>::new());
        for (step, waiter, disk, path) in steps {
            let root = &roots[disk as usize];
            match step {
                0 | 1 => drop(f.ask(waiter, look(root, &path.to_string()))),
                2 => {
                    let write = Command::Write { file: root.clone(), offset: 0, page: pool.take_slice() };
                    match f.jobs.start(waiter, write, f.now) {
                        Ok(ticket) => tickets.push((waiter, ticket)),
                        Err(refused) => refused.page.into_iter().for_each(|page| pool.give_slice(page)),
                    }
                }
                3 => f.jobs.settle(waiter),
                4 => {
                    f.jobs.forget(waiter);
                    tickets.retain(|(owner, _)| *owner != waiter);
                }
                5 => if let Some(place) = tickets.iter().position(|(owner, _)| *owner == waiter) {
                    f.jobs.cancel(tickets.swap_remove(place).1);
                },
                _ => if !started.is_empty() {
                    let job = started.swap_remove(path as usize % started.len());
                    f.finish(job, found());
                },
            }
            started.extend(f.starts());
            prop_assert!(started.len() <= 3);
            for root in &roots {
                let of_it = started.iter().filter(|(_, job)| job.disk() == root.disk()).count();
                prop_assert!(of_it <= 2);
            }
            tickets.retain(|(_, ticket)| match f.jobs.take(ticket) {
                Poll::Pending => true,
                Poll::Ready(finished) => {
                    finished.page.into_iter().for_each(|page| pool.give_slice(page));
                    false
                }
            });
        }
        while let Some(job) = started.pop() {
            f.finish(job, found());
            started.extend(f.starts());
        }
        for (_, ticket) in &tickets {
            let Poll::Ready(finished) = f.jobs.take(ticket) else {
                panic!("a job without a result")
            };
            finished.page.into_iter().for_each(|page| pool.give_slice(page));
        }
        for waiter in 0..4 {
            f.jobs.forget(waiter);
        }
        while let Some(page) = f.jobs.poll_page() {
            pool.give_slice(page);
        }
        prop_assert!(f.jobs.is_idle());
        prop_assert_eq!(f.jobs.under_way(), (0, 0));
        prop_assert_eq!(pool.pages_held(), 0);
    }
}

/// A request is answered anew when its job is done, and opens what it can open at once.
#[test]
fn what_was_read_of_a_file_is_the_answer_though_the_file_is_opened_again() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("file"), b"contents").expect("a file");
    let mut disk = crate::sys::unix::Files::default();
    let root = disk.open_folder(dir.path()).expect("a folder");
    let (mut jobs, now) = (Jobs::<u32>::new(limits()), Instant::now());
    let ask = |jobs: &mut Jobs<u32>, disk: &mut crate::sys::unix::Files| {
        // Of a slow file nothing is read at once.
        let file = disk.open(&root, "file".as_ref()).expect("a file").slow();
        let metadata = disk.metadata(&file).expect("metadata");
        Asking::new(disk, jobs, 1, now).contents(&file, &metadata, 100)
    };
    assert!(ask(&mut jobs, &mut disk).is_pending());
    let (id, mut job) = jobs.poll_start(now).expect("a job");
    let result = job.perform(&mut disk);
    jobs.finished(id, job, result, now);
    let Poll::Ready(Ok((Contents::Small(bytes), _))) = ask(&mut jobs, &mut disk) else {
        panic!("no answer");
    };
    assert_eq!(&*bytes, b"contents");
    assert!(jobs.poll_start(now).is_none(), "it was read once");

    std::fs::write(dir.path().join("file"), b"other contents").expect("a file");
    assert!(ask(&mut jobs, &mut disk).is_pending(), "another version");
}
