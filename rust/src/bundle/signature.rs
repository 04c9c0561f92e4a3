//! Ed25519 signatures: hashes tell accidents, only a signature by a known key tells attackers (spec/bundle.md).

use std::path::Path;

use ed25519_compact::{PublicKey, Signature};

use crate::errors::{Error, Kind, Result};
use crate::json::{Table, choice, formed, parse};

const PREFIX: &[u8] = b"samesight-bundle-signature-v1\n";
const PUBLIC: &str = "samesight-ed25519-public";
const MAX_KEY_BYTES: usize = 1024;

/// Nothing, where `signature` (bundle.sig) is that of `document` (bundle.json) by the key in the file `trust`.
///
/// # Errors
/// `SignatureError` where another key signed it or it does not fit, `BundleInvalid` where it is malformed,
/// `InputError` where `trust` is no public key.
pub fn check(document: &[u8], signature: &[u8], trust: &Path) -> Result<()> {
    let trusted = public_key(trust)?;
    let value = parse(signature, "bundle.sig")?;
    let fields = Table::of(&value, "bundle.sig", &["algorithm", "public_key", "signature"])?;
    choice(fields.get("algorithm"), "bundle.sig: algorithm", &["ed25519"])?;
    let word = |key, limit| {
        let form = format!("{limit} characters of base64");
        let text = formed(fields.get(key), &format!("bundle.sig: {key}"), limit, &form, |text| text.len() == limit)?;
        decoded(text).ok_or_else(|| Error::invalid("a string is not base64").at(format!("bundle.sig: {key}")))
    };
    let (signer, made) = (word("public_key", 44)?, word("signature", 88)?);
    if signer != trusted {
        return Err(
            Error::new(Kind::Signature, "the bundle is signed by another key than the trusted one").at("bundle.sig")
        );
    }
    let fits = || {
        let (key, made) = (PublicKey::from_slice(&trusted).ok()?, Signature::from_slice(&made).ok()?);
        key.verify([PREFIX, document].concat(), &made).ok()
    };
    fits().ok_or_else(|| {
        Error::new(Kind::Signature, "the signature does not fit: bundle.json or bundle.sig was changed after signing")
            .at("bundle.sig")
            .fix("fetch the bundle again from its author")
    })
}

/// The 32 bytes of a public key, whose file is one line.
fn public_key(path: &Path) -> Result<Vec<u8>> {
    let data =
        std::fs::read(path).map_err(|error| Error::input("cannot read a key").at(path.display()).found(error))?;
    let text = String::from_utf8_lossy(&data[..data.len().min(MAX_KEY_BYTES)]).into_owned();
    let mut words = text.split_whitespace();
    let key = match (words.next(), words.next(), words.next()) {
        (Some(PUBLIC), Some(key), None) => decoded(key).filter(|key| key.len() == 32),
        _ => None,
    };
    key.ok_or_else(|| {
        // Never the contents: the file may be a private key.
        Error::input("a file is not the kind of key that is needed")
            .at(path.display())
            .expected("a public key (KEY.pub)")
    })
}

/// The bytes of base64 with padding (RFC 4648).
fn decoded(text: &str) -> Option<Vec<u8>> {
    let stripped = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in stripped.bytes() {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn base64_is_read() {
        assert_eq!(decoded("TWFu").unwrap(), b"Man");
        assert_eq!(decoded("TWE=").unwrap(), b"Ma");
        assert_eq!(decoded("TQ==").unwrap(), b"M");
        assert!(decoded("TQ=").is_none());
        assert!(decoded("T*==").is_none());
    }
}
