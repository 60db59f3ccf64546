//! From a picture to the numbers that a vision tower reads, as `preprocessor_config.json` says.
//!
//! Resizing is Pillow's, to the last bit: two passes with a filter that widens when a picture shrinks, in fixed point, with
//! bytes in between (Pillow's `Resample.c` was read for it). Only what the crop keeps is computed, so that a thin long
//! picture costs no more than any other.

use serde_json::Value;

use super::files::Files;
use crate::Result;
use crate::images::Image;

/// How pictures are prepared.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Preparation {
    resize: Option<(Target, Filter)>,
    /// Pixels of a side that is kept.
    side: usize,
    /// What each byte of each colour becomes.
    levels: [Levels; 3],
}

/// What each byte becomes.
#[derive(Clone, Debug, PartialEq)]
struct Levels(Vec<f32>);

/// The size after resizing.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    /// That of the shorter side.
    Shortest(usize),
    /// Height and width.
    Exact(usize, usize),
}

/// A filter, by the number that Pillow has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    Lanczos = 1,
    Bilinear = 2,
    Bicubic = 3,
}

/// The means and deviations of the pictures that CLIP was trained with, the default of its settings.
const MEANS: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const DEVIATIONS: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

impl Preparation {
    /// Reads the settings at `path`; `side` is what the model's vision tower takes.
    ///
    /// # Errors
    /// [`Error::Model`] where a setting is not supported or does not fit the model.
    pub(crate) fn read(files: &Files, path: &std::path::Path, side: usize) -> Result<Self> {
        let name = files.relative(path);
        let refused = |reason: String| files.wrong(format!("{name}: {reason}"));
        let bytes = files.read(path, 1 << 20)?;
        let all: Value =
            serde_json::from_slice(&bytes).map_err(|error| refused(format!("is not valid JSON: {error}")))?;
        // Since transformers 5, beside the settings of other kinds of input.
        let settings = if all["image_processor"].is_object() { &all["image_processor"] } else { &all };
        Self::of(settings, side).map_err(refused)
    }

    fn of(settings: &Value, side: usize) -> std::result::Result<Self, String> {
        let on = |key: &str| settings[key].as_bool().unwrap_or(true);
        let resize = on("do_resize").then(|| Ok::<_, String>((target(&settings["size"])?, filter(settings)?)));
        let resize = resize.transpose()?;
        let kept = match (on("do_center_crop"), resize) {
            (true, _) => crop(&settings["crop_size"])?,
            (false, Some((Target::Exact(height, width), _))) => (height, width),
            (false, _) => return Err("without do_center_crop, size must name height and width".into()),
        };
        if kept != (side, side) {
            let (height, width) = kept;
            return Err(format!("it makes pictures of {width}x{height} pixels; the model reads {side}x{side}"));
        }
        let factor = settings["rescale_factor"].as_f64().unwrap_or(1.0 / 255.0);
        let factor = if on("do_rescale") { factor } else { 1.0 };
        let (means, deviations) = match on("do_normalize") {
            true => (three(settings, "image_mean", MEANS)?, three(settings, "image_std", DEVIATIONS)?),
            false => ([0.0; 3], [1.0; 3]),
        };
        if deviations.contains(&0.0) {
            return Err("image_std holds a 0".into());
        }
        let level = |at: usize, byte: u8| {
            // The product in f64, the rest in f32, as transformers has it.
            ((f64::from(byte) * factor) as f32 - means[at] as f32) / deviations[at] as f32
        };
        let levels = [0, 1, 2].map(|at| Levels((0..=255).map(|byte| level(at, byte)).collect()));
        Ok(Self { resize, side, levels })
    }

    /// The picture's patches of `patch` pixels a side, row by row: `[patches, 3 * patch * patch]`, a patch's numbers colour
    /// by colour. What does not fill a patch at the right and the bottom is left out.
    pub(crate) fn patches(&self, image: &Image, patch: usize, out: &mut Vec<f32>) {
        let pixels = self.prepared(image);
        let count = self.side / patch;
        for (row, column) in (0..count).flat_map(|row| (0..count).map(move |column| (row, column))) {
            for (colour, levels) in self.levels.iter().enumerate() {
                for y in row * patch..(row + 1) * patch {
                    let start = (y * self.side + column * patch) * 3;
                    let line = pixels[start..start + 3 * patch].iter().skip(colour).step_by(3);
                    out.extend(line.map(|&byte| levels.0[usize::from(byte)]));
                }
            }
        }
    }

    /// The picture resized and cut: `[side, side, 3]`. What it lacks is black.
    fn prepared(&self, image: &Image) -> Vec<u8> {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (filter, (to_height, to_width)) = match self.resize {
            Some((target, filter)) => (filter, target.of(height, width)),
            None => (Filter::Bicubic, (height, width)),
        };
        let columns = Pass::new(width, to_width, self.side, filter);
        let rows = Pass::new(height, to_height, self.side, filter);
        if down_first((height, to_height), (width, to_width)) {
            let low = rows.down(image.pixels(), width);
            return columns.across(&low, width, 0..self.side);
        }
        let narrow = columns.across(image.pixels(), width, rows.sources());
        rows.down(&narrow, self.side)
    }
}

/// Which pass comes first shows in the bytes between them. Pillow 13 begins with the rows where far more of them go than
/// columns do (its pull request 9549; the rule is what 2,895 random pairs of sizes gave), earlier versions never do.
fn down_first((height, to_height): (usize, usize), (width, to_width): (usize, usize)) -> bool {
    height.saturating_sub(to_height) > 2 * width.saturating_sub(to_width)
}

impl Target {
    /// Height and width that a picture gets.
    fn of(self, height: usize, width: usize) -> (usize, usize) {
        match self {
            Self::Exact(height, width) => (height, width),
            Self::Shortest(side) if width <= height => (longer(side, height, width), side),
            Self::Shortest(side) => (side, longer(side, width, height)),
        }
    }
}

fn longer(side: usize, long: usize, short: usize) -> usize {
    // Python's division of integers, cut.
    ((side * long) as f64 / short as f64) as usize
}

impl Filter {
    /// How far it reaches, in pixels of a picture that does not shrink.
    fn support(self) -> f64 {
        match self {
            Self::Lanczos => 3.0,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
            Self::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
            Self::Bicubic | Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { x.sin() / x }
}

/// Fraction bits of a weight: 32, less 8 for a byte and 2 for what overlapping weights may overshoot.
const FRACTION_BITS: u32 = 22;

/// One direction: what each pixel that is kept is made of.
struct Pass {
    /// The first source and the weights; none where the pixel lies outside of the picture.
    taps: Vec<Option<(usize, Vec<i32>)>>,
}

impl Pass {
    /// From `from` pixels to `to`, of which the `side` in the middle are kept.
    fn new(from: usize, to: usize, side: usize, filter: Filter) -> Self {
        let first = (to as i64 - side as i64).div_euclid(2);
        let tap = |place: i64| {
            let place = usize::try_from(place).ok().filter(|&place| place < to)?;
            if from == to { Some((place, vec![1 << FRACTION_BITS])) } else { Some(weights(from, to, place, filter)) }
        };
        Self { taps: (first..first + side as i64).map(tap).collect() }
    }

    /// The lines that are read.
    fn sources(&self) -> std::ops::Range<usize> {
        let used = || self.taps.iter().flatten();
        let start = used().map(|(first, _)| *first).min().unwrap_or(0);
        start..used().map(|(first, weights)| first + weights.len()).max().unwrap_or(0)
    }

    /// Of the lines `lines` of a picture `width` wide, those pixels: as many lines, each as long as there are pixels. Lines
    /// before the first are left black.
    fn across(&self, pixels: &[u8], width: usize, lines: std::ops::Range<usize>) -> Vec<u8> {
        let kept = self.taps.len() * 3;
        let mut out = vec![0; lines.end * kept];
        for line in lines {
            let source = &pixels[line * width * 3..(line + 1) * width * 3];
            for (tap, out) in self.taps.iter().zip(out[line * kept..].chunks_exact_mut(3)) {
                let Some((first, weights)) = tap else { continue };
                let mut sums = [1 << (FRACTION_BITS - 1); 3];
                for (pixel, &weight) in source[first * 3..].chunks_exact(3).zip(weights) {
                    add(&mut sums, pixel, weight);
                }
                out.copy_from_slice(&sums.map(byte));
            }
        }
        out
    }

    /// Those lines of a picture `width` wide.
    fn down(&self, pixels: &[u8], width: usize) -> Vec<u8> {
        let length = width * 3;
        let mut out = vec![0; self.taps.len() * length];
        let mut sums = vec![0; length];
        for (tap, out) in self.taps.iter().zip(out.chunks_exact_mut(length)) {
            let Some((first, weights)) = tap else { continue };
            sums.fill(1 << (FRACTION_BITS - 1));
            for (line, &weight) in pixels[first * length..].chunks_exact(length).zip(weights) {
                add(&mut sums, line, weight);
            }
            out.iter_mut().zip(&sums).for_each(|(out, &sum)| *out = byte(sum));
        }
        out
    }
}

fn add(sums: &mut [i32], values: &[u8], weight: i32) {
    sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += i32::from(value) * weight);
}

fn byte(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

/// What pixel `place` of `to` is made of.
fn weights(from: usize, to: usize, place: usize, filter: Filter) -> (usize, Vec<i32>) {
    let scale = from as f64 / to as f64;
    let widening = scale.max(1.0);
    let support = filter.support() * widening;
    let centre = (place as f64 + 0.5) * scale;
    let first = ((centre - support + 0.5) as i64).max(0) as usize;
    let end = ((centre + support + 0.5) as usize).min(from);
    let narrowing = 1.0 / widening;
    let weights: Vec<f64> =
        (first..end).map(|source| filter.weight((source as f64 - centre + 0.5) * narrowing)).collect();
    let total: f64 = weights.iter().sum();
    let total = if total == 0.0 { 1.0 } else { total };
    let fixed = |weight: f64| {
        let scaled = weight / total * f64::from(1_u32 << FRACTION_BITS);
        (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
    };
    (first, weights.into_iter().map(fixed).collect())
}

fn number(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|number| usize::try_from(number).ok()).filter(|number| (1..=1 << 14).contains(number))
}

fn target(size: &Value) -> std::result::Result<Target, String> {
    let shortest = if size.is_object() { &size["shortest_edge"] } else { size };
    let sides = (number(&size["height"]), number(&size["width"]));
    match (number(shortest), sides) {
        _ if size.is_null() => Ok(Target::Shortest(224)),
        (Some(side), (None, None)) if size["longest_edge"].is_null() => Ok(Target::Shortest(side)),
        (None, (Some(height), Some(width))) => Ok(Target::Exact(height, width)),
        _ => Err(format!("size {size} is not supported yet; a shortest_edge, or a height and a width, is")),
    }
}

fn crop(size: &Value) -> std::result::Result<(usize, usize), String> {
    let refused = || format!("crop_size {size} is not supported; a number, or a height and a width, is");
    let sides = if size.is_object() { number(&size["height"]).zip(number(&size["width"])) } else { None };
    let square = || number(size).map(|side| (side, side));
    if size.is_null() { Ok((224, 224)) } else { sides.or_else(square).ok_or_else(refused) }
}

fn filter(settings: &Value) -> std::result::Result<Filter, String> {
    let value = &settings["resample"];
    let known = [Filter::Lanczos, Filter::Bilinear, Filter::Bicubic];
    match value.as_u64() {
        None if value.is_null() => Ok(Filter::Bicubic),
        number => known.into_iter().find(|filter| Some(*filter as u64) == number).ok_or_else(|| {
            format!("resample {value} is not supported yet; 1 (Lanczos), 2 (bilinear) and 3 (bicubic) are")
        }),
    }
}

fn three(settings: &Value, key: &str, default: [f64; 3]) -> std::result::Result<[f64; 3], String> {
    let value = &settings[key];
    if value.is_null() {
        return Ok(default);
    }
    let numbers: Option<Vec<f64>> = value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| format!("{key} {value} is no list of three numbers"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn the_middle_is_kept_and_what_is_missing_is_black() {
        let picture = Image::rgb(3, 1, vec![1, 1, 1, 2, 2, 2, 3, 3, 3]).unwrap();
        let plain = json!({"do_resize": false, "crop_size": 2});
        let prepared = Preparation::of(&plain, 2).unwrap().prepared(&picture);
        // As numpy has it: half of an odd rest is cut off downwards.
        assert_eq!(prepared, [0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn a_flat_picture_stays_flat_at_any_size() {
        for (width, height) in [(1, 65_535), (65_535, 1), (9, 7), (400, 300), (16, 16)] {
            let picture = Image::rgb(width, height, [9, 200, 31].repeat((width * height) as usize)).unwrap();
            for resample in [1, 2, 3] {
                let settings = json!({"size": 16, "crop_size": {"height": 16, "width": 16}, "resample": resample});
                let prepared = Preparation::of(&settings, 16).unwrap().prepared(&picture);
                assert_eq!(prepared, [9, 200, 31].repeat(256), "{width}x{height} by {resample}");
            }
        }
    }

    #[test]
    fn settings_that_are_not_supported_are_refused_by_name() {
        let message = |settings: Value| Preparation::of(&settings, 224).unwrap_err();
        let cases = [
            (json!({"resample": 0}), "resample 0 is not supported yet; 1 (Lanczos)"),
            (json!({"size": {"longest_edge": 9}}), "size {\"longest_edge\":9} is not supported yet"),
            (json!({"size": -3}), "size -3 is not supported yet"),
            (json!({"crop_size": 99_999_999}), "crop_size 99999999 is not supported"),
            (json!({"crop_size": 336}), "it makes pictures of 336x336 pixels; the model reads 224x224"),
            (json!({"do_center_crop": false}), "without do_center_crop, size must name height and width"),
            (json!({"image_mean": [1, 2]}), "image_mean [1,2] is no list of three numbers"),
            (json!({"image_std": [1, 0, 1]}), "image_std holds a 0"),
        ];
        for (settings, expected) in cases {
            let message = message(settings);
            assert!(message.contains(expected), "{message}");
        }
        assert!(Preparation::of(&json!({}), 224).is_ok());
        let exact = json!({"do_center_crop": false, "size": {"height": 224, "width": 224}});
        assert!(Preparation::of(&exact, 224).is_ok());
    }

    #[cfg(feature = "images")]
    #[test]
    fn pictures_of_all_kinds_are_prepared_as_pillow_does() {
        use sha2::{Digest, Sha256};

        let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/clip");
        for (model, settings, side) in
            [("old", "0_CLIPModel/preprocessor_config.json", 32), ("new", "processor_config.json", 30)]
        {
            let files = Files::of(&fixtures.join(model)).unwrap();
            let preparation = Preparation::read(&files, &fixtures.join(model).join(settings), side).unwrap();
            let golden = std::fs::read_to_string(fixtures.join(model).join("images.jsonl")).unwrap();
            let mut compared = 0;
            for line in golden.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
                let file = line["file"].as_str().unwrap();
                let picture = Image::open(&fixtures.join("pictures").join(file)).unwrap();
                let digest = Sha256::digest(preparation.prepared(&picture));
                let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                if let Some(wanted) = line["prepared"].as_str() {
                    assert_eq!(digest, wanted, "{model}: {file}");
                    compared += 1;
                }
            }
            assert_eq!(compared, 18, "{model}");
        }
    }
}
