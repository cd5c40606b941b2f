//! Running text of the sample language: short documents, each about one subject.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::words::{
    ANNOYED, BLAME, DEGREES, KINDS, PLACES, PLAIN, PLEASED, PRAISE, TOPICS, VERBS, chance, pick, plural,
    third_person, with_article,
};

/// `documents` documents, one paragraph per line, an empty line between documents.
pub fn text(documents: usize, random: &mut ChaCha8Rng) -> String {
    let mut text = String::new();
    for number in 0..documents {
        if number > 0 {
            text.push('\n');
        }
        let write = match number % 4 {
            0 => nature,
            1 => review,
            2 => events,
            _ => habits,
        };
        for _ in 0..random.random_range(2..4) {
            let sentences: Vec<String> =
                (0..random.random_range(2..5)).map(|_| sentence(&write(random))).collect();
            text += &sentences.join(" ");
            text.push('\n');
        }
    }
    text
}

/// Capital letter and full stop.
pub fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase()).unwrap_or_default();
    let end = if words.ends_with(['!', '?']) { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}

/// What kind of thing something is.
fn nature(random: &mut ChaCha8Rng) -> String {
    let kind = &KINDS[random.random_range(0..KINDS.len())];
    let member = pick(kind.members, random);
    let other = pick(kind.members, random);
    let plain = pick(&PLAIN, random);
    match random.random_range(0..9) {
        0 => format!("{} is {}", with_article(member), with_article(kind.name)),
        1 => format!("the {member} is {} {}", with_article(plain), kind.name),
        2 => format!("every {} is {}", kind.name, with_article(kind.above)),
        3 => format!("among all {} we liked the {member} best", plural(kind.name)),
        4 => format!("the {member} and the {other} are {}", plural(kind.name)),
        5 => format!("no {} is as {plain} as the {member}", kind.name),
        6 => format!("we saw a {plain} {}, and it was {}", kind.name, with_article(member)),
        7 => format!("{} like the {member} are {}", plural(kind.name), plural(kind.above)),
        _ => {
            let stranger = &KINDS[random.random_range(0..KINDS.len())];
            let odd = pick(stranger.members, random);
            if stranger.name == kind.name {
                format!("{}, and so is {}", nature_of(member, kind.name), with_article(odd))
            } else {
                format!("{}, but {} is not", nature_of(member, kind.name), with_article(odd))
            }
        }
    }
}

fn nature_of(member: &str, kind: &str) -> String {
    format!("{} is {}", with_article(member), with_article(kind))
}

/// Praise or blame, without mixing them.
fn review(random: &mut ChaCha8Rng) -> String {
    let (same, opposite, outcomes) =
        if chance(50, random) { (&PRAISE, &BLAME, &PLEASED) } else { (&BLAME, &PRAISE, &ANNOYED) };
    let (topic, other) = (pick(&TOPICS, random), pick(&TOPICS, random));
    let mut some = |words: &[&str]| match chance(40, random) {
        true => format!("{} {}", pick(&DEGREES, random), pick(words, random)),
        false => pick(words, random).to_string(),
    };
    let (a, b, not_a) = (some(same), some(same), some(opposite));
    let outcome = pick(outcomes, random);
    match random.random_range(0..9) {
        0 => format!("the {topic} was {a} and {b}, so {outcome}"),
        1 => format!("because the {topic} was {a}, {outcome}"),
        2 => format!("the {topic} was not {not_a}, and {outcome}"),
        3 => format!("the {topic} was never {not_a}: it was {a}"),
        4 => format!("although the {other} was {not_a}, the {topic} was {a}, and {outcome}"),
        5 => format!("the {other} was {not_a} but the {topic} was {a}, so in the end {outcome}"),
        6 => format!("it was {} {topic}, {a} and {b}", with_article(pick(same, random))),
        7 => format!("nobody could call the {topic} {not_a}, and {outcome}"),
        _ => format!("{outcome}, for the {topic} was nothing if not {a}"),
    }
}

/// Who did what to whom, told twice.
fn events(random: &mut ChaCha8Rng) -> String {
    let (subject, object) = (actor(random), thing(random));
    let verb = VERBS[random.random_range(0..VERBS.len())];
    let same = usize::from(chance(50, random));
    let (a, b) = (verb[same].1, verb[1 - same].1);
    let (place, plain) = (pick(&PLACES, random), pick(&PLAIN, random));
    match random.random_range(0..7) {
        0 => format!("the {subject} {a} the {object}"),
        1 => format!("the {subject} {a} the {plain} {object} near the {place}"),
        2 => format!("the {subject} {a} the {object}, that is, it {b} the {object}"),
        3 => format!("the {object} was {} by the {subject}", participle(a)),
        4 => format!("the {subject} who {a} the {object} also {b} the {}", thing(random)),
        5 => format!("to {} is to {}, as the {subject} said", verb[same].0, verb[1 - same].0),
        _ => format!("near the {place} the {subject} {a} the {object} and nobody else {b} it"),
    }
}

/// The participle of a past form.
pub fn participle(past: &str) -> &str {
    if past == "hid" { "hidden" } else { past }
}

/// What one or many do every day: agreement of subject and verb.
fn habits(random: &mut ChaCha8Rng) -> String {
    present_clause(random, true)
}

/// A clause in the present tense; where not `agrees`, the verb has the wrong number.
pub fn present_clause(random: &mut ChaCha8Rng, agrees: bool) -> String {
    let many = chance(50, random);
    let verb = VERBS[random.random_range(0..VERBS.len())][usize::from(chance(50, random))].0;
    let verb_form = if many == agrees { verb.to_string() } else { third_person(verb) };
    let number = |noun: &str, many: bool| if many { plural(noun) } else { noun.to_string() };
    let subject = number(actor(random), many);
    let object = number(thing(random), chance(50, random));
    let place = number(pick(&PLACES, random), chance(50, random));
    let plain = pick(&PLAIN, random);
    match random.random_range(0..5) {
        0 => format!("the {subject} {verb_form} the {object}"),
        1 => format!("the {subject} near the {place} {verb_form} the {plain} {object}"),
        2 => format!("the {plain} {subject} {verb_form} the {object} every day"),
        3 => {
            let other = number(actor(random), chance(50, random));
            format!("the {subject} behind the {other} {verb_form} the {object}")
        }
        _ => format!("every day the {subject} from the {place} {verb_form} the {object}"),
    }
}

/// Something that acts.
pub fn actor(random: &mut ChaCha8Rng) -> &'static str {
    loop {
        let kind = &KINDS[random.random_range(0..KINDS.len())];
        if kind.acts() {
            return pick(kind.members, random);
        }
    }
}

/// Anything.
pub fn thing(random: &mut ChaCha8Rng) -> &'static str {
    pick(KINDS[random.random_range(0..KINDS.len())].members, random)
}
