//! Files that nobody meant to be read: whatever they hold, the answer is a picture or a refusal with a name.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use samesight::images::{decode, orientation};
use samesight::json::{Value, parse, write};

fn vectors() -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/files");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).filter(|data| data.len() > 20).collect()
}

/// Decode, and hold what comes out to its own words.
fn look(data: &[u8]) {
    assert!((1..=8).contains(&orientation(data)));
    match decode(data) {
        Ok(pixels) => assert_eq!(pixels.data().len(), pixels.width() * pixels.height() * 3),
        Err(error) => assert!(error.refusal().is_some(), "{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_picture_or_refused(head in 0_usize..7, rest in prop::collection::vec(any::<u8>(), 0..600)) {
        let heads: [&[u8]; 7] = [
            b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"RIFF\x10\0\0\0WEBPVP8 ", b"RIFF\xff\0\0\0WEBPVP8X",
            b"\xff\xd8\xff\xc0\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0", b"GIF89a",
        ];
        look(&[heads[head], &rest].concat());
    }

    #[test]
    fn spoilt_photos_are_a_picture_or_refused(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let files = vectors();
        let mut data = which.get(&files).clone();
        for (place, byte) in changes {
            let place = place.index(data.len());
            data[place] = byte;
        }
        if is_cut {
            data.truncate(cut.index(data.len()));
        }
        look(&data);
    }

    #[test]
    fn any_text_is_json_or_refused(text in "[\\[\\]{}:,\"\\\\a-fu0-9.eE+\\- tn]{0,60}") {
        if let Ok(value) = parse(text.as_bytes(), "here") {
            // A number of 17 digits may be written in fewer.
            if !matches!(value, Value::Number(_)) {
                prop_assert_eq!(parse(write(&value).as_bytes(), "here").unwrap(), value);
            }
        }
    }

    #[test]
    fn strings_survive(text in any::<String>()) {
        let value = Value::Text(text);
        let written = write(&value);
        prop_assert!(written.is_ascii());
        prop_assert_eq!(parse(written.as_bytes(), "here").unwrap(), value);
    }
}
