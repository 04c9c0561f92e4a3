//! A photo through an ONNX file with ort, image and ndarray, as tutorials do: MODEL PHOTO LABELS.

use std::env;
use std::error::Error;
use std::fs;

use image::imageops::FilterType;
use ndarray::Array4;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::Tensor;

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = env::args().skip(1);
    let mut next = || words.next().ok_or("MODEL PHOTO LABELS");
    let (model, photo, labels) = (next()?, next()?, next()?);
    let environment = ort::init_from(env::var("ORT_DYLIB_PATH")?)?.build()?;
    let mut session = Session::builder(&environment)?
        .with_optimization_level(GraphOptimizationLevel::Level3)?
        .with_intra_threads(2)?
        .commit_from_file(model)?;
    let labels: serde_json::Value = serde_json::from_str(&fs::read_to_string(labels)?)?;
    let image = image::open(photo)?.resize_exact(224, 224, FilterType::Lanczos3).to_rgb8();
    let mut tensor = Array4::<f32>::zeros((1, 3, 224, 224));
    for (x, y, pixel) in image.enumerate_pixels() {
        for channel in 0..3 {
            let value = f32::from(pixel[channel]) / 255.0;
            tensor[[0, channel, y as usize, x as usize]] = (value - MEAN[channel]) / STD[channel];
        }
    }
    let outputs = session.run(ort::inputs![Tensor::from_array(tensor)?])?;
    let (_, logits) = outputs[0].try_extract_tensor::<f32>()?;
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|value| (value - most).exp()).collect();
    let best = (0..powers.len()).max_by(|one, other| powers[*one].total_cmp(&powers[*other])).ok_or("no logits")?;
    println!("{} {}", labels["int_to_class"][best.to_string()], powers[best] / powers.iter().sum::<f32>());
    Ok(())
}
