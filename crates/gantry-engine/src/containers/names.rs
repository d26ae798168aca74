//! Names for containers that were given none: an adjective and somebody who is worth remembering.

const ADJECTIVES: [&str; 40] = [
    "able", "amber", "brave", "bright", "brisk", "calm", "clever", "crisp", "deft", "eager",
    "early", "fair", "fleet", "fond", "gentle", "glad", "golden", "handy", "honest", "jolly",
    "keen", "kind", "lively", "lucid", "merry", "mild", "neat", "noble", "patient", "plain",
    "polite", "proud", "quick", "quiet", "ready", "sober", "steady", "sunny", "tidy", "warm",
];

const PEOPLE: [&str; 40] = [
    "archimedes",
    "babbage",
    "backus",
    "bell",
    "boole",
    "cerf",
    "church",
    "codd",
    "curie",
    "darwin",
    "dijkstra",
    "engelbart",
    "euclid",
    "euler",
    "fermat",
    "franklin",
    "galileo",
    "gauss",
    "hamilton",
    "hertz",
    "hopper",
    "huygens",
    "kepler",
    "knuth",
    "lamport",
    "leibniz",
    "liskov",
    "lovelace",
    "maxwell",
    "mccarthy",
    "meitner",
    "newton",
    "noether",
    "pascal",
    "ritchie",
    "shannon",
    "tesla",
    "thompson",
    "turing",
    "wirth",
];

/// The name of a random number; `attempt` > 0 appends a digit, as collisions ask for it.
pub(crate) fn generate(random: u64, attempt: u32) -> String {
    let adjective = ADJECTIVES[(random % 40) as usize];
    let person = PEOPLE[(random / 40 % 40) as usize];
    match attempt {
        0 => format!("{adjective}_{person}"),
        more => format!("{adjective}_{person}{}", more - 1),
    }
}
