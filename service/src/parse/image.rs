//! A page of a PDF to a JPEG.

use super::{Budget, ParseError, ParseLimits, detached, detect, pdf};
use hayro::hayro_interpret::InterpreterSettings;
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::{PixmapSettings, RenderCache, RenderSettings, render};
use jpeg_encoder::{ColorType, Encoder};

/// Of the longer side. Letters of ordinary size can be read.
const MOST_PIXELS: f32 = 1600.0;
/// Small pages are not blown up further.
const MOST_SCALE: f32 = 4.0;
/// Text has no visible noise around it.
const QUALITY: u8 = 85;

/// Draws a page of a PDF as a JPEG of at most 1600 pixels a side; none if the bytes are no PDF or have no
/// such page.
pub fn page_image(
    bytes: &[u8],
    index: u64,
    limits: &ParseLimits,
) -> Result<Option<Vec<u8>>, ParseError> {
    let Ok(index) = usize::try_from(index) else { return Ok(None) };
    if !detect::is_pdf(bytes) {
        return Ok(None);
    }
    let budget = Budget::new(*limits);
    let bytes = bytes.to_vec();
    detached::run(&budget, move || draw(bytes, index, &budget))
}

fn draw(bytes: Vec<u8>, index: usize, budget: &Budget) -> Result<Option<Vec<u8>>, ParseError> {
    let pdf = pdf::open(bytes, budget)?;
    let Some(page) = pdf.pages().get(index) else { return Ok(None) };
    let (width, height) = page.render_dimensions();
    let scale = (MOST_PIXELS / width.max(height)).min(MOST_SCALE);
    // A side may be less than a pixel.
    let side = |length: f32| scale.max(1.0 / length);
    let pixels = render(
        page,
        &RenderCache::new(),
        &InterpreterSettings::default(),
        &RenderSettings::default(),
        &PixmapSettings { x_scale: side(width), y_scale: side(height), bg_color: WHITE },
    );
    let mut jpeg = Vec::new();
    Encoder::new(&mut jpeg, QUALITY)
        .encode(pixels.data_as_u8_slice(), pixels.width(), pixels.height(), ColorType::Rgba)
        .map_err(|error| ParseError(format!("page `{index}` cannot be drawn: {error}")))?;
    Ok(Some(jpeg))
}
