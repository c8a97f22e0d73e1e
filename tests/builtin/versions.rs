//! `dpkg --compare-versions` and `dpkg --validate-version`.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::world::World;

const VERSIONS: [&str; 13] = [
    "",
    "0",
    "1.0",
    "1.0-1",
    "0:1.0-0",
    "1:1.0-1~",
    "1.0~rc1-2",
    "1.0+dfsg-1ubuntu2",
    "13.8+deb13u7",
    "2:4.0.4-7~",
    "010",
    "10",
    "1.a",
];
/// What dpkg warns of or refuses.
const ODD: [&str; 9] = ["1.0-", "a1", "-1", "1:", "x:1", "1 2", " 1.0 ", "1_0", "99999999999:1"];
const RELATIONS: [&str; 15] =
    ["lt", "le", "eq", "ne", "ge", "gt", "lt-nl", "le-nl", "ge-nl", "gt-nl", "<<", "<=", "=", ">=", ">>"];

#[test]
fn versions_are_compared_as_dpkg_does() {
    let Some(mut world) = World::new() else { return };
    for version in VERSIONS {
        let valid = !version.is_empty();
        assert_eq!(world.call("dpkg", &["--validate-version", "--", version]), valid, "{version}");
        assert_eq!(world.call("dpkg", &["--validate-version", version]), valid, "{version}");
    }
    for version in ODD {
        world.must_not("dpkg", &["--validate-version", "--", version]);
        world.must_not("dpkg", &["--compare-versions", version, "lt", "1"]);
        world.must_not("dpkg", &["--compare-versions", "1", "lt", version]);
    }
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..300 {
        let mut version = || match random.random_bool(0.6) {
            true => (*VERSIONS.choose(&mut random).unwrap()).to_owned(),
            false => {
                let length = random.random_range(0..6);
                let rest = (0..length).map(|_| *b"0019~+.-a".choose(&mut random).unwrap() as char);
                ['1'].into_iter().chain(rest).collect()
            }
        };
        let (left, right) = (version(), version());
        let relation = *RELATIONS.choose(&mut random).unwrap();
        world.call("dpkg", &["--compare-versions", &left, relation, &right]);
        world.call("dpkg", &["--compare-versions", "--", &left, relation, &right]);
    }
    println!("{} done, {} declined", world.done, world.declined.len());
    assert!(world.done > 250, "{} done", world.done);
    for words in [
        &["--compare-versions", "1", "lt"][..],
        &["--print-architecture"],
        &["--force-all", "--compare-versions", "1", "lt", "2"],
    ] {
        world.must_not("dpkg", words);
    }
}
