//! How much a PDF's streams unpack to, found before a reader that sets no bounds unpacks them.
//!
//! Streams are looked for in the bytes, since a reader unpacks some to find the others. What a dictionary says
//! of lengths is not believed. Not seen are what is encrypted and images inside of a page's own stream.

use super::super::{Budget, ParseError};
use flate2::read::DeflateDecoder;
use std::io::{self, Read};
use weezl::BitOrder;
use weezl::decode::Decoder;

/// Fails if the streams unpack to more than the limit: images each, since one at a time is drawn, all others
/// together.
pub(super) fn check(bytes: &[u8], budget: &Budget) -> Result<(), ParseError> {
    let limit = budget.limits.expanded_bytes;
    let mut total = 0;
    let mut before = 0;
    while let Some(at) = find(&bytes[before..], STREAM) {
        let dictionary = &bytes[before..before + at];
        before += at + STREAM.len();
        if dictionary.ends_with(b"end") {
            continue;
        }
        budget.time()?;
        let stream = Stream::new(dictionary)?;
        let bytes = stream.unpacked(line(&bytes[before..]), limit).max(stream.pixels());
        total += if stream.is_image { 0 } else { bytes };
        if bytes.max(total) > limit {
            return Err(budget.expanded());
        }
    }
    Ok(())
}

const STREAM: &[u8] = b"stream";

fn find(bytes: &[u8], word: &[u8]) -> Option<usize> {
    bytes.windows(word.len()).position(|window| window == word)
}

/// What follows the end of the line.
fn line(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_prefix(b"\r").unwrap_or(bytes);
    bytes.strip_prefix(b"\n").unwrap_or(bytes)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    Hex,
    Base85,
    RunLength,
    Flate,
    Lzw,
}

/// What a dictionary says of its stream.
#[derive(Default)]
struct Stream {
    is_image: bool,
    filters: Vec<Filter>,
    /// Of LZW: codes grow a step late.
    is_late: bool,
    /// Of an image, in pixels.
    width: usize,
    height: usize,
}

impl Stream {
    /// `dictionary`: the bytes before the stream, in whose end it is.
    fn new(dictionary: &[u8]) -> Result<Self, ParseError> {
        let mut stream = Self::default();
        let start = dictionary.windows(3).rposition(|window| window == b"obj").unwrap_or(0);
        let mut parts = dictionary[start..].split(|byte| *byte == b'/');
        parts.next();
        for part in parts {
            let end = part.iter().position(|byte| b" \t\r\n\x0c\0()<>[]{}%".contains(byte));
            let (name, after) = part.split_at(end.unwrap_or(part.len()));
            let filter = match unescaped(name).as_slice() {
                b"Filter" | b"F" => {
                    let value = after.iter().find(|byte| !b" \t\r\n\x0c\0[".contains(byte));
                    if value.is_some_and(u8::is_ascii_digit) {
                        let error = "malformed PDF: a stream names its filter by reference";
                        return Err(ParseError(error.to_owned()));
                    }
                    continue;
                }
                b"ASCIIHexDecode" | b"AHx" => Filter::Hex,
                b"ASCII85Decode" | b"A85" => Filter::Base85,
                b"RunLengthDecode" | b"RL" => Filter::RunLength,
                b"FlateDecode" | b"Fl" => Filter::Flate,
                b"LZWDecode" | b"LZW" => Filter::Lzw,
                b"Image" => {
                    stream.is_image = true;
                    continue;
                }
                b"EarlyChange" => {
                    stream.is_late = number(after) == 0;
                    continue;
                }
                b"Width" | b"W" | b"Columns" => {
                    stream.width = stream.width.max(number(after));
                    continue;
                }
                b"Height" | b"H" | b"Rows" => {
                    stream.height = stream.height.max(number(after));
                    continue;
                }
                _ => continue,
            };
            stream.filters.push(filter);
        }
        Ok(stream)
    }

    /// The pixels of an image: some filters make them from nothing.
    fn pixels(&self) -> usize {
        if self.is_image { self.width.saturating_mul(self.height) } else { 0 }
    }

    /// Bytes that leave the filters, all of them together, counted a little past the limit.
    fn unpacked(&self, data: &[u8], limit: usize) -> usize {
        let Some((last, first)) = self.filters.split_last() else { return 0 };
        let mut total = 0;
        let mut unpacked: Option<Vec<u8>> = None;
        for filter in first {
            let mut next = Vec::new();
            total += self.unpack(*filter, unpacked.as_deref().unwrap_or(data), limit, &mut next);
            if total > limit {
                return total;
            }
            unpacked = Some(next);
        }
        total + self.unpack(*last, unpacked.as_deref().unwrap_or(data), limit, &mut io::sink())
    }

    /// Writes what a filter makes of `data`, and counts it.
    fn unpack(&self, filter: Filter, data: &[u8], limit: usize, to: &mut dyn io::Write) -> usize {
        let unpacked = match filter {
            Filter::Flate => {
                let is_zlib = matches!(data, [first, second, ..]
                    if first & 15 == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31));
                let deflated = DeflateDecoder::new(if is_zlib { &data[2..] } else { data });
                return copy(deflated, limit, to);
            }
            Filter::Lzw => return lzw(data, self.is_late, limit, to),
            Filter::Hex => hex(data),
            Filter::Base85 => base85(data),
            Filter::RunLength => run_length(data, limit),
        };
        copy(unpacked.as_slice(), limit, to)
    }
}

/// The number that bytes begin with, 0 without one.
fn number(bytes: &[u8]) -> usize {
    let digits = bytes.trim_ascii_start().iter().map_while(|byte| (*byte as char).to_digit(10));
    digits.fold(0, |number: usize, digit| number.saturating_mul(10).saturating_add(digit as usize))
}

/// A name without its `#41`.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) if *first == b'#' => {
                plain.push(byte);
                rest = &after[2..];
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

/// Copies until the end, an error or the limit. Readers use what came before an error.
fn copy(mut from: impl Read, limit: usize, to: &mut dyn io::Write) -> usize {
    let mut buffer = [0; 16 << 10];
    let mut total = 0;
    while total <= limit
        && let Ok(bytes @ 1..) = from.read(&mut buffer)
        && to.write_all(&buffer[..bytes]).is_ok()
    {
        total += bytes;
    }
    total
}

fn lzw(data: &[u8], is_late: bool, limit: usize, to: &mut dyn io::Write) -> usize {
    let mut decoder = if is_late {
        Decoder::new(BitOrder::Msb, 8)
    } else {
        Decoder::with_tiff_size_switch(BitOrder::Msb, 8)
    };
    let mut buffer = [0; 16 << 10];
    let mut total = 0;
    let mut rest = data;
    while total <= limit {
        let result = decoder.decode_bytes(rest, &mut buffer);
        total += result.consumed_out;
        rest = &rest[result.consumed_in..];
        let goes_on = matches!(result.status, Ok(weezl::LzwStatus::Ok));
        if to.write_all(&buffer[..result.consumed_out]).is_err() || !goes_on {
            break;
        }
    }
    total
}

fn run_length(data: &[u8], limit: usize) -> Vec<u8> {
    let mut unpacked = Vec::new();
    let mut rest = data;
    while let [length, after @ ..] = rest
        && unpacked.len() <= limit
    {
        rest = match (length, after) {
            (0..=127, _) => {
                let (plain, after) = after.split_at(after.len().min(*length as usize + 1));
                unpacked.extend_from_slice(plain);
                after
            }
            (129..=255, [byte, after @ ..]) => {
                unpacked.extend(std::iter::repeat_n(*byte, 257 - *length as usize));
                after
            }
            _ => break,
        };
    }
    unpacked
}

fn hex(data: &[u8]) -> Vec<u8> {
    let digits = data.iter().take_while(|byte| **byte != b'>');
    let digits: Vec<u8> =
        digits.filter_map(|byte| (*byte as char).to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).unwrap_or(&0)).collect()
}

fn base85(data: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    let mut group = Vec::new();
    let mut flush = |group: &mut Vec<u8>, digits: usize| {
        group.resize(5, 84);
        let value = group
            .iter()
            .fold(0_u32, |value, digit| value.wrapping_mul(85).wrapping_add(u32::from(*digit)));
        unpacked.extend_from_slice(&value.to_be_bytes()[..digits - 1]);
        group.clear();
    };
    for byte in data.iter().take_while(|byte| **byte != b'~') {
        match byte {
            b'z' if group.is_empty() => {
                group = vec![0; 5];
                flush(&mut group, 5);
            }
            b'!'..=b'u' => {
                group.push(byte - b'!');
                if group.len() == 5 {
                    flush(&mut group, 5);
                }
            }
            _ => {}
        }
    }
    if group.len() > 1 {
        let digits = group.len();
        flush(&mut group, digits);
    }
    unpacked
}
