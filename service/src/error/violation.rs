//! What is wrong with a request, and where in it.

use std::fmt;

/// One thing that is wrong with a request, in the terms of pydantic's error list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `missing`, `string_type`, ...
    pub kind: &'static str,
    /// Where, from the request inwards; empty: the request itself.
    pub location: Vec<Location>,
    /// What is expected there.
    pub message: &'static str,
}

/// A step into a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A field of an object.
    Field(&'static str),
    /// A name in an object that the client chose, or its start.
    Key(String),
    /// An item of a list; for text that is no JSON, the position in characters.
    Index(usize),
}

impl Location {
    /// Of a name of any length: an answer must not be much longer than its request.
    pub(crate) fn key(name: &str) -> Self {
        const MOST: usize = 64;
        match name.char_indices().nth(MOST) {
            None => Self::Key(name.to_owned()),
            Some((end, _)) => Self::Key(format!("{}…", &name[..end])),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => f.write_str(name),
            Self::Key(name) => f.write_str(name),
            Self::Index(index) => write!(f, "{index}"),
        }
    }
}

impl Violation {
    /// The same one field further in.
    pub(crate) fn inside(mut self, field: &'static str) -> Self {
        self.location.insert(0, Location::Field(field));
        self
    }

    /// `documents.3`, or nothing for the request itself.
    pub fn path(&self) -> String {
        let steps: Vec<String> = self.location.iter().map(Location::to_string).collect();
        steps.join(".")
    }
}

/// `body.query: Field required; body.top_n: ...`
pub(super) struct Violations<'a>(pub(super) &'a [Violation]);

impl fmt::Display for Violations<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "body" } else { "; body" })?;
            for step in &violation.location {
                write!(f, ".{step}")?;
            }
            write!(f, ": {}", violation.message)?;
        }
        Ok(())
    }
}
