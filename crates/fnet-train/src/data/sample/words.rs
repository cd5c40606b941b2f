//! The words of the sample language and what relates them.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// Kinds of things with their members. Plurals take `s`.
pub const KINDS: [Kind; 10] = [
    Kind {
        name: "bird",
        above: "animal",
        members: &["sparrow", "heron", "wren", "crow", "owl", "swan", "robin", "falcon"],
    },
    Kind {
        name: "dog",
        above: "animal",
        members: &["beagle", "terrier", "spaniel", "poodle", "hound", "mastiff", "whippet", "setter"],
    },
    Kind {
        name: "insect",
        above: "animal",
        members: &["beetle", "moth", "ant", "wasp", "cricket", "hornet", "bee", "weevil"],
    },
    Kind {
        name: "fruit",
        above: "snack",
        members: &["apple", "pear", "plum", "grape", "melon", "fig", "quince", "lemon"],
    },
    Kind {
        name: "cake",
        above: "snack",
        members: &["tart", "muffin", "scone", "bun", "waffle", "crumpet", "biscuit", "wafer"],
    },
    Kind {
        name: "tool",
        above: "object",
        members: &["hammer", "saw", "chisel", "drill", "wrench", "shovel", "rake", "plane"],
    },
    Kind {
        name: "boat",
        above: "object",
        members: &["canoe", "raft", "sloop", "barge", "kayak", "yacht", "dinghy", "cutter"],
    },
    Kind {
        name: "garment",
        above: "object",
        members: &["coat", "glove", "hat", "shawl", "cloak", "bonnet", "jacket", "apron"],
    },
    Kind {
        name: "worker",
        above: "person",
        members: &["baker", "miller", "tailor", "farmer", "mason", "weaver", "potter", "carpenter"],
    },
    Kind {
        name: "musician",
        above: "person",
        members: &["fiddler", "piper", "drummer", "singer", "harper", "flutist", "bugler", "lutist"],
    },
];

/// A kind, the wider kind above it, and its members.
pub struct Kind {
    pub name: &'static str,
    pub above: &'static str,
    pub members: &'static [&'static str],
}

impl Kind {
    /// Whether its members act: they can be subjects.
    pub fn acts(&self) -> bool {
        matches!(self.above, "animal" | "person")
    }
}

/// Pairs of verbs with the same meaning: base form and past.
pub const VERBS: [[(&str, &str); 2]; 12] = [
    [("follow", "followed"), ("trail", "trailed")],
    [("help", "helped"), ("assist", "assisted")],
    [("watch", "watched"), ("observe", "observed")],
    [("greet", "greeted"), ("welcome", "welcomed")],
    [("lift", "lifted"), ("raise", "raised")],
    [("carry", "carried"), ("haul", "hauled")],
    [("praise", "praised"), ("commend", "commended")],
    [("scold", "scolded"), ("rebuke", "rebuked")],
    [("chase", "chased"), ("pursue", "pursued")],
    [("clean", "cleaned"), ("scrub", "scrubbed")],
    [("hide", "hid"), ("conceal", "concealed")],
    [("push", "pushed"), ("shove", "shoved")],
];

/// Adjectives of praise and of blame. The first half is what the tasks' training halves use.
pub const PRAISE: [&str; 24] = [
    "lovely", "superb", "bright", "cosy", "fresh", "witty", "elegant", "merry", "tidy", "vivid", "noble",
    "sweet", "splendid", "charming", "graceful", "tender", "crisp", "polished", "radiant", "warm", "gentle",
    "sublime", "mellow", "brisk",
];
/// See [`PRAISE`].
pub const BLAME: [&str; 24] = [
    "dull", "awful", "bitter", "grim", "stale", "murky", "noisy", "sour", "gloomy", "drab", "rude", "feeble",
    "dreary", "shabby", "clumsy", "tedious", "bland", "filthy", "harsh", "messy", "dismal", "wretched",
    "soggy", "dingy",
];

/// Degree words, which separate an adjective from its negation.
pub const DEGREES: [&str; 4] = ["very", "quite", "rather", "really"];

/// What praise and blame are about.
pub const TOPICS: [&str; 16] = [
    "soup", "play", "room", "song", "tour", "novel", "film", "meal", "concert", "garden", "service",
    "speech", "story", "museum", "inn", "market",
];

/// What people do after something good, and after something bad.
pub const PLEASED: [&str; 8] = [
    "we came back twice",
    "everyone smiled",
    "the guests clapped",
    "we stayed all evening",
    "we told our friends",
    "nobody wanted to leave",
    "the crowd cheered",
    "we thanked the host",
];
/// See [`PLEASED`].
pub const ANNOYED: [&str; 8] = [
    "we left early",
    "everyone yawned",
    "the guests complained",
    "we asked for our money back",
    "we warned our friends",
    "nobody wanted to stay",
    "the crowd groaned",
    "we blamed the host",
];

/// Neutral adjectives of things.
pub const PLAIN: [&str; 10] =
    ["small", "large", "old", "young", "red", "grey", "quiet", "tall", "famous", "tired"];

/// Places.
pub const PLACES: [&str; 10] =
    ["mill", "harbour", "bridge", "school", "tower", "meadow", "river", "barn", "forest", "station"];

/// One of several.
pub fn pick<T: Copy>(from: &[T], random: &mut ChaCha8Rng) -> T {
    *from.choose(random).unwrap_or(&from[0])
}

/// True in `percent` of the cases.
pub fn chance(percent: u32, random: &mut ChaCha8Rng) -> bool {
    random.random_range(0..100) < percent
}

/// The plural of a noun.
pub fn plural(noun: &str) -> String {
    match noun {
        "dinghy" => "dinghies".into(),
        "person" => "people".into(),
        _ => format!("{noun}s"),
    }
}

/// `a` or `an` with the word after it.
pub fn with_article(word: &str) -> String {
    let vowel = word.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {word}", if vowel { "an" } else { "a" })
}

/// The present tense of a base form after a singular noun.
pub fn third_person(base: &str) -> String {
    if let Some(stem) = base.strip_suffix('y') {
        return format!("{stem}ies");
    }
    let hissing = base.ends_with("sh") || base.ends_with("ch");
    format!("{base}{}", if hissing { "es" } else { "s" })
}
