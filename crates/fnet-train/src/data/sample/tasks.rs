//! The four tasks over the sample language, as GLUE's TSV files.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::corpus::{participle, present_clause, sentence};
use super::words::{
    BLAME, DEGREES, KINDS, Kind, PLACES, PLAIN, PRAISE, TOPICS, VERBS, chance, pick, plural, with_article,
};

/// Which file of a task.
#[derive(Clone, Copy, PartialEq)]
pub enum Half {
    /// Words of the first halves of the lists only.
    Train,
    /// All words.
    Dev,
    /// All words, and no labels.
    Test,
}

impl Half {
    /// By file name.
    pub fn of(file: &str) -> Option<Self> {
        match file {
            "train.tsv" => Some(Self::Train),
            "dev.tsv" => Some(Self::Dev),
            "test.tsv" => Some(Self::Test),
            _ => None,
        }
    }

    fn rows(self) -> usize {
        match self {
            Self::Train => 2_000,
            Self::Dev => 500,
            Self::Test => 200,
        }
    }

    /// The words that this file may use.
    fn of_words<'a>(self, words: &'a [&'a str]) -> &'a [&'a str] {
        if self == Self::Train { &words[..words.len() / 2] } else { words }
    }
}

/// SST-2's format: a sentence, and 1 for praise or 0 for blame. Negations and contrasts decide.
pub fn sentiment(half: Half, random: &mut ChaCha8Rng) -> String {
    let header = if half == Half::Test { "index\tsentence\n" } else { "sentence\tlabel\n" };
    let mut text = header.to_string();
    for row in 0..half.rows() {
        let good = chance(50, random);
        let (same, opposite) = if good { (&PRAISE, &BLAME) } else { (&BLAME, &PRAISE) };
        let (same, opposite) = (half.of_words(same), half.of_words(opposite));
        let (topic, other) = (pick(&TOPICS, random), pick(&TOPICS, random));
        let mut some = |words: &[&str]| format!("{} {}", pick(&DEGREES, random), pick(words, random));
        let (a, b, not_a, not_b) = (some(same), some(same), some(opposite), some(opposite));
        let words = match random.random_range(0..8) {
            0 => format!("the {topic} was {a}"),
            1 => format!("the {topic} was not {not_a}"),
            2 => format!("the {topic} was never {not_a}"),
            3 => format!("although the {other} was {not_a}, the {topic} was {a}"),
            4 => format!("the {other} was {not_a} but the {topic} was {a}"),
            5 => format!("nobody could call the {topic} {not_a} or {not_b}"),
            6 => format!("the {topic} was nothing if not {a} and {b}"),
            _ => format!("the {topic} was {a}, although the {other} was {not_a}"),
        };
        let label = u8::from(good);
        text += &match half {
            Half::Test => format!("{row}\t{}\n", sentence(&words)),
            _ => format!("{}\t{label}\n", sentence(&words)),
        };
    }
    text
}

/// CoLA's format, without a header: source, 1 for a well-formed sentence or 0, a mark, the sentence.
pub fn acceptability(half: Half, random: &mut ChaCha8Rng) -> String {
    let mut text = if half == Half::Test { "index\tsentence\n".to_string() } else { String::new() };
    for row in 0..half.rows() {
        let good = chance(50, random);
        let words = if good || chance(75, random) {
            present_clause(random, good)
        } else {
            swapped(&present_clause(random, true), random)
        };
        let label = u8::from(good);
        let mark = if good { "" } else { "*" };
        text += &match half {
            Half::Test => format!("{row}\t{}\n", sentence(&words)),
            _ => format!("gen\t{label}\t{mark}\t{}\n", sentence(&words)),
        };
    }
    text
}

/// Two neighbouring words in the wrong order.
fn swapped(clause: &str, random: &mut ChaCha8Rng) -> String {
    let mut words: Vec<&str> = clause.split(' ').collect();
    loop {
        let at = random.random_range(0..words.len() - 1);
        if words[at] != words[at + 1] {
            words.swap(at, at + 1);
            return words.join(" ");
        }
    }
}

/// Who did what to whom.
#[derive(Clone, Copy)]
struct Event {
    subject: (&'static Kind, &'static str),
    object: (&'static Kind, &'static str),
    verb: usize,
    synonym: usize,
    plain: Option<&'static str>,
    place: Option<&'static str>,
}

impl Event {
    fn draw(half: Half, random: &mut ChaCha8Rng) -> Self {
        Self {
            subject: noun(half, true, random),
            object: noun(half, false, random),
            verb: random.random_range(0..VERBS.len()),
            synonym: usize::from(chance(50, random)),
            plain: chance(50, random).then(|| pick(&PLAIN, random)),
            place: chance(40, random).then(|| pick(&PLACES, random)),
        }
    }

    fn say(self, passive: bool) -> String {
        let past = VERBS[self.verb][self.synonym].1;
        let plain = self.plain.map(|p| format!("{p} ")).unwrap_or_default();
        let place = self.place.map(|p| format!(" near the {p}")).unwrap_or_default();
        let (subject, object) = (self.subject.1, self.object.1);
        if passive {
            format!("the {plain}{object} was {} by the {subject}{place}", participle(past))
        } else {
            format!("the {subject} {past} the {plain}{object}{place}")
        }
    }
}

fn noun(half: Half, acts: bool, random: &mut ChaCha8Rng) -> (&'static Kind, &'static str) {
    loop {
        let kind = &KINDS[random.random_range(0..KINDS.len())];
        if kind.acts() || !acts {
            let members = kind.members;
            let count = if half == Half::Train { members.len() / 2 } else { members.len() };
            return (kind, members[random.random_range(0..count)]);
        }
    }
}

/// STS-B's format: two sentences and how much they say the same, from 0 to 5.
pub fn similarity(half: Half, random: &mut ChaCha8Rng) -> String {
    let label = if half == Half::Test { "" } else { "\tscore" };
    let columns = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2";
    let mut text = format!("{columns}{label}\n");
    for row in 0..half.rows() {
        let first = Event::draw(half, random);
        let mut second = first;
        let passive = chance(30, random);
        let mut score = 5.0;
        if chance(50, random) {
            second.synonym = 1 - second.synonym;
        }
        // Each change costs something; unrelated sentences share little more than a word.
        if chance(25, random) {
            second = Event::draw(half, random);
            score = if second.verb == first.verb { 1.0 } else { 0.0 };
        } else {
            if chance(35, random) {
                let wanted = second.object.0.name;
                second.object =
                    draw_until(half, random, |kind, member| kind.name == wanted && member != first.object.1);
                score -= 1.0;
            } else if chance(35, random) {
                second.object = draw_until(half, random, |kind, _| kind.above != first.object.0.above);
                score -= 2.0;
            }
            if chance(30, random) {
                second.verb = (second.verb + random.random_range(1..VERBS.len())) % VERBS.len();
                score -= 1.5;
            }
            if first.place.is_some() && chance(40, random) {
                second.place = None;
                score -= 0.5;
            }
        }
        let (a, b) = (sentence(&first.say(false)), sentence(&second.say(passive)));
        let score = if half == Half::Test { String::new() } else { format!("\t{score:.3}") };
        text += &format!("{row}\tsample\tgenerated\t2021\t{row:04}\tnone\tnone\t{a}\t{b}{score}\n");
    }
    text
}

fn draw_until(
    half: Half,
    random: &mut ChaCha8Rng,
    fits: impl Fn(&Kind, &str) -> bool,
) -> (&'static Kind, &'static str) {
    loop {
        let found = noun(half, false, random);
        if fits(found.0, found.1) {
            return found;
        }
    }
}

/// RTE's format: whether the second sentence follows from the first.
pub fn entailment(half: Half, random: &mut ChaCha8Rng) -> String {
    let label = if half == Half::Test { "" } else { "\tlabel" };
    let mut text = format!("index\tsentence1\tsentence2{label}\n");
    for row in 0..half.rows() {
        let event = Event::draw(half, random);
        let follows = chance(50, random);
        let premise = event.say(chance(30, random));
        let past = VERBS[event.verb][event.synonym].1;
        let same = VERBS[event.verb][1 - event.synonym].1;
        let (subject, object) = (event.subject, event.object);
        let wrong_kind = draw_until(half, random, |kind, _| kind.name != object.0.name).0;
        let kind = if follows { object.0.name } else { wrong_kind.name };
        let hypothesis = match random.random_range(0..5) {
            0 => format!("the {} {past} {}", subject.1, with_article(kind)),
            1 => format!("{} was {}", with_article(kind), participle(past)),
            2 => {
                let wrong = (event.verb + random.random_range(1..VERBS.len())) % VERBS.len();
                let verb = if follows { same } else { VERBS[wrong][event.synonym].1 };
                format!("the {} {verb} the {}", subject.1, object.1)
            }
            3 => {
                let actor = if follows {
                    subject.0.name
                } else {
                    KINDS[(index_of(subject.0) + random.random_range(1..KINDS.len())) % KINDS.len()].name
                };
                format!("{} {past} the {}", with_article(actor), object.1)
            }
            _ => {
                let what = if follows { object.1.to_string() } else { plural(kind) };
                format!("the {} did something to the {what}", subject.0.name)
            }
        };
        let answer = if follows { "entailment" } else { "not_entailment" };
        let label = if half == Half::Test { String::new() } else { format!("\t{answer}") };
        text += &format!("{row}\t{}\t{}{label}\n", sentence(&premise), sentence(&hypothesis));
    }
    text
}

fn index_of(kind: &Kind) -> usize {
    KINDS.iter().position(|k| k.name == kind.name).unwrap_or(0)
}
