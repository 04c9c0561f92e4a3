//! What is done to a photo's pixels: the parameters, the table of float32, the tensor (spec/preprocess.md).

use crate::errors::{Error, Result};
use crate::images::Pixels;
use crate::json::{self, Table, Value, object};

const MAX_SIZE: i64 = 8192; // pixels, of a side that is asked for

/// A resampling filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Interpolation {
    Nearest,
    Box,
    Bilinear,
    Hamming,
    Bicubic,
    Lanczos,
}

impl Interpolation {
    const NAMES: [(&'static str, Self); 6] = [
        ("nearest", Self::Nearest),
        ("box", Self::Box),
        ("bilinear", Self::Bilinear),
        ("hamming", Self::Hamming),
        ("bicubic", Self::Bicubic),
        ("lanczos", Self::Lanczos),
    ];

    /// The filter of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(one, _)| *one == name).map(|(_, filter)| *filter)
    }

    /// Its name in bundle.json.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, one)| *one == self).map_or("", |(name, _)| name)
    }
}

/// How a photo is resized. Sizes are in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// Its shorter edge becomes so long.
    ShortestEdge(usize),
    /// Exactly this width and height.
    Exact(usize, usize),
}

/// What is done to a photo's pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    /// The size before the crop.
    pub resize: Resize,
    /// Width and height that are cut from the centre.
    pub crop: Option<(usize, usize)>,
    /// The filter of the resize.
    pub interpolation: Interpolation,
    /// Of red, green and blue in 0 … 1.
    pub mean: [f64; 3],
    /// Of red, green and blue in 0 … 1.
    pub std: [f64; 3],
}

impl Preprocess {
    /// Read what bundle.json has.
    ///
    /// # Errors
    /// `BundleInvalid` where it is anything else, also for a field too many.
    pub fn from_json(value: &Value, place: &str) -> Result<Self> {
        let fields = Table::of(value, place, &["resize", "crop", "interpolation", "mean", "std"])?;
        let names: Vec<&str> = Interpolation::NAMES.iter().map(|(name, _)| *name).collect();
        let filter = json::choice(fields.get("interpolation"), &format!("{place}.interpolation"), &names)?;
        let crop = match fields.get("crop") {
            Value::Null => None,
            crop => Some(size(crop, &format!("{place}.crop"), &["width", "height"])?),
        };
        let found = Self {
            resize: resize(fields.get("resize"), &format!("{place}.resize"))?,
            crop,
            interpolation: Interpolation::named(filter).unwrap_or(Interpolation::Bilinear),
            mean: three(fields.get("mean"), &format!("{place}.mean"))?,
            std: three(fields.get("std"), &format!("{place}.std"))?,
        };
        found.check(place)?;
        Ok(found)
    }

    fn check(&self, place: &str) -> Result<()> {
        let (width, height) = match self.resize {
            Resize::Exact(width, height) => (width, height),
            Resize::ShortestEdge(size) => (size, size),
        };
        match (self.crop, self.resize) {
            (None, Resize::ShortestEdge(_)) => {
                return Err(Error::invalid("a shortest edge alone gives photos of different sizes").at(place));
            }
            (Some((across, down)), _) if across > width || down > height => {
                return Err(Error::invalid("the crop is larger than what it is cut from")
                    .at(place)
                    .expected(format!("at most {width} × {height}"))
                    .found(format!("{across} × {down}")));
            }
            _ => {}
        }
        if self.std.iter().any(|value| *value <= 0.0) {
            return Err(Error::invalid("std must be above 0").at(place));
        }
        if self.table().iter().flatten().any(|value| !value.is_finite()) {
            return Err(Error::invalid("mean and std give numbers beyond float32").at(place));
        }
        Ok(())
    }

    /// Width and height of the tensor, in pixels.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        match (self.crop, self.resize) {
            (Some(size), _) => size,
            (None, Resize::Exact(width, height)) => (width, height),
            (None, Resize::ShortestEdge(size)) => (size, size),
        }
    }

    /// Width and height that a photo has before the crop.
    #[must_use]
    pub fn resized_size(&self, width: usize, height: usize) -> (usize, usize) {
        match self.resize {
            Resize::Exact(width, height) => (width, height),
            Resize::ShortestEdge(size) if width <= height => (size, size * height / width),
            Resize::ShortestEdge(size) => (size * width / height, size),
        }
    }

    /// What each of the 256 values becomes in each channel, each step rounded to float32.
    #[must_use]
    pub fn table(&self) -> [[f32; 256]; 3] {
        let mut table = [[0.0; 256]; 3];
        for (channel, row) in table.iter_mut().enumerate() {
            let (mean, std) = (self.mean[channel] as f32, self.std[channel] as f32);
            for (value, entry) in row.iter_mut().enumerate() {
                *entry = (value as f32 / 255.0 - mean) / std;
            }
        }
        table
    }

    /// The tensor of resized and cropped pixels: channel by channel, row by row.
    #[must_use]
    pub fn normalise(&self, pixels: &Pixels) -> Vec<f32> {
        let mut tensor = vec![0.0; pixels.data().len()];
        self.normalise_into(pixels, &mut tensor);
        tensor
    }

    /// The same into `tensor`, which has as many values as `pixels` has.
    pub(crate) fn normalise_into(&self, pixels: &Pixels, tensor: &mut [f32]) {
        let table = self.table();
        let plane = pixels.width() * pixels.height();
        for (channel, values) in tensor.chunks_exact_mut(plane).enumerate() {
            let row = &table[channel];
            for (value, pixel) in values.iter_mut().zip(pixels.data().as_chunks::<3>().0) {
                *value = row[usize::from(pixel[channel])];
            }
        }
    }

    /// The JSON object that spec/preprocess.md describes.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let size = |(width, height): (usize, usize)| {
            vec![("width".to_owned(), width.into()), ("height".to_owned(), height.into())]
        };
        let resize = match self.resize {
            Resize::ShortestEdge(edge) => object([("kind", "shortest_edge".into()), ("size", edge.into())]),
            Resize::Exact(width, height) => {
                let mut pairs = vec![("kind".to_owned(), "exact".into())];
                pairs.extend(size((width, height)));
                Value::Object(pairs)
            }
        };
        object([
            ("resize", resize),
            ("crop", self.crop.map(|crop| Value::Object(size(crop))).into()),
            ("interpolation", self.interpolation.name().into()),
            ("mean", self.mean.to_vec().into()),
            ("std", self.std.to_vec().into()),
        ])
    }
}

fn resize(value: &Value, place: &str) -> Result<Resize> {
    match value.get("kind") {
        Some(Value::Text(kind)) if kind == "shortest_edge" => {
            let fields = Table::of(value, place, &["kind", "size"])?;
            Ok(Resize::ShortestEdge(json::whole(fields.get("size"), place, 1, MAX_SIZE)?))
        }
        Some(Value::Text(kind)) if kind == "exact" => {
            let (width, height) = size(value, place, &["kind", "width", "height"])?;
            Ok(Resize::Exact(width, height))
        }
        _ => Err(json::refused("a resize of no known kind", place, "shortest_edge or exact", value)),
    }
}

fn size(value: &Value, place: &str, keys: &[&str]) -> Result<(usize, usize)> {
    let fields = Table::of(value, place, keys)?;
    let side = |key| json::whole(fields.get(key), place, 1, MAX_SIZE);
    Ok((side("width")?, side("height")?))
}

fn three(value: &Value, place: &str) -> Result<[f64; 3]> {
    let numbers = json::each(value, place, 3, 3, json::any_number)?;
    Ok([numbers[0], numbers[1], numbers[2]])
}
