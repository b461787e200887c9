//! Files as a whole: what is written reads back and runs the same; what is wrong is told with its place.

use super::*;
use crate::disk::Call;
use crate::faults::Fault;
use crate::pattern::{Group, Pattern, Shape};
use crate::report::Verdict;
use crate::run::{Options, run, run_schedule};
use crate::schedule::Schedule;
use crate::swarm::run_caught_schedule;
use crate::workload::{Course, Then};

/// Two regions, so that a test says only what it is about.
const TWO: &str = "region = [{ name = \"eu\" }, { name = \"us\" }]\n";

fn read(text: &str) -> Plan {
    parse("f", &format!("{TWO}{text}")).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// The one error of a file, without its place where that is the place of the table.
fn wrong(text: &str) -> String {
    match parse("f", &format!("{TWO}{text}")) {
        Err(FileError::Wrong(problems)) if problems.len() == 1 => problems[0].to_string(),
        other => panic!("{text}\n{other:?}"),
    }
}

/// The promise on which shrinking and sharing rest.
#[test]
fn a_drawn_schedule_written_and_read_runs_to_the_same_trace() {
    for seed in (0..220).chain([u64::MAX]) {
        let text = write(&Schedule::draw(seed), &Labels::default()).expect("every seed can be written");
        let plan = parse("drawn.toml", &text).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(plan.seed, seed);
        let again = run_schedule(plan.schedule(seed), Options::default());
        assert_eq!(again.trace_hash, run(seed, Options::default()).trace_hash, "seed {seed}");
    }
}

/// Many more, without the runs: writing compares what it has written with what it was to write.
#[test]
fn every_seed_can_be_written() {
    for seed in 220..1_500 {
        let written = write(&Schedule::draw(seed), &Labels::default());
        assert!(written.is_ok(), "seed {seed}: {written:?}");
    }
}

/// What is left of a schedule when parts are taken out is a file, too.
#[test]
fn schedules_with_parts_taken_out_can_be_written() {
    for seed in 0..150 {
        let mut schedule = Schedule::draw(seed);
        let mut turn = 0;
        let mut every_other = || {
            turn += 1;
            turn % 2 == 0
        };
        schedule.jobs.retain(|_| every_other());
        schedule.incidents.retain(|incident| incident.is_membership() || every_other());
        for incident in schedule.incidents.iter_mut().filter(|incident| !incident.is_membership()) {
            if incident.faults.len() > 1 {
                incident.faults.pop();
            }
        }
        schedule.incidents.sort_by_key(crate::faults::Incident::at_us);
        if seed % 3 == 0 {
            let scenario = &mut schedule.scenario;
            scenario.weather =
                crate::link::Weather::calm(scenario.weather.delay_us, crate::link::Spread::Even(0));
            scenario.menu.rough = false;
            (scenario.distances_us, scenario.checkpoints) = (None, false);
            // As short as it may be: to the last beginning.
            let jobs = schedule.jobs.iter().map(|job| job.at_us);
            let last_us = jobs.chain(schedule.incidents.iter().map(|incident| incident.at_us())).max();
            scenario.storm_us = last_us.unwrap_or(scenario.storm_us);
        }
        let written = write(&schedule, &Labels::default());
        assert!(written.is_ok(), "seed {seed}: {written:?}");
    }
}

#[test]
fn every_scenario_that_ships_is_right_passes_and_can_be_written() {
    let mut reports = Vec::new();
    for shipped in library::ALL {
        let plan = parse(shipped.name, shipped.text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(plan.name, shipped.name);
        assert!(
            !plan.about.is_empty() && shipped.text.starts_with("# "),
            "{}: says what it is about",
            plan.name
        );
        let mut goals = crate::goals::Goals::default();
        for seed in 0..3 {
            let report = run_caught_schedule(plan.schedule(seed), Options::default());
            assert!(report.verdict == Verdict::Pass, "{}: {}", plan.name, report.human());
            let missed: Vec<Outcome> =
                plan.expect.judge(&report, false).into_iter().filter(|outcome| !outcome.held).collect();
            assert!(missed.is_empty(), "{} seed {seed}: {missed:?}", plan.name);
            goals.join(report.goals);
            reports.push((shipped, seed, report.trace_hash));
        }
        let missed: Vec<Outcome> =
            plan.expect.judge_moments(goals).into_iter().filter(|outcome| !outcome.held).collect();
        assert!(missed.is_empty(), "{}: {missed:?}", plan.name);
    }
    assert!(library::ALL.len() >= 15);
    // Ranges, places, storms and chaos have become a schedule; as a file it runs to the same trace.
    for (shipped, seed, hash) in reports.into_iter().filter(|(_, seed, _)| *seed == 1) {
        let plan = parse(shipped.name, shipped.text).expect("it was right");
        let labels = Labels::default();
        let text =
            write(&plan.schedule(seed), &labels).unwrap_or_else(|error| panic!("{}: {error}", plan.name));
        let again = parse("explicit", &text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(run_schedule(again.schedule(seed), Options::default()).trace_hash, hash, "{}", plan.name);
    }
}

/// A bit that rots where the only other copy was lost is a loss that nobody promises to survive; the standard seed has both
/// kinds all the same.
#[test]
fn a_seed_has_rot_or_losses_of_disks_and_never_both() {
    let plan = read("[chaos]\nkinds = [\"rot\", \"wipes\", \"restores\"]");
    let (mut rotten, mut lost) = (0, 0);
    for seed in 0..200 {
        let schedule = plan.schedule(seed);
        let faults: Vec<Fault> =
            schedule.incidents.iter().flat_map(|one| one.faults.iter().map(|(_, fault)| *fault)).collect();
        let has = |wanted: fn(&Fault) -> bool| faults.iter().any(wanted);
        let losses = [has(|f| matches!(f, Fault::DiskLoss(..))), has(|f| matches!(f, Fault::Restore(..)))];
        let rots = has(|f| matches!(f, Fault::Rot(..)));
        assert_eq!(losses, [!rots, !rots], "seed {seed}");
        (rotten, lost) = (rotten + usize::from(rots), lost + usize::from(!rots));
    }
    assert!(rotten > 50 && lost > 50, "{rotten} and {lost}");
}

#[test]
fn the_time_line_becomes_faults() {
    let plan = read(
        "event = [
          { at = \"2s\", partition = \"eu | us\", for = \"1.5s\" },
          { at = \"3s\", clock = \"us\", set = \"-20ms\", and = [{ after = \"1s\", disk_error = \"eu\", calls = 3 }] },
          { at = \"4s\", crash = \"eu\", down = \"1s\", repeat = 2, every = \"10s\" },
          { at = \"5s\", one_way = \"us > *\" },
        ]",
    );
    let incidents = plan.schedule(1).incidents;
    let faults: Vec<_> = incidents.iter().map(|incident| incident.faults.clone()).collect();
    let (eu, us) = (Group::of([0]), Group::of([1]));
    let cut = Pattern::steady(Shape::Between(eu, us));
    assert_eq!(
        faults,
        [
            vec![(2_000_000, Fault::Cut(cut, 0)), (3_500_000, Fault::Mend(cut))],
            vec![
                (3_000_000, Fault::Clock(1, crate::clock::Step::To(-20))),
                (4_000_000, Fault::DiskError(0, Call::Sync, 3)),
            ],
            vec![(4_000_000, Fault::Crash(0, 1_000_000))],
            vec![(5_000_000, Fault::Cut(Pattern::steady(Shape::OneWay(us, eu)), 0))],
            vec![(14_000_000, Fault::Crash(0, 1_000_000))],
        ]
    );
}

#[test]
fn pauses_backups_upgrades_and_swizzles_become_faults() {
    let plan = read(
        "event = [
          { at = \"2s\", pause = \"us\", for = \"1s\" },
          { at = \"9s\", restore = \"eu\", from = \"3s\", down = \"2s\" },
          { at = \"4s\", upgrade = [\"us\", \"eu\"], down = \"1s\", apart = \"5s\" },
          { at = \"20s\", swizzle = \"*\", for = \"4s\" },
        ]",
    );
    let faults: Vec<_> = plan.schedule(1).incidents.into_iter().map(|incident| incident.faults).collect();
    assert_eq!(
        faults[..3],
        [
            vec![(2_000_000, Fault::Pause(1, 1_000_000))],
            vec![(3_000_000, Fault::Backup(0)), (9_000_000, Fault::Restore(0, 2_000_000))],
            vec![(4_000_000, Fault::Upgrade(1, 1_000_000)), (9_000_000, Fault::Upgrade(0, 1_000_000))],
        ]
    );
    let [(cut_us, Fault::Cut(cut, 0)), (mend_us, Fault::Mend(mend))] = faults[3][..] else {
        panic!("{:?}", faults[3])
    };
    assert_eq!(cut, mend);
    assert!((20_000_000..=22_000_000).contains(&cut_us) && (22_000_000..=24_000_000).contains(&mend_us));
}

#[test]
fn clocks_begin_as_the_file_says_and_are_written_so() {
    let plan = read(
        "[[clock]]\nregion = \"us\"\noffset = \"-50ms..-10ms\"\ndrift = \"+200ppm\"\n[[clock]]\nregion = \"eu\"\ndrift = \"-5ppm\"",
    );
    let clocks = |seed| plan.schedule(seed).scenario.clocks;
    let (eu, us) = (clocks(1)[1], clocks(1)[0]);
    assert_eq!((eu.region, eu.offset_ms, eu.drift_ppm), (0, None, -5));
    assert!(
        (us.region, us.drift_ppm) == (1, 200) && us.offset_ms.is_some_and(|ms| (-50..=-10).contains(&ms))
    );
    assert!((0..20).any(|seed| clocks(seed)[0] != us), "the seed draws it");
    let text = write(&plan.schedule(1), &Labels::default()).expect("it can be written");
    assert_eq!(parse("again", &text).expect("right").schedule(1).scenario.clocks, clocks(1));
}

#[test]
fn ranges_are_drawn_by_the_seed_and_each_by_itself() {
    let text = "event = [{ at = \"2s..40s\", crash = \"eu\", down = \"1s..9s\" }]";
    let (plan, more) = (read(text), read(&format!("duration = \"60s..90s\"\n{text}")));
    let ats: Vec<u64> = (0..20).map(|seed| plan.schedule(seed).incidents[0].at_us()).collect();
    assert!(ats.iter().all(|at| (2_000_000..=40_000_000).contains(at)));
    assert!(ats.iter().any(|at| *at != ats[0]), "{ats:?}");
    assert_eq!(plan.schedule(5).incidents, more.schedule(5).incidents, "another range changes nothing here");
}

#[test]
fn named_jobs_are_the_only_ones_unless_services_are_asked_for() {
    let job = "job = [{ at = \"2s\", region = \"us\", key = \"pay:x\", then = \"renew\", times = 2 }]\n";
    let schedule = read(job).schedule(0);
    assert_eq!(schedule.jobs.len(), 1);
    let Course::Claim { then, lease_ms, .. } = schedule.jobs[0].course else { panic!("a claim") };
    assert_eq!((then, lease_ms), (Then::Renew(2), 30_000));
    assert_eq!(schedule.scenario.keys[schedule.jobs[0].key], "pay:x");
    let with_rate = read(&format!("{job}[workload]\nrate = \"10/s\"")).schedule(0);
    assert!((400..800).contains(&with_rate.jobs.len()), "{}", with_rate.jobs.len());
    assert!(with_rate.jobs.is_sorted_by_key(|job| job.at_us));
    let mut numbers: Vec<u32> = with_rate.jobs.iter().map(|job| job.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), with_rate.jobs.len(), "dice go by the number");
}

#[test]
fn zipf_and_twins_shape_the_work() {
    let work = |text: &str| read(&format!("[workload]\nrate = \"20/s\"\n{text}")).schedule(1);
    let share_of_first = |schedule: &Schedule| {
        let first = schedule.jobs.iter().filter(|job| job.key == 0).count();
        first * 100 / schedule.jobs.len()
    };
    // Of ten keys the first has a tenth, or 1 / (1 + 1/2 + … + 1/10) = 34 %.
    assert!((6..15).contains(&share_of_first(&work(""))));
    assert!((29..40).contains(&share_of_first(&work("zipf = 1.0"))));
    let (plain, twins) = (work(""), work("twins = \"50%\"\ntwin_gap = \"1s\""));
    assert!(twins.jobs.len() * 10 > plain.jobs.len() * 13, "{} {}", twins.jobs.len(), plain.jobs.len());
    let pairs = twins.jobs.iter().filter(|job| {
        let again = |other: &&crate::workload::Job| {
            (other.at_us, other.key) == (job.at_us + 1_000_000, job.key) && other.home != job.home
        };
        twins.jobs.iter().any(|other| again(&other))
    });
    assert!(pairs.count() > 300);
}

#[test]
fn delays_come_from_the_link_the_places_or_all_links() {
    let plan = parse(
        "f",
        "[[region]]\nname = \"eu\"\nplace = \"aws:eu-west-1\"\n[[region]]\nname = \"us\"\nplace = \"gcp:us-east4\"\n\
         [[region]]\nname = \"x\"\n[links]\ndelay = \"7ms\"\nloss = \"1%\"\n[[link]]\nfrom = \"us\"\nto = \"eu\"\ndelay = \"50ms\"",
    )
    .expect("right");
    let scenario = plan.schedule(0).scenario;
    let delay = |from, to| {
        let own = scenario.links.iter().find(|link| (link.from, link.to) == (from, to));
        own.map_or(scenario.weather.delay_us, |link| link.weather.delay_us)
    };
    assert_eq!([delay(0, 1), delay(1, 0), delay(0, 2)], [34_000, 50_000, 7_000]);
    assert!(scenario.links.iter().all(|link| link.weather.loss == 10), "the rest is that of all links");
    assert!(scenario.menu.rough);
}

/// A file, and a part of what is told of it.
const WRONG: &[(&str, &str)] = &[
    ("durtion = \"5s\"", "f:2:1: unknown key durtion; did you mean duration?"),
    ("[links]\nduration = \"5s\"", "f:3:1: duration belongs to the file as a whole; write it at the top"),
    ("duration = 5s", "f:2:12: a value that is no number, true or false stands in quotes"),
    ("links = \"20ms\"", "f:2:9: links: expected a table, found string \"20ms\"; write [links]"),
    ("[event]\nat = \"1s\"", "f:2:1: event: there can be several; write [[event]] with two brackets"),
    ("job = [\"x\"]", "f:2:8: job: expected a table, found string \"x\"; write [[job]]"),
    ("seed = 1\nseed = 2", "f:3:1: seed stands twice in its table; keep one"),
    ("a = [", "close the bracket"),
    (
        "[expect]\nconflicts_max = -1",
        "f:3:17: conflicts_max: -1 is less than nothing; write conflicts_max = 0 or more",
    ),
    ("[expect]\nanswers_min = { granted = 5 }", "\"granted\" is no status; did you mean \"GRANTED\"?"),
    ("[expect]\nreached = \"take-over\"", "no moment is called \"take-over\"; did you mean \"takeover\"?"),
    ("[workload]\nrate = 20", "f:3:8: rate: 20 is not a rate; write it with its unit, such as \"20/s\""),
    (
        "event = [{ at = \"2s\", pattern = \"ring\" }]",
        "\"ring\" cuts nothing between so few as 2 regions; choose one of isolated, flapping",
    ),
    (
        "event = [{ at = \"2s\", pattern = \"flaping\" }]",
        "none is called \"flaping\"; did you mean \"flapping\"?",
    ),
    ("event = [{ at = \"2s\", ring = 1 }]", "a ring needs four regions at least"),
    (
        "event = [{ at = \"2s\", partition = [\"eu\", \"us\"] }]",
        "one text names both sides; write partition = \"eu | us\"",
    ),
    ("event = [{ at = \"2s\", crash = [\"eu\"], down = \"1s\" }]", "found a list; write crash = \"eu\""),
    ("event = [{ at = \"2s\", everywhere = false }]", "everywhere: false does nothing"),
    // What has no effect is no better than a misspelt key.
    (
        "event = [{ at = \"2s\", reset = [\"eu\", \"us\"], every = \"9s\" }]",
        "every: has no effect: it says how far apart the times of repeat are; add repeat",
    ),
    (
        "event = [{ at = \"2s\", mend = true }]",
        "mend: does nothing by itself; say of what with one of partition",
    ),
    (
        "event = [{ at = \"2s\", partition = \"eu | us\", mend = true }]",
        "mend: has no effect: no event cuts what",
    ),
    (
        "event = [{ at = \"2s\", crash = \"eu\", down = \"1s\", rolling = \"1s\" }]",
        "rolling: means nothing for crash, only for add",
    ),
    ("[links]\nqueue = \"1KiB\"", "f:3:9: queue: has no effect: waits only where there is a rate; add rate"),
    (
        "keys = [\"pay:1\"]\nnamespace = [{ name = \"pay\", keys = 3 }]",
        "keys: has no effect: the file names all",
    ),
    (
        "job = [{ at = \"2s\", region = \"eu\", key = \"pay:1\" }]\n[workload]\ntwins = \"5%\"",
        "twins: has no effect: it shapes jobs that are drawn",
    ),
    ("[workload]\ntwin_gap = \"5s\"", "twin_gap: has no effect: no claim has a twin; add twins"),
    ("duration = 5", "f:2:12: duration: 5 is not a duration; write it with its unit, such as \"5s\""),
    ("duration = \"9s..5s\"", "f:2:12: duration: the range is crossed; write \"5s..9s\""),
    ("duration = \"1us\"", "f:2:12: duration: 1us is out of range; choose from 1ms to 7d"),
    ("seed = -1", "f:2:8: seed: -1 is no seed"),
    ("event = [{ at = \"2s\" }]", "f:2:10: the event does nothing; say what with one of partition"),
    (
        "event = [{ at = \"2s\", crash = \"ap\", down = \"1s\" }]",
        "f:2:31: crash: no region is called \"ap\"; there are: eu, us",
    ),
    ("event = [{ at = \"2s\", crash = \"eu\" }]", "f:2:10: down is missing; write down = \"2s\""),
    (
        "event = [{ at = \"2m\", reset = [\"eu\", \"us\"] }]",
        "f:2:17: at: 2m is after the end, the run lasts 60s; write an earlier time, or raise duration",
    ),
    (
        "event = [{ at = \"2s\", crash = \"eu\", down = \"1s\", for = \"1s\" }]",
        "f:2:56: for: crash does not last; say how long it is down",
    ),
    (
        "event = [{ at = \"2s\", crash = \"eu\", stall = \"eu\", down = \"1s\" }]",
        "f:2:45: stall: an event does one thing; put this one into and",
    ),
    (
        "event = [{ at = \"2s\", partition = \"eu\" }]",
        "f:2:35: partition: \"eu\" does not name two groups; write such as \"eu | us\"",
    ),
    (
        "event = [{ at = \"2s\", clock = \"eu\", set = \"+9s\" }]",
        "f:2:43: set: \"+9s\" is more than 5 times max_drift",
    ),
    ("event = [{ at = \"2s\", add = \"eu\" }]", "f:2:29: add: \"eu\" belongs already"),
    (
        "event = [{ at = \"2s\", rot = \"eu\" }, { at = \"2s\", rot = \"us\" }]",
        "f:2:37: rot: takes what must not be gone elsewhere too",
    ),
    ("job = [{ at = \"2s\", region = \"eu\", key = \"x\" }]", "f:2:42: key: \"x\" is of no [[namespace]]"),
    (
        "job = [{ at = \"2s\", region = \"eu\", key = \"pay:x\", do = \"steal\" }]",
        "f:2:56: do: \"steal\" is not known; choose one of \"claim\", \"get\", \"forget\"",
    ),
    (
        "[[namespace]]\nname = \"a\"\nretention = \"30s\"",
        "f:4:13: retention: must be longer than lease and twice max_drift (S1); write at least \"31.001s\"",
    ),
    (
        "[workload]\nlost = \"0.05%\"",
        "f:3:8: lost: \"0.05%\" is not a share; write a share in steps of a tenth",
    ),
    ("[workload]\nzombies = \"60%\"\nvanish = \"60%\"", "more than 100% together; lower them"),
    ("[workload]\nelsewhere = 5", "f:3:13: elsewhere: 5 is not a share"),
    ("[chaos]\nkinds = [\"locusts\"]", "f:3:9: kinds: \"locusts\" is not known; choose of partitions"),
    ("[expect]\nreached = \"nirvana\"", "f:3:11: reached: no moment is called \"nirvana\""),
    ("[expect]\nconvergence_max = \"1s..2s\"", "f:3:19: convergence_max: a range has no meaning here"),
    ("[[link]]\nbetween = [\"eu\", \"eu\"]", "f:3:11: between: names two different regions"),
    ("event = [{ at = \"2s\", pause = \"eu\" }]", "for is missing; write for = \"2s\""),
    (
        "event = [{ at = \"2s\", restore = \"eu\", down = \"2s\" }]",
        "restore: there is no copy of \"eu\"; say when it was taken",
    ),
    (
        "event = [{ at = \"2s\", restore = \"eu\", from = \"3s\", down = \"2s\" }]",
        "from: the copy is put back from 2s on; write an earlier time",
    ),
    (
        "event = [{ at = \"2s\", upgrade = [\"eu\", \"us\", \"eu\"], down = \"2s\" }]",
        "upgrade: \"eu\" is upgraded twice, and versions that are two apart do not speak",
    ),
    (
        "event = [{ at = \"2s\", swizzle = \"eu\", for = \"2s\" }]",
        "swizzle: names the regions whose links it takes, two at least",
    ),
    (
        "[[clock]]\nregion = \"eu\"\noffset = 5",
        "f:4:10: offset: 5 is none; write it with its sign and unit, offset = \"+150ms\"",
    ),
    (
        "[[clock]]\nregion = \"eu\"\ndrift = \"+5%\"",
        "f:4:9: drift: \"+5%\" is none; write it with its sign and unit",
    ),
    ("[[clock]]\nregion = \"eu\"\ndrift = \"+5000ppm\"", "f:4:9: drift: choose from -1000ppm to +1000ppm"),
    ("[[clock]]\nregion = \"eu\"", "f:2:1: the clock is as all others; say offset"),
    ("core = [\"eu\"]", "f:2:8: core: it takes two regions at least to agree; name another one"),
    ("[[link]]\ndelay = \"1ms\"", "f:2:1: a link has two ends"),
];

/// Each with its place, and with what to do.
#[test]
fn what_is_wrong_is_told_with_line_and_column_and_what_to_write() {
    for (text, told) in WRONG {
        let error = wrong(text);
        assert!(error.contains(told), "{text}\n{error}\n{told}");
    }
    let all =
        parse("f", "[[region]]\nname = \"EU\"\nplace = \"moon:base-1\"\nlater = \"yes\"").expect_err("wrong");
    let FileError::Wrong(problems) = &all else { panic!("{all}") };
    let places: Vec<(usize, usize)> = problems.iter().map(|problem| (problem.line, problem.column)).collect();
    assert_eq!(places, [(1, 1), (2, 8), (3, 9), (4, 9)], "all at once: {all}");
    assert!(matches!(parse("f", "a = ["), Err(FileError::Wrong(_))));
}

/// A reviewer's files: each was called right, and the run then panicked, hung, or blamed the product.
#[test]
fn what_a_run_could_not_do_is_refused_with_its_reason() {
    let head = "[[region]]\nname = \"eu\"\n[[region]]\nname = \"us\"\n";
    let cases = [
        ("[[namespace]]\nname = \"pay\"\nretention = \"365d\"\n", "retention"),
        (
            "[[job]]\nat = \"1s\"\nregion = \"eu\"\nkey = \"pay:1\"\nlease = \"365d\"\n",
            "lease: must be shorter",
        ),
        ("[[event]]\nat = \"5s\"\nreload = \"us\"\n", "no membership changes"),
        ("[disk]\nreserve = \"1GiB\"\n", "reserve"),
        ("[disk]\nsync = \"60s\"\n", "sync"),
    ];
    for (tail, wanted) in cases {
        let error = parse("mine.toml", &format!("{head}{tail}")).expect_err(wanted).to_string();
        assert!(error.contains(wanted) && error.contains("mine.toml:"), "{wanted}: {error}");
    }
    let tops = [
        ("keys = [\"pay:a\", \"pay:a\"]\n", "stands twice"),
        ("duration = \"7d\"\nworkload = { rate = \"10000/s\" }\n", "about 6048000000 jobs"),
    ];
    for (top, wanted) in tops {
        let error = parse("mine.toml", &format!("{top}{head}")).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    let long = format!("{head}[[job]]\nat = \"1s\"\nregion = \"eu\"\nkey = \"pay:{}\"\n", "x".repeat(600));
    let error = parse("mine.toml", &long).expect_err("a long key").to_string();
    assert!(error.contains("write at most 512"), "{error}");
    let many: String = (0..70).map(|n| format!("[[region]]\nname = \"r{n}\"\n")).collect();
    let error = parse("mine.toml", &many).expect_err("too many regions").to_string();
    assert!(error.contains("there are 70 regions"), "{error}");
}
