//! The device that keeps what a page writes: glyphs to words, lines and paragraphs.
//!
//! Glyphs are taken in the order in which the page draws them, which nearly all programs make the order of
//! reading; so columns stay apart. Where a glyph begins tells what lies between it and the one before: a
//! gap is a space, another height a line, much more than a line a paragraph.

use super::super::{Budget, ParseError};
use hayro::hayro_interpret::font::{Glyph, GlyphRun};
use hayro::hayro_interpret::hayro_cmap::{BfString, WritingMode};
use hayro::hayro_interpret::{
    BlendMode, ClipPath, Device, DrawMode, DrawProps, Image, ImageDrawProps, SoftMask,
};
use hayro::kurbo::{Affine, BezPath, Point, Vec2};
use std::panic::resume_unwind;

/// What unwinds an interpreter that a limit stops: it has no other way to end.
pub(super) struct Stop(pub(super) ParseError);

/// Fractions of the font's size. Fonts' spaces are 0.2 to 0.35 wide and may be squeezed, kerning within
/// words moves by less than 0.1.
const SPACE: f64 = 0.15;
/// Superscripts stand less than half a size off their line.
const LINE: f64 = 0.55;
/// Lines follow each other at 1.0 to 1.5.
const PARAGRAPH: f64 = 1.8;
/// A glyph this close to where the same one was drawn is drawn again to look bold.
const AGAIN: f64 = 0.1;
/// Widths of glyphs are in thousandths of the font's size.
const UNITS: f64 = 1000.0;

pub(super) struct Words<'a> {
    budget: &'a Budget,
    /// Most bytes of text.
    room: usize,
    text: String,
    last: Option<Drawn>,
    /// The first glyph of the run before, and where its text begins.
    last_run: Option<(Point, usize)>,
}

/// A glyph on the page.
#[derive(Clone, Copy)]
struct Drawn {
    start: Point,
    end: Point,
    /// Along the line, of length 1.
    direction: Vec2,
    size: f64,
}

impl<'a> Words<'a> {
    pub(super) fn new(budget: &'a Budget, room: usize) -> Self {
        Self { budget, room, text: String::new(), last: None, last_run: None }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    /// Ends the interpreter if a limit is reached.
    fn check(&self) {
        let checked = self.budget.time().and_then(|()| {
            let before = self.budget.limits.text_bytes - self.room;
            self.budget.text(before + self.text.len())
        });
        if let Err(error) = checked {
            resume_unwind(Box::new(Stop(error)));
        }
    }

    fn run(&mut self, run: &GlyphRun<'_, '_>, page: Affine) {
        let is_vertical = run.writing_mode() == WritingMode::Vertical;
        let begins = self.text.len();
        let before = self.last;
        let mut first = None;
        for glyph in run.glyphs() {
            let Some(drawn) = Drawn::new(page * glyph.transform(), width(glyph), is_vertical)
            else {
                continue;
            };
            first.get_or_insert(drawn);
            if let Some(unicode) = glyph.as_unicode() {
                let mut char = [0; 4];
                let text = match &unicode {
                    BfString::Char(one) => one.encode_utf8(&mut char),
                    BfString::String(text) => text.as_str(),
                };
                self.glyph(text, drawn);
            }
        }
        let Some(first) = first else { return };
        if self.is_again(begins, &first) {
            self.text.truncate(begins);
            self.last = before;
        } else {
            self.last_run = Some((first.start, begins));
        }
    }

    /// Whether the run that begins there is the one before once more.
    fn is_again(&self, begins: usize, first: &Drawn) -> bool {
        self.last_run.is_some_and(|(start, before)| {
            (first.start - start).hypot() < AGAIN * first.size
                && self.text[before..begins].trim() == self.text[begins..].trim()
        })
    }

    fn glyph(&mut self, text: &str, drawn: Drawn) {
        if let Some(last) = self.last
            && !self.text.is_empty()
        {
            self.gap(&last, &drawn, text);
        }
        for char in text.chars() {
            match char {
                'ﬀ' => self.text.push_str("ff"),
                'ﬁ' => self.text.push_str("fi"),
                'ﬂ' => self.text.push_str("fl"),
                'ﬃ' => self.text.push_str("ffi"),
                'ﬄ' => self.text.push_str("ffl"),
                'ﬅ' | 'ﬆ' => self.text.push_str("st"),
                _ if char.is_whitespace() => self.space(),
                _ if char.is_control() => {}
                _ => self.text.push(char),
            }
        }
        self.last = Some(drawn);
    }

    /// Writes what lies between two glyphs.
    fn gap(&mut self, last: &Drawn, next: &Drawn, text: &str) {
        let size = last.size.max(next.size);
        let between = next.start - last.end;
        let along = between.dot(last.direction) / size;
        let across = between.cross(last.direction).abs() / size;
        let turns = last.direction.dot(next.direction) < 0.9;
        if across > LINE || turns {
            self.text.truncate(self.text.trim_end_matches(' ').len());
            if across > PARAGRAPH || turns {
                self.text.push_str("\n\n");
            } else if !self.hyphenated(text) {
                self.text.push('\n');
            }
        } else if along < -1.0 {
            self.text.truncate(self.text.trim_end_matches(' ').len());
            self.text.push('\n');
        } else if along > SPACE {
            self.space();
        }
    }

    fn space(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with(char::is_whitespace) {
            self.text.push(' ');
        }
    }

    /// Puts a word together that a line's end parts.
    fn hyphenated(&mut self, next: &str) -> bool {
        let Some(part) = self.text.strip_suffix(['-', '\u{2010}', '\u{ad}']) else { return false };
        let goes_on = next.chars().next().is_some_and(char::is_lowercase)
            && part.chars().next_back().is_some_and(char::is_lowercase);
        if goes_on {
            self.text.truncate(part.len());
        }
        goes_on
    }
}

impl Drawn {
    /// None if the glyph has no extent that could be measured.
    fn new(transform: Affine, width: f64, is_vertical: bool) -> Option<Self> {
        let start = transform * Point::ZERO;
        // Vertical lines go down the page, by about the font's size a glyph.
        let (axis, width) = if is_vertical { ((0.0, -1.0), UNITS) } else { ((1.0, 0.0), width) };
        let axis = transform * Point::from(axis) - start;
        let unit = axis.hypot();
        let is_measured = start.is_finite() && unit.is_finite() && unit > 0.0;
        is_measured.then(|| Self {
            start,
            end: start + axis * width,
            direction: axis / unit,
            size: unit * UNITS,
        })
    }
}

fn width(glyph: &Glyph<'_>) -> f64 {
    let width = match glyph {
        Glyph::Outline(glyph) => glyph.advance_width(),
        Glyph::Type3(glyph) => glyph.advance_width(),
    };
    f64::from(width.unwrap_or(0.0))
}

impl<'a> Device<'a> for Words<'_> {
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, 'a>, props: DrawProps<'a>, _: &DrawMode) {
        self.run(run, props.transform);
        self.check();
    }

    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'a>, _: &DrawMode) {
        self.check();
    }

    fn draw_image(&mut self, _: Image<'a, '_>, _: ImageDrawProps<'a>) {
        self.check();
    }

    fn push_clip_path(&mut self, _: &ClipPath) {
        self.check();
    }

    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'a>>, _: BlendMode) {
        self.check();
    }

    fn pop_clip(&mut self) {}

    fn pop_transparency_group(&mut self) {}
}
