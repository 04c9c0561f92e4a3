//! The SHA-256 of the decoded pixels of each photo, and on stderr the seconds that decoding took.
use std::time::Instant;
use sha2::{Digest, Sha256};
fn main() {
    let mut total = 0.0;
    for path in std::env::args().skip(1) {
        let data = std::fs::read(&path).unwrap();
        let start = Instant::now();
        let found = samesight::images::decode(&data);
        total += start.elapsed().as_secs_f64();
        match found {
            Ok(pixels) => {
                let sum: String = Sha256::digest(pixels.data()).iter().map(|b| format!("{b:02x}")).collect();
                println!("{} {sum}", pixels.data().len());
            }
            Err(error) => println!("ERR {}", error.refusal().map_or("", |r| r.name())),
        }
    }
    eprintln!("{total:.3} s");
}
