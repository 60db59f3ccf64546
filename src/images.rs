//! What is a picture, and how is it read from a file?
//!
//! Invariants: rows of red, green and blue bytes, nothing else; a file is no longer and a picture has no more pixels than
//! said below, which is looked at before its pixels are decoded, so that a small file cannot fill the memory.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::{Error, Result};

/// Pixels of a picture, at most: twice what the largest cameras take.
pub const PIXELS_MAX: u64 = 100_000_000;
/// Pixels of a side, at most: JPEG's and GIF's own limit.
pub const SIDE_MAX: u32 = 65_535;
/// Bytes of a file, at most.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

/// A picture for models that read pictures ([`crate::Embedder::embed_images`]). Cheap to clone.
///
/// ```
/// use quiverdb::Image;
///
/// let red = Image::rgb(2, 1, vec![255, 0, 0, 250, 10, 10])?;
/// assert_eq!((red.width(), red.height()), (2, 1));
/// # Ok::<(), quiverdb::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    width: u32,
    height: u32,
    pixels: Arc<[u8]>,
}

impl Image {
    /// A picture of `[height, width, 3]` bytes: red, green and blue, row by row from the top.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for no pixels, too many, or another number of bytes.
    pub fn rgb(width: u32, height: u32, pixels: Vec<u8>) -> Result<Self> {
        check_size(width, height).map_err(Error::invalid)?;
        let expected = u64::from(width) * u64::from(height) * 3;
        if pixels.len() as u64 != expected {
            let got = pixels.len();
            let reason = format!("a picture of {width}x{height} pixels has {expected} bytes in RGB; got {got}");
            return Err(Error::invalid(reason));
        }
        Ok(Self { width, height, pixels: pixels.into() })
    }

    /// Decodes a PNG, JPEG, WebP or GIF file (of several frames the first) as Pillow and transformers do: turned upright by
    /// what EXIF says, what is transparent laid on white, then in RGB. Of colours of 16 bits the upper eight are kept, and
    /// greys of 16 bits are cut off at 255, as there. JPEG and lossy WebP may differ from other decoders by a few levels.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where it is none of these, damaged, or larger than [`PIXELS_MAX`] or [`SIDE_MAX`];
    /// [`Error::FeatureMissing`] in a build without the feature `images`.
    pub fn decode(file: &[u8]) -> Result<Self> {
        decode(file, "the picture")
    }

    /// Reads and decodes a file, as [`Image::decode`] does.
    ///
    /// # Errors
    /// As [`Image::decode`], and [`Error::Io`] where it cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error| Error::io(path, error);
        let length = std::fs::metadata(path).map_err(failed)?.len();
        if length > FILE_BYTES_MAX {
            let reason = format!("{} has {length} bytes, where a picture may have {FILE_BYTES_MAX}", path.display());
            return Err(Error::invalid(reason));
        }
        decode(&std::fs::read(path).map_err(failed)?, &path.display().to_string())
    }

    /// Pixels from left to right.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels from top to bottom.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// `[height, width, 3]` bytes: red, green and blue.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({}x{})", self.width, self.height)
    }
}

fn check_size(width: u32, height: u32) -> std::result::Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(format!("it has {width}x{height} pixels: none"));
    }
    if pixels > PIXELS_MAX || width > SIDE_MAX || height > SIDE_MAX {
        return Err(format!(
            "it has {width}x{height} pixels, where at most {PIXELS_MAX} and {SIDE_MAX} a side are read; make it smaller"
        ));
    }
    Ok(())
}

#[cfg(feature = "images")]
fn decode(file: &[u8], called: &str) -> Result<Image> {
    let refused = |reason: String| Error::invalid(format!("{called} cannot be read: {reason}"));
    // A decoder that panics is a damaged file, and nothing of it is used afterwards.
    let decoded = std::panic::catch_unwind(|| decoding::decode(file));
    decoded.unwrap_or_else(|_| Err("its decoder failed; the file is damaged".into())).map_err(refused)
}

#[cfg(not(feature = "images"))]
fn decode(_: &[u8], called: &str) -> Result<Image> {
    Err(Error::FeatureMissing { what: format!("reading {called}"), feature: "images" })
}

#[cfg(feature = "images")]
mod decoding {
    use std::io::Cursor;

    use image::metadata::Orientation;
    use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

    use super::{Image, PIXELS_MAX, SIDE_MAX, check_size};

    /// What a decoder may allocate: [`PIXELS_MAX`] in four bytes each, and some for its own work.
    const BYTES_MAX: u64 = PIXELS_MAX * 4 + (64 << 20);

    pub(super) fn decode(file: &[u8]) -> Result<Image, String> {
        let mut reader =
            ImageReader::new(Cursor::new(file)).with_guessed_format().map_err(|error| error.to_string())?;
        if reader.format().is_none_or(|format| !format.reading_enabled()) {
            return Err("it is no PNG, JPEG, WebP or GIF; save it as one".into());
        }
        let mut limits = Limits::default();
        limits.max_image_width = Some(SIDE_MAX);
        limits.max_image_height = Some(SIDE_MAX);
        limits.max_alloc = Some(BYTES_MAX);
        reader.limits(limits);
        let damaged = |error: image::ImageError| error.to_string();
        let mut decoder = reader.into_decoder().map_err(damaged)?;
        let (width, height) = decoder.dimensions();
        check_size(width, height)?;
        // Pillow, too, takes a picture whose EXIF data are damaged as it lies.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
        picture.apply_orientation(orientation);
        let (width, height) = (picture.width(), picture.height());
        Ok(Image { width, height, pixels: rgb(picture).into() })
    }

    /// What Pillow's `convert("RGB")` makes of it, after `alpha_composite` on white where it has transparency.
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the enum is non-exhaustive; the four formats give no other kind"
    )]
    fn rgb(picture: DynamicImage) -> Vec<u8> {
        let grey = |value: u8| [value; 3];
        let upper = |value: u16| (value >> 8) as u8;
        let on_white = |[red, green, blue, alpha]: [u8; 4]| [red, green, blue].map(|colour| blend(colour, alpha));
        match picture {
            DynamicImage::ImageRgb8(rows) => rows.into_raw(),
            DynamicImage::ImageRgb16(rows) => rows.into_raw().into_iter().map(upper).collect(),
            DynamicImage::ImageRgba8(rows) => rows.pixels().flat_map(|pixel| on_white(pixel.0)).collect(),
            DynamicImage::ImageRgba16(rows) => rows.pixels().flat_map(|pixel| on_white(pixel.0.map(upper))).collect(),
            DynamicImage::ImageLuma8(rows) => rows.pixels().flat_map(|pixel| grey(pixel.0[0])).collect(),
            DynamicImage::ImageLuma16(rows) => {
                rows.pixels().flat_map(|pixel| grey(pixel.0[0].min(255) as u8)).collect()
            }
            DynamicImage::ImageLumaA8(rows) => {
                rows.pixels().flat_map(|pixel| grey(blend(pixel.0[0], pixel.0[1]))).collect()
            }
            DynamicImage::ImageLumaA16(rows) => {
                rows.pixels().flat_map(|pixel| grey(blend(upper(pixel.0[0]), upper(pixel.0[1])))).collect()
            }
            other => other.into_rgb8().into_raw(),
        }
    }

    /// A colour that lets white through, with Pillow's way to divide by 255.
    fn blend(colour: u8, alpha: u8) -> u8 {
        let mixed = (u32::from(colour) * u32::from(alpha) + 255 * (255 - u32::from(alpha))) * 128 + 0x4000;
        ((((mixed >> 8) + mixed) >> 8) >> 7) as u8
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn pixels_must_be_as_many_as_the_sides_say() {
        let message = |width, height, bytes| Image::rgb(width, height, vec![0; bytes]).unwrap_err().to_string();
        assert!(message(2, 2, 11).contains("a picture of 2x2 pixels has 12 bytes in RGB; got 11"));
        assert!(message(0, 7, 0).contains("0x7 pixels: none"));
        assert!(message(70_000, 1, 210_000).contains("70000x1 pixels, where at most 100000000 and 65535 a side"));
        let image = Image::rgb(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!((image.pixels(), format!("{image:?}")), (&[1, 2, 3, 4, 5, 6][..], "Image(2x1)".to_owned()));
    }

    #[cfg(not(feature = "images"))]
    #[test]
    fn a_build_without_decoders_names_the_feature() {
        let error = Image::decode(b"\x89PNG").unwrap_err();
        assert!(error.to_string().contains("reading the picture needs the feature `images`"), "{error}");
    }

    /// A PNG that says it has so many pixels, and has none.
    #[cfg(feature = "images")]
    fn claiming(width: u32, height: u32) -> Vec<u8> {
        fn crc(bytes: &[u8]) -> u32 {
            let step = |crc: u32, byte: &u8| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)))
            };
            !bytes.iter().fold(!0, step)
        }
        let big = |value: u32| [24, 16, 8, 0].map(|shift| (value >> shift) as u8);
        let header = [&b"IHDR"[..], &big(width), &big(height), &[8, 2, 0, 0, 0]].concat();
        let end = [&big(0)[..], b"IDAT", &big(crc(b"IDAT"))].concat();
        [&b"\x89PNG\r\n\x1a\n"[..], &big(13), &header, &big(crc(&header)), &end].concat()
    }

    #[cfg(feature = "images")]
    #[test]
    fn bombs_and_files_of_other_kinds_are_refused() {
        let message = |file: &[u8]| Image::decode(file).unwrap_err().to_string();
        let bomb = message(&claiming(30_000, 30_000));
        assert!(
            bomb.contains("the picture cannot be read: it has 30000x30000 pixels, where at most 100000000"),
            "{bomb}"
        );
        assert!(message(&claiming(2_000_000_000, 1)).contains("cannot be read"));
        assert!(message(&claiming(7, 7)).contains("cannot be read"));
        for other in [&b""[..], b"hello", b"%PDF-1.7", b"BM\0\0\0\0"] {
            assert!(message(other).contains("it is no PNG, JPEG, WebP or GIF; save it as one"), "{other:?}");
        }
        assert!(message(b"\xff\xd8\xff\xe0 and then nothing").contains("cannot be read"));
        let error = Image::open(Path::new("no/such.png")).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}
