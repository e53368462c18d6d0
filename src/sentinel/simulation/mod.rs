//! Sentinels against a hostile night, played from a seed: crashes, cuts, delays, stopped processes, clocks that jump.
//!
//! Through all of it no epoch has two leaders, nobody votes twice in one, no epoch goes back, not even over a crash between two steps;
//! and when the night is over, all agree on one primary, and every other server follows it. A seed that fails becomes a test of
//! its own. `SENTINEL_SEEDS=1000 cargo test --lib sentinel::simulation` plays more of them.

mod data;
mod faults;
mod world;

use crate::sentinel::instance::Stage;
use world::{DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS, NAME, World, ip};

/// What a night is made of.
#[derive(Clone, Copy, Debug)]
struct Night {
    servers: usize,
    sentinels: usize,
    minutes: i64,
    clocks_jump: bool,
}

const NIGHT: Night = Night { servers: 4, sentinels: 5, minutes: 3, clocks_jump: true };

/// Time to find each other: INFO comes every ten seconds, the hello every two.
const ACQUAINTANCE_MS: i64 = 25_000;
/// TILT of thirty seconds, failovers one after the other, and replicas that are put right after the failover's timeout.
const RECOVERY_MS: i64 = 240_000;

/// Something goes wrong.
fn trouble(world: &mut World, night: Night) {
    let nodes = world.nodes();
    let node = world.dice.below(nodes as u64) as usize;
    let is_sentinel = node >= night.servers;
    match world.dice.below(12) {
        0..3 => world.crash(node),
        3..5 if !world.is_up(node) => world.boot(node),
        5 if is_sentinel && world.is_up(node) => world.crash_soon(node),
        6 => {
            // A wall through the middle of everything.
            let side: Vec<bool> = (0..nodes).map(|_| world.dice.below(2) == 0).collect();
            let pairs = (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b)));
            world.cut = pairs.filter(|(a, b)| side[*a] != side[*b]).collect();
        }
        7 => {
            world.cut =
                (0..nodes).filter(|other| *other != node).map(|other| (node.min(other), node.max(other))).collect()
        }
        8 => world.cut.clear(),
        9 => world.delay_max_ms = [5, 100, 1500][world.dice.below(3) as usize],
        10 if is_sentinel && world.is_up(node) => {
            let ms = world.dice.below(6000) as i64;
            world.pause(node, ms);
        }
        11 if is_sentinel && night.clocks_jump => {
            let ms = world.dice.below(20_000) as i64 - 10_000;
            world.shift_clock(node, ms);
        }
        // Whoever is up flaps, whoever is down comes back.
        _ if world.is_up(node) => {
            world.crash(node);
            world.run_for(1 + DOWN_AFTER_MS * 3 / 2);
            world.boot(node);
        }
        _ => world.boot(node),
    }
}

/// Plays a night; the world in the morning, or what went wrong. Contradictions panic on the way.
fn play(seed: u64, night: Night) -> World {
    let mut world = World::new(seed, night.servers, night.sentinels);
    world.run_for(ACQUAINTANCE_MS);
    for core in world.cores() {
        let id = core.names[NAME];
        assert_eq!(core.replica_ids(id).len(), night.servers - 1, "seed {seed}: all replicas are known");
        assert_eq!(core.sentinel_ids(id).len(), night.sentinels - 1, "seed {seed}: all sentinels are known");
    }
    let end_ms = world.now_ms + night.minutes * 60_000;
    while world.now_ms < end_ms {
        trouble(&mut world, night);
        let pause_ms = 200 + world.dice.below(5000) as i64;
        world.run_for(pause_ms);
    }
    world.heal();
    world.run_for(RECOVERY_MS);
    world
}

/// All sentinels name one primary, nothing is under way, and everybody follows.
fn check_morning(world: &World) -> Result<(), String> {
    let named: Vec<String> = world.cores().map(|core| core.current_address(core.names[NAME]).ip.clone()).collect();
    let primary = &named[0];
    if named.iter().any(|name| name != primary) {
        return Err(format!("no agreement: {named:?}"));
    }
    for core in world.cores() {
        let id = core.names[NAME];
        let failover = &core.primary(id).failover;
        if failover.in_progress || failover.stage != Stage::None || core.it(id).s_down {
            return Err(format!("{} is not at rest: {:?}", core.my_id, failover));
        }
    }
    for (node, server) in world.servers.iter().enumerate() {
        let is_right = match &server.follows {
            None => ip(node) == *primary,
            Some(follows) => follows == primary && ip(node) != *primary && server.link_up,
        };
        if !is_right {
            return Err(format!(
                "{} follows {:?}, link {}, primary {primary}",
                ip(node),
                server.follows,
                server.link_up
            ));
        }
    }
    Ok(())
}

fn play_and_check(seed: u64, night: Night) -> World {
    let world = play(seed, night);
    if let Err(reason) = check_morning(&world) {
        let tail = world.log.len().saturating_sub(120);
        panic!("seed {seed}, {night:?}: {reason}\n{}", world.log[tail..].join("\n"));
    }
    world
}

fn seeds() -> u64 {
    std::env::var("SENTINEL_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(6)
}

#[test]
fn nights_end_in_agreement() {
    let (mut failovers, mut epochs, mut tilts) = (0, 0, 0);
    for seed in 0..seeds() {
        let world = play_and_check(seed, NIGHT);
        failovers += world.records.failovers;
        epochs += world.records.leaders.len();
        tilts += world.records.tilts;
    }
    // The nights were wild enough to prove something.
    assert!(failovers as u64 >= seeds() && epochs as u64 >= seeds() && tilts > 0, "{failovers} {epochs} {tilts}");
}

#[test]
fn three_sentinels_and_two_servers() {
    let night = Night { servers: 2, sentinels: 3, minutes: 3, clocks_jump: false };
    (1000..1000 + seeds()).for_each(|seed| drop(play_and_check(seed, night)));
}

#[test]
fn the_same_seed_is_the_same_night() {
    let night = Night { minutes: 1, ..NIGHT };
    assert_eq!(play(7, night).log, play(7, night).log);
    assert_ne!(play(7, night).log, play(8, night).log);
}

/// Without trouble nothing happens at all.
#[test]
fn a_quiet_night_is_quiet() {
    let mut world = World::new(1, 3, 3);
    world.run_for(600_000);
    assert_eq!((world.records.leaders.len(), world.records.failovers), (0, 0));
    assert!(!world.log.iter().any(|line| line.contains("+sdown") || line.contains("+tilt")), "{:?}", world.log);
    check_morning(&world).expect("all is well");
}

/// The primary dies once: one leader, one promotion, and soon.
#[test]
fn a_dead_primary_is_replaced_within_seconds() {
    let mut world = World::new(3, 3, 3);
    world.run_for(ACQUAINTANCE_MS);
    world.crash(0);
    world.run_for(DOWN_AFTER_MS + 8000);
    assert!(!world.records.leaders.is_empty(), "{}", world.log.join("\n"));
    for core in world.cores() {
        assert_ne!(core.current_address(core.names[NAME]).ip, ip(0), "{}", world.log.join("\n"));
    }
    world.boot(0);
    world.run_for(60_000);
    check_morning(&world).expect("the old primary follows the new one");
}

/// The checks see what they are there for: a sentinel that comes back without what it has promised.
#[test]
#[should_panic(expected = "went back")]
fn a_disk_that_forgets_is_noticed() {
    let mut world = World::new(3, 3, 3);
    world.run_for(ACQUAINTANCE_MS);
    world.crash(0);
    world.run_for(DOWN_AFTER_MS + 8000);
    world.crash(4);
    world.forget(4);
    world.boot(4);
    world.run_for(1000);
}

/// A minority that is cut off with the primary cannot fail over, however long it lasts; the majority can.
#[test]
fn a_minority_promotes_nobody() {
    let mut world = World::new(5, 3, 5);
    world.run_for(ACQUAINTANCE_MS);
    // Servers 1 and 2 with two sentinels of five, away from the primary and the rest.
    let minority = [1, 2, 3, 4];
    let pairs = (0..8).flat_map(|a| (a + 1..8).map(move |b| (a, b)));
    world.cut = pairs.filter(|(a, b)| minority.contains(a) != minority.contains(b)).collect();
    world.run_for(FAILOVER_TIMEOUT_MS * 10);
    assert!(world.records.leaders.is_empty(), "{:?}", world.records.leaders);
    assert!(world.servers.iter().skip(1).all(|server| server.follows.is_some()));
    world.heal();
    world.run_for(RECOVERY_MS);
    check_morning(&world).expect("all is well again");
}
