//! What messages call a setting.

use std::fmt;
use std::sync::OnceLock;

use super::Error;

static NAMING: OnceLock<fn(&str, &mut fmt::Formatter) -> fmt::Result> = OnceLock::new();

/// Has messages call settings by other names than their fields', for the whole process: a program with flags calls them
/// by these. The first call counts.
pub fn call_settings(naming: fn(&str, &mut fmt::Formatter) -> fmt::Result) {
    let _ = NAMING.set(naming);
}

/// A setting in a message, by the name of its field.
pub fn setting(field: &str) -> impl fmt::Display {
    struct Name<'a>(&'a str);
    impl fmt::Display for Name<'_> {
        fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
            match NAMING.get() {
                Some(naming) => naming(self.0, f),
                None => write!(f, "`{}`", self.0),
            }
        }
    }
    Name(field)
}

/// An error about settings: `what` lists their fields, with commas, each with its value where that is the fault, such as
/// `bag true`.
pub fn refused(what: &str, message: impl fmt::Display) -> Error {
    let names = what.split(", ").map(|part| match part.split_once(' ') {
        Some((field, value)) => format!("{} {value}", setting(field)),
        None => setting(part).to_string(),
    });
    Error::usage(format!("{}: {message}", names.collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_fields() {
        let error = refused("batch_size 0, steps", "must be more");
        assert_eq!(error.to_string(), "`batch_size` 0, `steps`: must be more");
    }
}
